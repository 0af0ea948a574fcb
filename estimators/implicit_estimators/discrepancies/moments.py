r"""Distance of moments: how far apart the means of chosen features of two sample sets are. Nothing to train.

.. math:: M = \Delta^\top W \Delta, \quad \Delta = \mathbb{E}_p[\phi(x)] - \mathbb{E}_q[\phi(y)]

With the features that a scientist would report (means, variances, correlations, summaries of a simulation) this is
the method of simulated moments. It is blind to whatever the features do not tell. With the weights :math:`W =
\operatorname{Cov}[\phi]^{-1}` no feature counts twice for being correlated with another, or more for its units, and
the estimate of the features' coefficients is the one of least variance (Hansen, 1982).

References:
    | Large Sample Properties of Generalized Method of Moments Estimators (Hansen, 1982)
    | https://doi.org/10.2307/1912775
    | A Method of Simulated Moments for Estimation of Discrete Response Models (McFadden, 1989)
    | https://doi.org/10.2307/1913621
    | Learning in Implicit Generative Models (Mohamed and Lakshminarayanan, 2017), section 3.4
    | https://arxiv.org/abs/1610.03483
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from implicit_estimators.inputs import as_pair

Features = Callable[[Tensor], Tensor]
"""``features(x)`` of samples (n, d), with shape (n, k) or (n,); differentiable where the distance is descended."""


@dataclass(frozen=True)
class MomentDistance:
    r"""Squared distance of the means of features, with y as the reference.

    Args:
        features: A callable from samples (n, d) to features (n, k); or an int, for all products of up to that many
            columns (1: means; 2: variances and covariances too), after y's mean is taken off each column and it is
            divided by y's standard deviation, which count as fixed.
        weights: "equal" adds the squares of the differences; "optimal" weighs them by the inverse of the covariance
            of the features at y, which counts as fixed too. Directions in which features do not vary are left out.
        unbiased: Take off what chance alone contributes on average, :math:`\operatorname{tr}(W \operatorname{Cov}_p) /
            n + \operatorname{tr}(W \operatorname{Cov}_q) / m`: 0 on average where p = q, and so at times negative.

    Raises:
        TypeError: If ``features`` is neither an int nor a callable.
        ValueError: If it is an int below 1, or ``weights`` is unknown.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> MomentDistance(features=lambda x: x, unbiased=False).squared(x + 3, x)
        tensor(9.)
    """

    features: int | Features = 2
    weights: Literal["equal", "optimal"] = "equal"
    unbiased: bool = True

    name: ClassVar[str] = "moments"

    def __post_init__(self) -> None:
        if isinstance(self.features, int) and self.features < 1:
            raise ValueError(f"features: expected a degree of 1 or more, or a callable; got {self.features}")
        if not isinstance(self.features, int) and not callable(self.features):
            raise TypeError(f"features: expected a degree or a callable; got {type(self.features).__name__}")
        if self.weights not in ("equal", "optimal"):
            raise ValueError(f"weights: expected 'equal' or 'optimal'; got {self.weights!r}")

    def squared(self, x: Any, y: Any) -> Tensor:
        r"""The squared distance.

        With ``weights="optimal"`` and ``unbiased=False``, :math:`\frac{n m}{n + m} M` is approximately
        :math:`\chi^2_k` distributed where p = q: a test of k moments at once.

        Args:
            x: Samples with shape (n, d) or (n,): tensor, array or frame.
            y: The reference, with shape (m, d) or (m,).

        Returns:
            A scalar with the dtype of ``x``, differentiable in x.

        Raises:
            TypeError: If samples are not numeric.
            ValueError: If they are refused (see ``inputs.as_pair``), have fewer than 2 rows and ``unbiased`` or
                optimal weights are set, or the features have another shape than (n, k).
        """
        x, y = as_pair(x, y, ("x", "y"), rows=2 if self.unbiased or self.weights == "optimal" else 1)
        return self.unchecked(x, y.to(x))

    def unchecked(self, x: Tensor, y: Tensor) -> Tensor:
        """:meth:`squared` of samples that are known to be finite, with shapes (n, d) and (m, d)."""
        if isinstance(self.features, int):
            centre = y.detach().mean(0)
            spread = y.detach().std(0, correction=0)
            spread = torch.where(spread > 0, spread, 1)
            at_x, at_y = (products((samples - centre) / spread, self.features) for samples in (x, y))
        else:
            at_x, at_y = (_as_rows(self.features(samples), samples) for samples in (x, y))
        if self.weights == "optimal":
            root = _whitening(at_y.detach())
            at_x, at_y = at_x @ root, at_y @ root
        return mean_gap(at_x, at_y, self.unbiased)


def mean_gap(x: Tensor, y: Tensor, unbiased: bool) -> Tensor:
    """Squared distance of the means of two sets of features.

    Args:
        x: Features with shape (n, k).
        y: Features with shape (m, k).
        unbiased: Take off its mean under sampling, as the features' variances tell it.

    Returns:
        A scalar, differentiable in both.
    """
    gap = (x.mean(0) - y.mean(0)).square().sum()
    return gap - (x.var(0).sum() / len(x) + y.var(0).sum() / len(y)) if unbiased else gap


def products(samples: Tensor, degree: int) -> Tensor:
    r"""All products of 1 up to ``degree`` columns, a column as often as one likes.

    Args:
        samples: Numbers with shape (n, d).
        degree: The most factors.

    Returns:
        Products with shape (n, k), :math:`k = \binom{d + \text{degree}}{d} - 1`.
    """
    parts, firsts = [samples], torch.arange(samples.shape[1], device=samples.device)
    for _ in range(degree - 1):
        # each product is continued by its last factor and those after it, so that none comes twice
        blocks, lasts = [], []
        for column in range(samples.shape[1]):
            grown = parts[-1][:, firsts <= column]
            blocks.append(grown * samples[:, column : column + 1])
            lasts.append(firsts.new_full((grown.shape[1],), column))
        parts.append(torch.cat(blocks, 1))
        firsts = torch.cat(lasts)
    return torch.cat(parts, 1)


def _as_rows(values: Tensor, samples: Tensor) -> Tensor:
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or len(values) != len(samples):
        raise ValueError(f"features: expected shape ({len(samples)}, k); got {tuple(values.shape)}")
    return values


def _whitening(features: Tensor) -> Tensor:
    """A root of the pseudo-inverse of the features' covariance, with shape (k, k)."""
    covariance = features.double().T.cov().reshape(features.shape[1], features.shape[1])
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values.max() * len(values) * torch.finfo(features.dtype).eps
    scale = torch.where(kept, values.clamp(min=torch.finfo(torch.float64).tiny).rsqrt(), 0)
    return (vectors * scale).to(features.dtype)
