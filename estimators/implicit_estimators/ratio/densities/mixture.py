r"""The ratio of two mixtures of normal densities: for samples in clusters, each set with as many as it asks for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_estimators.networks.train import Progress
from implicit_estimators.ratio.densities.coordinates import Coordinates, Tensors
from implicit_estimators.ratio.densities.gaussian import axes_of, shrinking_first
from implicit_estimators.ratio.densities.held_out import choose, folds
from implicit_estimators.ratio.densities.normal import SHRINKAGES, UNBIASED, Axes, Normal
from implicit_estimators.ratio.densities.plug_in import LogDensities, PlugInRatio
from implicit_estimators.seeds import stream

ROWS = 10
"""Rows for each component without which it is not tried."""


@dataclass(frozen=True)
class Mixture(Tensors):
    """A mixture of j normal densities of white rows, in float64.

    Attributes:
        log_weights: Logs of their shares, with shape (j,).
        means: Their means, with shape (j, k).
        factors: Factors of their precisions (see :class:`Normal`), with shape (j, k, k).
        log_determinants: Those of the factors, with shape (j,).
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor
    log_determinants: Tensor

    def log_density(self, w: Tensor) -> Tensor:
        """At w of shape (n, k), with shape (n,)."""
        constants = self.log_weights + self.log_determinants - 0.5 * w.shape[1] * math.log(2 * math.pi)
        squares = [((w - mean) @ factor).square().sum(1) for mean, factor in zip(self.means, self.factors, strict=True)]
        return (constants - 0.5 * torch.stack(squares, 1)).logsumexp(1)


class MixtureRatio(PlugInRatio):
    r"""The ratio of two fitted mixtures of normal densities.

    .. math:: \log r(x) = \log \sum_{i} \pi_i N(x; m_i, \Sigma_i) - \log \sum_{j} \rho_j N(x; \mu_j, T_j)

    by expectation maximisation (scikit-learn's ``GaussianMixture``, full covariances) for each set by itself. How many
    components a set has is chosen by the likelihood of a fifth of its rows that was held out, going up from one until
    two more do not help: the fewest that are not clearly worse than the best. One component is that of
    :class:`~implicit_estimators.ratio.densities.gaussian.GaussianRatio`.

    For clusters, and smooth densities in few columns, however far apart. In many columns every component has a
    covariance to learn, and more rows are needed. EM runs on the CPU.

    Args:
        components: How many components each of p and q has; chosen for each if None.
        most: The most to choose from.

    Raises:
        ValueError: If a number is not positive.

    References:
        | Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird and Rubin, 1977)
        | https://doi.org/10.1111/j.2517-6161.1977.tb01600.x
    """

    name = "mixture"

    def __init__(self, components: int | None = None, *, most: int = 10) -> None:
        for argument, value in (("components", components), ("most", most)):
            if value is not None and value < 1:
                raise ValueError(f"{argument}: expected a positive int; got {value}")
        self.components = components
        self.most = most

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        shrink = shrinking_first(p, q)[0]
        coordinates = Coordinates.fit(p, q)
        counts = [
            self.components or _count(coordinates(x), axes_of(coordinates, shrink), shrink, self.most, seed)
            for x in (p, q)
        ]
        self.chosen: tuple[int, int] = (counts[0], counts[1])
        if progress is not None:
            progress(1, {"components of p": counts[0], "components of q": counts[1]})

        def fit(p: Tensor, q: Tensor) -> _Two:
            coordinates = Coordinates.fit(p, q)
            axes = axes_of(coordinates, shrink)
            parts = [_fit_one(coordinates(x), axes, shrink, j, seed) for x, j in zip((p, q), counts, strict=True)]
            return _Two(coordinates, *parts)

        fits, masks = [], []
        for inside, outside in folds(p, q, seed):
            fits.append(fit(p[inside[0]], q[inside[1]]))
            masks.append(outside)
        log_densities: list[LogDensities] = [found.log_densities for found in fits]
        self._keep_held_out(p, q, masks, log_densities)
        self._two = fit(p, q)

    def _log_densities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._two.log_densities(x)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        two, tensors = self._two, self._held_out_state()
        for side, (normal, mixture) in (("p", two.p), ("q", two.q)):
            tensors |= normal.tensors(f"{side}.normal") | mixture.tensors(f"{side}.mixture")
        return tensors | two.coordinates.tensors("coordinates"), {"chosen": list(self.chosen)}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        self._restore_held_out(tensors)
        p, q = (
            (Normal.restore(tensors, f"{side}.normal"), Mixture.restore(tensors, f"{side}.mixture")) for side in "pq"
        )
        self._two = _Two(Coordinates.restore(tensors, "coordinates"), p, q)
        self.chosen = (rest["chosen"][0], rest["chosen"][1])


@dataclass(frozen=True)
class _Two:
    """Mixtures of p and q, each of rows that are whitened by a normal density of their own."""

    coordinates: Coordinates
    p: tuple[Normal, Mixture]
    q: tuple[Normal, Mixture]

    def log_densities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.coordinates(x)
        constant = self.coordinates.log_determinant
        log_p, log_q = (_log_density(side, u) + constant for side in (self.p, self.q))
        return log_p, log_q


def _log_density(side: tuple[Normal, Mixture], u: Tensor) -> Tensor:
    normal, mixture = side
    return mixture.log_density(normal.whiten(u)) + normal.log_determinant


def _count(rows: Tensor, axes: Sequence[Axes], shrink: bool, most: int, seed: int) -> int:
    """How many components a fifth of the rows asks for."""
    held_out = (torch.randperm(len(rows), generator=stream(seed, "subsample")) % 5 == 0).to(rows.device)
    inside, outside = rows[~held_out], rows[held_out]
    losses: list[Tensor] = []
    for j in range(1, 1 + (most if rows.shape[1] else 1)):
        if j > 1 and len(inside) < ROWS * j:
            break
        losses.append(-_log_density(_fit_one(inside, axes, shrink, j, seed), outside))
        means = [float(loss.mean()) for loss in losses]
        if len(means) > 2 and min(means[-2:]) > min(means[:-2]):
            break
    return 1 + choose(losses, errors=1)


def _fit_one(rows: Tensor, axes: Sequence[Axes], shrink: bool, components: int, seed: int) -> tuple[Normal, Mixture]:
    normal = Normal.fit(rows, axes, seed, SHRINKAGES if shrink else UNBIASED)
    columns = rows @ axes[0].back
    scale = columns.std(0, correction=0)
    columns = columns / torch.where(scale > 0, scale, 1)
    return normal, _mixture(normal.whiten(rows), columns, min(components, len(rows)), seed)


def _mixture(rows: Tensor, columns: Tensor, components: int, seed: int) -> Mixture:
    """Of white rows; clusters are first looked for in the columns, where they lie farther apart than in white rows."""
    k = rows.shape[1]
    like: dict[str, Any] = {"dtype": rows.dtype, "device": rows.device}
    if components == 1 or not k:
        one = torch.zeros(1, **like)
        return Mixture(one, torch.zeros(1, k, **like), torch.eye(k, **like)[None], one.clone())
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    state = stream(seed, "initialise").initial_seed() % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than clusters
        labels = torch.as_tensor(KMeans(components, n_init=3, random_state=state).fit_predict(columns.cpu().numpy()))
    shares, means, precisions = [], [], []
    for j in range(components):
        members = rows[labels.to(rows.device) == j]
        mean = members.mean(0) if len(members) else rows[j]
        # as if k more rows lay around it, as white as all are
        products = (members - mean).T @ (members - mean) + k * torch.eye(k, **like)
        shares.append((len(members) + 1) / (len(rows) + components))
        means.append(mean)
        precisions.append(torch.linalg.inv(products / (len(members) + k)))
    model = GaussianMixture(
        components,
        covariance_type="full",
        max_iter=200,
        random_state=state,
        weights_init=np.array(shares),
        means_init=torch.stack(means).cpu().numpy(),
        precisions_init=torch.stack(precisions).cpu().numpy(),
    )
    with warnings.catch_warnings():
        # fewer distinct rows than components, or a flat likelihood: held-out rows judge the result
        warnings.simplefilter("ignore")
        model.fit(rows.cpu().numpy())
    weights, centers, factors = (
        torch.as_tensor(value, **like) for value in (model.weights_, model.means_, model.precisions_cholesky_)
    )
    weights = weights.clamp(min=torch.finfo(weights.dtype).tiny)  # a component may die out
    return Mixture(weights.log(), centers, factors, factors.diagonal(dim1=1, dim2=2).log().sum(1))
