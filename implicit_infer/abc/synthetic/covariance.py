r"""Correlation matrices from few simulations, for many sets of simulations in one call.

Of m simulations of k summaries the sample correlation is noisy and, for :math:`m \le k`, singular. Each class here
makes a better matrix of it. To add one, copy ``Ridge``.

References:
    | Accelerating Bayesian synthetic likelihood with the graphical lasso (An, South, Nott & Drovandi, 2019)
    | https://doi.org/10.1080/10618600.2018.1537928
    | Penalized normal likelihood and ridge regularization of correlation matrices (Warton, 2008)
    | https://doi.org/10.1198/016214508000000021
    | A shrinkage approach to large-scale covariance matrix estimation (Schäfer & Strimmer, 2005)
    | https://doi.org/10.2202/1544-6115.1175
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

JITTER = 1e-10
"""Added to the diagonal of every correlation matrix."""


class Shrinkage:
    """What is made of a sample correlation matrix. Children write ``_shrink``."""

    def __call__(self, z: Tensor, valid: Tensor) -> Tensor:
        """Correlation matrices of standardised rows.

        Args:
            z: Rows with mean zero and variance one in each set, with shape (n, m, k); zero where not valid.
            valid: Which rows count, with shape (n, m) and dtype bool.

        Returns:
            Matrices with shape (n, k, k) and ones on the diagonal.
        """
        r = z.mT @ z / (valid.sum(1) - 1).clamp_min(1)[:, None, None]
        eye = torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
        # one exactly, whatever the rounding, and where a column does not vary
        r = torch.where(eye.bool(), eye, r)
        return self._shrink(r, z, valid) + JITTER * eye

    def _shrink(self, r: Tensor, z: Tensor, valid: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must write _shrink")


@dataclass(frozen=True)
class Sample(Shrinkage):
    """The sample correlation as it is."""

    def _shrink(self, r: Tensor, z: Tensor, valid: Tensor) -> Tensor:
        return r


@dataclass(frozen=True)
class Ridge(Shrinkage):
    r"""Towards independence by a fixed share (Warton, 2008; in synthetic likelihood: An et al., 2019).

    .. math:: \hat R_\gamma = \gamma \hat R + (1 - \gamma) I

    Args:
        gamma: What is kept of the correlations, in [0, 1]; 1 shrinks nothing.

    Raises:
        ValueError: If ``gamma`` is outside [0, 1].
    """

    gamma: float

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma: expected a number in [0, 1]; got {self.gamma}")

    def _shrink(self, r: Tensor, z: Tensor, valid: Tensor) -> Tensor:
        return self.gamma * r + (1 - self.gamma) * torch.eye(r.shape[-1], dtype=r.dtype, device=r.device)


@dataclass(frozen=True)
class Optimal(Shrinkage):
    r"""Towards independence by the share that minimises the expected squared error (Schäfer & Strimmer, 2005).

    .. math:: r_{ij}^* = (1 - \lambda) r_{ij}, \qquad
        \lambda = \min\left(1, \frac{\sum_{i \ne j} \widehat{\operatorname{Var}}(r_{ij})}{\sum_{i \ne j} r_{ij}^2}
        \right)

    It vanishes with many simulations.
    """

    def _shrink(self, r: Tensor, z: Tensor, valid: Tensor) -> Tensor:
        k = r.shape[-1]
        if k == 1:
            return r
        n = valid.sum(1).to(z.dtype)
        # of products z_i z_j: the sum of squares about the mean, without all products being held at once
        squares = z.square()
        spread = squares.mT @ squares - (z.mT @ z).square() / n[:, None, None]
        spread = spread * (n / (n - 1).clamp_min(1) ** 3)[:, None, None]
        apart = ~torch.eye(k, dtype=torch.bool, device=r.device)
        share = spread[:, apart].sum(1) / r[:, apart].square().sum(1).clamp_min(1e-300)
        share = share.clamp(0, 1)[:, None, None]
        return torch.where(apart, (1 - share) * r, r)


@dataclass(frozen=True)
class GraphicalLasso(Shrinkage):
    r"""A correlation matrix whose inverse is sparse (Friedman et al., 2008; in synthetic likelihood: An et al., 2019).

    .. math:: \hat R^{-1} = \arg\max_\Theta \; \log\det\Theta - \operatorname{tr}(\hat R \Theta)
        - \rho \sum_{i \ne j} |\Theta_{ij}|

    By scikit-learn, one matrix after the other: much slower than the rest. A matrix on which it fails becomes NaN,
    which no likelihood survives.

    Args:
        penalty: :math:`\rho`, positive.

    Raises:
        ValueError: If ``penalty`` is not positive.
    """

    penalty: float

    def __post_init__(self) -> None:
        if not self.penalty > 0:
            raise ValueError(f"penalty: expected a positive number; got {self.penalty}")

    def _shrink(self, r: Tensor, z: Tensor, valid: Tensor) -> Tensor:
        import warnings

        from sklearn.covariance import graphical_lasso
        from sklearn.exceptions import ConvergenceWarning

        if r.shape[-1] == 1:
            return r
        made = torch.full_like(r, torch.nan)
        for i, one in enumerate(r):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                try:
                    sparse, _ = graphical_lasso(one.cpu().numpy(), alpha=self.penalty, max_iter=200)
                except (FloatingPointError, ValueError):
                    continue
            made[i] = torch.as_tensor(sparse, dtype=r.dtype)
        return made


def standardised(summaries: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means and scales of sets of simulations, of which some may have failed.

    Args:
        summaries: With shape (n, m, k); rows that are not finite do not count.

    Returns:
        Standardised rows z (n, m, k), zero where not valid; which are valid (n, m); means (n, k); and standard
        deviations (n, k) with a tiny floor, so that a summary that does not vary can be divided by.
    """
    summaries = summaries.double()
    valid = torch.isfinite(summaries).all(2)
    count = valid.sum(1).clamp_min(1)[:, None]
    rows = torch.where(valid[..., None], summaries, 0.0)
    mean = rows.sum(1) / count
    centred = torch.where(valid[..., None], rows - mean[:, None], 0.0)
    variance = centred.square().sum(1) / (count - 1).clamp_min(1)
    scale = (variance + 1e-12 * rows.square().sum(1) / count + 1e-300).sqrt()
    return centred / scale[:, None], valid, mean, scale
