r"""A density ratio learned once drives ABC: data are compared by the likelihood functions that it says they have.

Any estimator of :mod:`implicit_estimators.ratio` learns :math:`r(\phi, s) = p(s \mid \phi) / p(s)` from pairs that were
simulated together against pairs that were not. At A anchors, parameters of other simulations, it gives each data set a
likelihood function,

.. math:: \ell(s) = \big( \log(1 + r(\phi_a, s)) \big)_{a = 1, \dots, A}, \qquad
    d(s, s_o) = \Big( \tfrac1A \sum_a (\ell_a(s) - \ell_a(s_o))^2 \Big)^{1/2},

which is a sufficient summary where the ratio is exact and the anchors are many. The logarithm of one plus the ratio is
flat where a parameter is all but excluded: how surely does not matter. Regression adjustment regresses on the first
principal components of :math:`\ell`.

References:
    | Likelihood-free inference by ratio estimation (Thomas et al., 2022)
    | https://arxiv.org/abs/1611.10242
    | Likelihood-free MCMC with amortized approximate ratio estimators (Hermans, Begy & Louppe, 2020)
    | https://arxiv.org/abs/1903.04057
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from implicit_estimators.ratio import RATIO_ESTIMATORS, RatioEstimator
from implicit_infer.abc.distances import Distance, Measure, inverse, robust_scale
from implicit_infer.abc.regression import squashed
from implicit_infer.blocks import not_finite
from implicit_simulators import Stream

ROWS = 2**17
"""Pairs of data and parameters that are evaluated at once."""


@dataclass(frozen=True)
class Learned(Distance):
    """Compare by the likelihood function that a density-ratio estimator gives each data set.

    Args:
        estimator: Name of a density-ratio estimator (``ii.ratio_methods()``).
        settings: Its settings, as keyword arguments.
        anchors: Parameters at which likelihoods are compared.
        components: The most principal components that regression adjustment regresses on.
        seed: Root of the random numbers.

    Raises:
        ValueError: If there is no estimator of that name, or a number is not positive.
    """

    learned: ClassVar[bool] = True

    estimator: str = "logistic"
    settings: Mapping[str, Any] = field(default_factory=dict)
    anchors: int = 64
    components: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.estimator not in RATIO_ESTIMATORS:
            raise ValueError(f"estimator: expected one of {', '.join(RATIO_ESTIMATORS)}; got {self.estimator!r}")
        for name in ("anchors", "components"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive int; got {getattr(self, name)}")

    def _fit(self, features: Tensor, theta: Tensor | None) -> Measure:
        if theta is None:
            raise ValueError("theta: a learned ratio needs parameters; fit was given none")
        if len(features) < 4:
            raise ValueError(f"features: expected at least four simulations to learn from; got {len(features)}")
        seed = Stream.of(self.seed, 0, "train").key
        generator = torch.Generator(features.device).manual_seed(seed)
        frames = [(part.median(0).values, inverse(robust_scale(part))) for part in (features, theta.to(features))]
        standard = [
            squashed((part - centre) * factor)
            for part, (centre, factor) in zip((features, theta.to(features)), frames, strict=True)
        ]
        # a half for each side, so that no data set is in both
        order = torch.randperm(len(features), generator=generator, device=features.device)
        together, apart = order.tensor_split(2)
        pairs = torch.cat([standard[1], standard[0]], dim=1)[together]
        mixed = torch.cat([standard[1][apart.roll(1)], standard[0][apart]], dim=1)
        ratio = RATIO_ESTIMATORS[self.estimator](**self.settings).fit(pairs, mixed, seed=seed, device=features.device)
        anchors = standard[1][order[: self.anchors]]
        profile = partial(_profile, Held(ratio), frames[0], anchors)
        some = profile(features[order[: 20 * self.anchors]])
        level = some.mean(0)
        most = min(self.components, *some.shape)
        axes = torch.linalg.svd(some - level, full_matrices=False).Vh[:most].T
        return Measure(partial(_far, profile), partial(_components, profile, level, axes))


class Held:
    """A fitted estimator as posteriors keep it: what it would write to a file of its own goes into theirs.

    Args:
        ratio: The estimator.
    """

    def __init__(self, ratio: RatioEstimator) -> None:
        self.ratio = ratio

    def _state(self) -> dict[str, Any]:
        tensors, config = self.ratio._pack()
        return {"name": self.ratio.name, "tensors": tensors, "config": config}

    def _of_state(self, state: dict[str, Any]) -> None:
        self.ratio = RATIO_ESTIMATORS[state["name"]]._unpack(dict(state["tensors"]), state["config"])


def _profile(held: Held, frame: tuple[Tensor, Tensor], anchors: Tensor, features: Tensor) -> Tensor:
    """Log of one plus the ratio of each data set at each anchor, (n, A); NaN where features are not finite."""
    centre, factor = frame
    found = features.new_full((len(features), len(anchors)), torch.nan)
    finite = (~not_finite(features)).nonzero()[:, 0]
    for part in finite.split(max(1, ROWS // len(anchors))):
        data = squashed((features[part] - centre) * factor)
        rows = torch.cat([anchors.repeat(len(part), 1), data.repeat_interleave(len(anchors), dim=0)], dim=1)
        found[part] = softplus(held.ratio.log_ratio(rows)).reshape(len(part), -1).to(found)
    return found


def _far(profile: partial[Tensor], features: Tensor, observed: Tensor) -> Tensor:
    return (profile(features) - profile(observed[None])).square().mean(1).sqrt()


def _components(profile: partial[Tensor], level: Tensor, axes: Tensor, features: Tensor) -> Tensor:
    return (profile(features) - level) @ axes
