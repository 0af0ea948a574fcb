r"""A classifier learned once for all pairs of data sets: one network tells the points of any two sets apart.

The network sees one point z and what *other* points of two sets a and b look like, and gives the log-odds that z is
of a. It is trained on pairs of simulated sets with the logistic loss,

.. math:: \mathbb{E}\left[ \log(1 + e^{-h(z_a; a', b')}) + \log(1 + e^{h(z_b; a', b')}) \right],

with a', b' octiles of the half of each set that z is not in. At its optimum h is the log-ratio of the two laws as far
as those octiles tell them. The observation is then set against each simulation with no further training, its points
scored by what the *other halves* say: held out by construction.

References:
    | Likelihood-free inference via classification (Gutmann, Dutta, Kaski & Corander, 2018)
    | https://doi.org/10.1007/s11222-017-9738-6
    | Approximate Bayesian computation via classification (Wang, Kaji & Ročková, 2022)
    | https://arxiv.org/abs/2111.11507
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from implicit_estimators.networks.mlp import MLP
from implicit_infer.abc.discrepancies.base import (
    HELD,
    OCTILES,
    SetDistance,
    _quantiles,
    as_sets,
    frame,
    split_rows,
)
from implicit_infer.abc.discrepancies.classifier import Score, scored
from implicit_infer.abc.distances import Measure, robust_scale
from implicit_infer.blocks import not_finite
from implicit_simulators import Stream

SHOWN = 16
"""Points of each set in a training step."""

PAIRS = 64
"""Pairs of sets in a training step."""

WILDEST = 1e4
"""Robust standard deviations that points are cut off at, before their logarithm is taken."""


@dataclass(frozen=True)
class AmortisedClassifier(SetDistance):
    """Held-out score of one network that was trained on pairs of simulated sets.

    Args:
        score: "accuracy", "log-ratio" or "jensen-shannon", as of ``Classifier``.
        hidden: Widths of the network's hidden layers.
        steps: Training steps.
        learning_rate: Of Adam at the start; it falls to 0 by a cosine.
        near: Share of the training pairs that are neighbours in the order of their octiles: unlike pairs are told apart
            easily, and teach nothing that matters near the observation.
        seed: Root of the random numbers.

    Raises:
        ValueError: If a setting is out of its range, or there are fewer than two simulations.
    """

    score: Score = "jensen-shannon"
    hidden: tuple[int, ...] = (64, 64)
    steps: int = 600
    learning_rate: float = 2e-3
    near: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in ("accuracy", "log-ratio", "jensen-shannon"):
            raise ValueError(f"score: expected 'accuracy', 'log-ratio' or 'jensen-shannon'; got {self.score!r}")
        if self.steps < 1 or not self.learning_rate > 0:
            raise ValueError(f"steps, learning_rate: expected positive numbers; got {self.steps}, {self.learning_rate}")
        if not 0 <= self.near <= 1:
            raise ValueError(f"near: expected a number in [0, 1]; got {self.near}")

    def _fit(self, features: Tensor, theta: Tensor | None) -> Measure:
        if len(features) < 2:
            raise ValueError(f"features: expected at least two simulations to learn from; got {len(features)}")
        sets = as_sets(features)
        spread = robust_scale(sets[: max(1, HELD // features.shape[1])].flatten(0, 1))
        network = self._trained(sets, spread)
        return Measure(partial(self._apart, network, spread), partial(_quantiles, spread))

    def _trained(self, sets: Tensor, spread: Tensor) -> nn.Module:
        (count, m, p), device = sets.shape, sets.device
        seed = Stream.of(self.seed, 0, "train").key
        generator = torch.Generator(device).manual_seed(seed)
        network = MLP(p + 2 * p * len(OCTILES), 1, self.hidden, seed=seed).to(device)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        half = split_rows(m, 2, self.seed, device, contiguous=self.lags is not None)
        first, second = (half == 0).nonzero()[:, 0], (half == 1).nonzero()[:, 0]
        order = sets[:, :, torch.randint(p, (), generator=generator, device=device)].median(1).values.argsort()
        for step in range(self.steps):
            optimiser.param_groups[0]["lr"] = self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            a = torch.randint(count, (PAIRS,), generator=generator, device=device)
            b = torch.randint(count, (PAIRS,), generator=generator, device=device)
            close = torch.rand(PAIRS, generator=generator, device=device) < self.near
            apart = torch.randint(1, max(2, count // 20), (PAIRS,), generator=generator, device=device)
            b = torch.where(close, (a + apart) % count, b)
            pair = sets[order[a]], sets[order[b]]
            some = second[torch.randint(len(second), (SHOWN,), generator=generator, device=device)]
            at_a, at_b = _log_odds(network, spread, (pair[0][:, first], pair[1][:, first]), [x[:, some] for x in pair])
            loss = (softplus(-at_a) + softplus(at_b)).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return network.requires_grad_(False).eval()

    def _apart(self, network: nn.Module, spread: Tensor, features: Tensor, observed: Tensor) -> Tensor:
        target = as_sets(observed[None])[0]
        half = split_rows(len(target), 2, self.seed, target.device, contiguous=self.lags is not None)
        distances = features.new_full((len(features),), torch.inf)
        finite = (~not_finite(features)).nonzero()[:, 0]
        widest = max((target.shape[1] * (1 + 2 * len(OCTILES)), *self.hidden))
        for part in finite.split(max(1, HELD // (len(target) * widest))):
            sets = as_sets(features[part])
            ours = target.expand(len(sets), -1, -1)
            total = sets.new_zeros(len(sets))
            for side in (0, 1):
                seen, aside = half == side, half != side
                # the observation comes second: its half gives the units
                at_drawn, at_observed = _log_odds(
                    network, spread, (sets[:, seen], ours[:, seen]), [sets[:, aside], ours[:, aside]]
                )
                total += scored(-at_observed, -at_drawn, self.score) / 2
            distances[part] = total
        return distances


def _log_odds(network: nn.Module, spread: Tensor, known: tuple[Tensor, Tensor], points: list[Tensor]) -> list[Tensor]:
    """Log-odds that points (b, h, p) are of the first of two sets, of which (b, n, p) each are known; (b, h) each."""
    frames = [frame(one, spread) for one in known[1]]
    centre, scale = (torch.stack(part)[:, None] for part in zip(*frames, strict=True))

    def standard(values: Tensor) -> Tensor:
        return ((values - centre) / scale).clamp(-WILDEST, WILDEST).asinh()

    levels = torch.tensor(OCTILES, dtype=known[0].dtype, device=known[0].device)
    context = torch.cat(
        [torch.quantile(standard(one), levels, dim=1).transpose(0, 1).flatten(1) for one in known], dim=1
    )
    found = []
    for values in points:
        rows = torch.cat([standard(values), context[:, None].expand(-1, values.shape[1], -1)], dim=2)
        found.append(network(rows)[:, :, 0])
    return found
