r"""The ratio of two normal densities: exact where p and q are normal, at the cost of a few matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.densities.coordinates import Coordinates
from implicit_estimators.ratio.densities.held_out import LARGE, choose, folds, log_losses
from implicit_estimators.ratio.densities.normal import SHRINKAGES, UNBIASED, Axes, Normal
from implicit_estimators.ratio.densities.plug_in import PlugInRatio


@dataclass(frozen=True)
class TwoNormals:
    """Normal densities of p and q, in coordinates that suit both.

    Attributes:
        coordinates: Where both are normal.
        p: The density of p there.
        q: The density of q there.
    """

    coordinates: Coordinates
    p: Normal
    q: Normal

    @classmethod
    def fit(cls, p: Tensor, q: Tensor, seed: int, shrink: bool) -> TwoNormals:
        """Fit to samples of p, with shape (n, d), and q, with shape (m, d)."""
        coordinates = Coordinates.fit(p, q)
        axes = axes_of(coordinates, shrink)
        shrinkages = SHRINKAGES if shrink else UNBIASED
        return cls(coordinates, *(Normal.fit(coordinates(x), axes, seed, shrinkages) for x in (p, q)))

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log p and log q at x, in float64."""
        u = self.coordinates(x)
        constant = self.coordinates.log_determinant
        return self.p.log_density(u) + constant, self.q.log_density(u) + constant

    def log_ratio(self, x: Tensor) -> Tensor:
        """Log p - log q at x, in float64."""
        u = self.coordinates(x)
        return self.p.log_density(u) - self.q.log_density(u)

    def tensors(self) -> dict[str, Tensor]:
        """What :meth:`restore` makes it from."""
        return self.coordinates.tensors("coordinates") | self.p.tensors("p") | self.q.tensors("q")

    @classmethod
    def restore(cls, tensors: dict[str, Tensor]) -> Self:
        """From :meth:`tensors`."""
        return cls(
            Coordinates.restore(tensors, "coordinates"), Normal.restore(tensors, "p"), Normal.restore(tensors, "q")
        )


class GaussianRatio(PlugInRatio):
    r"""The ratio of two fitted normal densities (quadratic discriminant analysis).

    .. math:: \log r(x) = \tfrac12 (x - m_q)^\top \Sigma_q^{-1} (x - m_q)
        - \tfrac12 (x - m_p)^\top \Sigma_p^{-1} (x - m_p) + \tfrac12 \log \frac{|\Sigma_q|}{|\Sigma_p|}

    The means and covariances are those of the samples, with the unbiased estimate of the precisions. Where p and q are
    much alike or rows are few, what the precisions pick up of noise is more than what is to be found: then each
    covariance is drawn towards a diagonal, as far as its likelihood on held-out rows asks for. In float64 throughout:
    a p a million times narrower than q is no difficulty.

    The right choice if both sets are normal, however far apart; wrong in the tails otherwise: see
    :class:`~implicit_estimators.ratio.densities.quadratic.QuadraticRatio`, which corrects it, and
    :class:`~implicit_estimators.ratio.densities.mixture.MixtureRatio`.

    Args:
        shrink: Whether to shrink the covariances; by the log loss of held-out rows if None.

    References:
        | Regularized Discriminant Analysis (Friedman, 1989)
        | https://doi.org/10.1080/01621459.1989.10478752

    Example:
        >>> p = 1e-6 * torch.randn(5000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> q = torch.randn(5000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        >>> ratio = GaussianRatio().fit(p, q, seed=0)
        >>> (ratio.log_ratio([0.0]) - 13.816).abs() < 0.1  # log 10^6
        tensor([True])
    """

    name = "gaussian"

    def __init__(self, shrink: bool | None = None) -> None:
        self.shrink = shrink

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        options = shrinking_first(p, q) if self.shrink is None else (self.shrink,)
        parts = list(folds(p, q, seed))
        learning = [(p[inside[0]], q[inside[1]]) for inside, _ in parts]
        tests = [(p[outside[0]], q[outside[1]]) for _, outside in parts]
        few = 1 if (len(p) + len(q)) * p.shape[1] ** 2 > LARGE else len(parts)
        fits = [[TwoNormals.fit(*rows, seed, shrink) for rows in learning[:few]] for shrink in options]
        chosen = choose([log_losses([normals.log_ratio for normals in fit], tests[:few]) for fit in fits])
        fitted = fits[chosen] + [TwoNormals.fit(*rows, seed, options[chosen]) for rows in learning[few:]]
        self._keep_held_out(p, q, [outside for _, outside in parts], fitted)
        self._normals = TwoNormals.fit(p, q, seed, options[chosen])

    def _log_densities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._normals(x)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._normals.tensors() | self._held_out_state(), {}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        self._restore_held_out(tensors)
        self._normals = TwoNormals.restore(tensors)


def shrinking_first(p: Tensor, q: Tensor) -> tuple[bool, bool]:
    """Whether to shrink, the better guess first: an unbiased precision needs rows enough."""
    few = min(len(p), len(q)) < 2 * (p.shape[1] + 2)
    return few, not few


def axes_of(coordinates: Coordinates, shrink: bool) -> list[Axes]:
    """The columns of the samples, and, if there is a choice to be made, the principal axes of p and q together."""
    matrix, variance = coordinates.matrix, coordinates.variance
    back = matrix.T / matrix.square().sum(0)[:, None]  # the columns of the matrix are orthogonal
    columns = Axes(back, matrix, variance @ back.square())
    principal = torch.eye(len(variance), dtype=matrix.dtype, device=matrix.device)
    return [columns, Axes(principal, principal, variance)][: 2 if shrink else 1]
