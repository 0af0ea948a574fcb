r"""A normal density from few samples: the covariance drawn towards its diagonal as far as held-out rows ask for.

.. math:: \hat\Sigma(s) = (1 - s) \frac{\sum_i (x_i - \bar x)(x_i - \bar x)^\top}{n - k - 2} + s D

with D the diagonal of sample variances. The divisor makes the *precision* unbiased (that of an inverse Wishart), for
it is the precision that a log-ratio is made of: with the usual n - 1, log-ratios far from the mean are too large by
the share (k + 1) / n. Given the eigenvectors of the scaled covariance, the likelihood of held-out rows costs O(k) for
each s, so s is chosen by cross-validation.

References:
    | Regularized Discriminant Analysis (Friedman, 1989)
    | https://doi.org/10.1080/01621459.1989.10478752
    | The Incredible Shrinking Covariance Estimator (Theiler, 2012), for s by held-out likelihood
    | https://doi.org/10.1117/12.918718
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.ratio.densities.coordinates import Tensors
from implicit_estimators.seeds import stream

SHRINKAGES = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
"""The s to choose from."""
UNBIASED = (0.0,)
"""No shrinkage at all, except where the covariance is singular."""
SINGULAR = 1e-13
"""Eigenvalue of a correlation matrix, for each of its columns, that is rounding and no variance."""
FOLDS = 5


@dataclass(frozen=True)
class Axes:
    """Axes along which a covariance may be diagonal, with coordinates v of their own.

    Attributes:
        back: From u to v, with shape (k, j): v = u back.
        forth: From v to u, with shape (j, k).
        variance: The variance to fall back on where all rows have one v, with shape (j,); such an axis is given a
            1/(n + 1) of it, as if one more row had come from there.
    """

    back: Tensor
    forth: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Normal(Tensors):
    r"""The density of :math:`N(m, (A A^\top)^{-1})`, in float64.

    Attributes:
        mean: m, with shape (k,).
        factor: A, with shape (k, k); :math:`A^\top (u - m)` is standard normal.
        log_determinant: Log of the determinant of A, with shape ().
        shrinkage: The s that was chosen, with shape ().
    """

    mean: Tensor
    factor: Tensor
    log_determinant: Tensor
    shrinkage: Tensor

    @classmethod
    def fit(cls, rows: Tensor, axes: Sequence[Axes], seed: int, shrinkages: Sequence[float] = SHRINKAGES) -> Normal:
        """Fit to ``rows`` with shape (n, k).

        Args:
            rows: Samples, in float64.
            axes: The axes along which the covariance may be drawn to its diagonal; held-out rows choose.
            seed: Seed of the folds.
            shrinkages: The s to choose from; where the covariance is singular, not less than 1/(n + 1).
        """
        n = len(rows)
        mean = rows.mean(0)
        centered = rows - mean  # moments of few digits if the rows lie far from 0
        folds = min(FOLDS, n)
        place = (torch.randperm(n, generator=stream(seed, "split")) % folds).to(rows.device)
        parts = [centered[place == fold] for fold in range(folds)]
        sums, products = [part.sum(0) for part in parts], [part.T @ part for part in parts]
        total = torch.stack(products).sum(0)
        best = None
        for chosen in axes:
            root, values, vectors = _scaled_eigen(total, n, chosen)
            weights = torch.tensor(shrinkages, dtype=torch.float64, device=rows.device)
            if values.numel() and float(values.min()) < SINGULAR * len(values):
                least = 1 / (n + 1)
                weights = torch.cat([weights.new_tensor([least]), weights[weights > least]])
            scores = torch.zeros_like(weights)
            for part, part_sum, product in zip(parts, sums, products, strict=True):
                scores += _held_out(n, len(part), part_sum, product, total, chosen, weights)
            score, index = scores.max(0)
            if best is None or score > best[0]:
                best = score, weights[index], root, values, vectors
        assert best is not None
        _, shrinkage, root, values, vectors = best
        spread = torch.lerp(values, torch.ones_like(values), shrinkage)
        factor = torch.linalg.solve_triangular(root.T, vectors, upper=True) / spread.sqrt()
        return cls(mean, factor, -root.diagonal().log().sum() - 0.5 * spread.log().sum(), shrinkage)

    def whiten(self, u: Tensor) -> Tensor:
        """What is standard normal if u is of this law, with the shape (n, k) of u."""
        return (u - self.mean) @ self.factor

    def log_density(self, u: Tensor) -> Tensor:
        """At u of shape (n, k), with shape (n,)."""
        constant = self.log_determinant - 0.5 * len(self.mean) * math.log(2 * math.pi)
        return constant - 0.5 * self.whiten(u).square().sum(1)


def _scaled_eigen(products: Tensor, n: int, axes: Axes) -> tuple[Tensor, Tensor, Tensor]:
    """Cholesky factor of the diagonal covariance, and eigenvalues and eigenvectors of the covariance in its units."""
    k = len(products)
    squares = (axes.back * (products @ axes.back)).sum(0) / max(n - 3, n / 2, 1)
    constant = squares <= SINGULAR * SINGULAR * axes.variance
    diagonal = torch.where(constant, axes.variance / (n + 1), squares)
    # by QR, which takes what squares would lose
    root = torch.linalg.qr(diagonal.sqrt()[:, None] * axes.forth).R.T
    root = root * root.diagonal().sign()
    added = (axes.forth.T * (diagonal * constant)) @ axes.forth
    half = torch.linalg.solve_triangular(root, products / max(n - k - 2, n / 2, 1) + added, upper=False)
    values, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, half.T, upper=False))
    return root, values.clamp(min=0), vectors


def _held_out(
    n: int, n_out: int, sums: Tensor, products: Tensor, total: Tensor, axes: Axes, shrinkages: Tensor
) -> Tensor:
    """Log-likelihood, less a constant, of the rows of one fold given all others, for each s."""
    n_in = n - n_out
    mean_in = -sums / max(n_in, 1)  # rows were centred
    inside = total - products - n_in * torch.outer(mean_in, mean_in)
    root, values, vectors = _scaled_eigen(inside, n_in, axes)
    cross = torch.outer(mean_in, sums)
    outside = products - cross - cross.T + n_out * torch.outer(mean_in, mean_in)
    basis = torch.linalg.solve_triangular(root.T, vectors, upper=True)
    squares = (basis * (outside @ basis)).sum(0)
    spread = (1 - shrinkages[:, None]) * values + shrinkages[:, None]
    usable = (spread > SINGULAR * len(values)).all(1)
    spread = spread.clamp(min=SINGULAR)
    score = -0.5 * (n_out * spread.log().sum(1) + (squares / spread).sum(1)) - n_out * root.diagonal().log().sum()
    return torch.where(usable, score, -torch.inf)
