r"""How far a simulation is from the observation: many simulations against one observation, in one call.

A distance is *fitted* to simulations once, which fixes its scales, and then measures any number of others:

.. math:: d(x, x_o) = \left\| \frac{s(x) - s(x_o)}{\sigma} \right\|,

with the simulator's summary statistics s and a scale :math:`\sigma` of each. Scales are median absolute deviations
(MAD), which a few wild simulations cannot move. To add a distance, copy ``Mahalanobis``.

References:
    | ABC in the 2010s, section on scaling summaries: Adapting the ABC distance function (Prangle, 2017)
    | https://arxiv.org/abs/1507.00874
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from implicit_infer.blocks import not_finite
from implicit_simulators import Simulator

Far = Callable[[Tensor, Tensor], Tensor]
"""From features (n, k) of simulations and (k,) of the observation to distances (n,)."""

MAD_TO_SD = 1.4826
MEAN_DEVIATION_TO_SD = 1.2533


def as_they_are(features: Tensor) -> Tensor:
    """The features themselves."""
    return features


@dataclass(frozen=True)
class Measure:
    """A fitted distance.

    Attributes:
        far: Distances (n,) of features (n, k) from those of the observation (k,); NaN where there is none.
        regressors: What regression adjustment regresses on, (n, r), given features (n, k): the features, where they are
            summaries; less, where they are whole data sets or where summaries are learned.
    """

    far: Far
    regressors: Callable[[Tensor], Tensor] = as_they_are

    def __call__(self, features: Tensor, observed: Tensor) -> Tensor:
        """Distances (n,); infinity where they are not numbers."""
        return self.far(features, observed).nan_to_num(nan=torch.inf, posinf=torch.inf)


class Distance:
    """A family of distances. Children are frozen dataclasses of their settings and write ``_fit``.

    Attributes:
        learned: Whether ``fit`` needs theta.
    """

    learned: ClassVar[bool] = False

    def features(self, simulator: Simulator, x: Tensor) -> Tensor:
        r"""What is compared: the summary statistics of x with shape (n, \*event_shape), as (n, k).

        Rows of simulations that failed are NaN; ``summarize`` never sees them.

        Raises:
            ValueError: If ``summarize`` returns something that is not one row per simulation.
        """
        valid = ~not_finite(x)
        # where all failed, a row of ones tells how many summaries there are
        finite = x[valid] if valid.any() else torch.ones_like(x[:1])
        summaries = simulator.summarize(finite)
        if summaries.ndim != 2 or len(summaries) != len(finite):
            raise ValueError(
                f"{simulator.name}: expected summarize(x) of shape ({len(finite)}, k); got {tuple(summaries.shape)}"
            )
        features = summaries.new_full((len(x), summaries.shape[1]), torch.nan)
        if valid.any():
            features[valid] = summaries
        return features

    def fit(self, features: Tensor, theta: Tensor | None = None) -> Measure:
        """Fix the scales on simulations; the measure gives infinity where features are not finite.

        It may be called again with other simulations, as in each generation of a sequential method; what it gave before
        stays as it was.

        Args:
            features: Of simulations, with shape (n, k).
            theta: Their parameters in unconstrained space, with shape (n, d); learned summaries need them.

        Raises:
            ValueError: If no row is finite, or the distance is learned and there is no theta.
        """
        finite = ~not_finite(features)
        valid = features[finite]
        if len(valid) == 0:
            raise ValueError(f"distance: none of {len(features)} simulations has finite summaries")
        return self._fit(valid, None if theta is None else theta[finite])

    def _fit(self, features: Tensor, theta: Tensor | None) -> Measure:
        raise NotImplementedError(f"{type(self).__name__} must write _fit(features, theta)")


@dataclass(frozen=True)
class PNorm(Distance):
    r"""Scaled p-norm; p = 2, the scaled Euclidean distance, is what ABC uses most.

    .. math:: d = \Big( \sum_j w_j \left| \tfrac{s_j(x) - s_j(x_o)}{\sigma_j} \right|^p \Big)^{1/p}

    Args:
        p: The power, at least 1.
        weights: Weight of each summary, or None for one each.

    Raises:
        ValueError: If ``p`` is below 1, or weights are negative or of another number than the summaries.
    """

    p: float = 2.0
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.p >= 1:
            raise ValueError(f"p: expected a number of at least 1; got {self.p}")
        if self.weights is not None and not all(0 <= weight < torch.inf for weight in self.weights):
            raise ValueError(f"weights: expected non-negative numbers; got {self.weights}")

    def _fit(self, features: Tensor, theta: Tensor | None) -> Measure:
        factor = inverse(robust_scale(features))
        if self.weights is not None:
            if len(self.weights) != features.shape[1]:
                raise ValueError(f"weights: expected {features.shape[1]}, one per summary; got {len(self.weights)}")
            factor = factor * features.new_tensor(self.weights) ** (1 / self.p)
        return Measure(partial(_norm, factor, self.p))


@dataclass(frozen=True)
class Mahalanobis(Distance):
    r"""Distance that allows for correlated summaries.

    .. math:: d = \sqrt{(s(x) - s(x_o))^\top \Sigma^{-1} (s(x) - s(x_o))}

    :math:`\Sigma` is the covariance of the simulated summaries, each first divided by its robust scale and clipped
    ten scales from its median, so that no single simulation decides it; directions that do not vary are left out.
    """

    def _fit(self, features: Tensor, theta: Tensor | None) -> Measure:
        factor = inverse(robust_scale(features))
        standard = ((features - features.median(0).values) * factor).clamp(-10, 10).double()
        values, vectors = torch.linalg.eigh(torch.atleast_2d(standard.T.cov()))
        varies = values > 1e-10 * values.max()
        whiten = (vectors[:, varies] / values[varies].sqrt()).to(features.dtype)
        return Measure(partial(_whitened_norm, factor, whiten))


def robust_scale(features: Tensor) -> Tensor:
    """Scale of each column of finite features (n, k), with shape (k,): the standard deviation if it is normal.

    The median absolute deviation. Where that is zero because most values are equal (counts that are mostly zero), the
    mean absolute deviation from the median. A column that is constant has scale 0.
    """
    columns = features.T.contiguous()
    deviations = (columns - columns.median(1, keepdim=True).values).abs()
    mad = deviations.median(1).values
    return torch.where(mad > 0, MAD_TO_SD * mad, MEAN_DEVIATION_TO_SD * deviations.mean(1))


def inverse(scale: Tensor) -> Tensor:
    """One over the scale; 0 where the scale is 0, so that a summary that does not vary cannot count."""
    return torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))


def _norm(factor: Tensor, p: float, features: Tensor, observed: Tensor) -> Tensor:
    return torch.linalg.vector_norm((features - observed) * factor, p, dim=1)


def _whitened_norm(factor: Tensor, whiten: Tensor, features: Tensor, observed: Tensor) -> Tensor:
    return torch.linalg.vector_norm(((features - observed) * factor) @ whiten, dim=1)
