r"""A density ratio by matching the time score of a path from q to p: ``InfinityRatio`` (DRE-infinity).

Let :math:`x_t = b(t) x_q + a(t) x_p` for a point of q and one of p, and :math:`p_t` its density: q at 0, p at 1.
Then :math:`\log p(x) / q(x) = \int_0^1 \partial_t \log p_t(x)\, dt`: a telescoping ratio with infinitely many bridges.
The *time score* :math:`\partial_t \log p_t` is learned without knowing :math:`p_t`, as integration by parts turns
:math:`\mathbb{E} \int \lambda(t) (s(x_t, t) - \partial_t \log p_t(x_t))^2 dt` into, up to a constant,

.. math:: 2 \lambda(0) \mathbb{E}_q[s(x, 0)] - 2 \lambda(1) \mathbb{E}_p[s(x, 1)] +
    \int_0^1 \mathbb{E}[2 \lambda(t) \partial_t s(x_t, t) + 2 \lambda'(t) s(x_t, t) + \lambda(t) s(x_t, t)^2]\, dt.

The joint objective also learns the data score :math:`s_x = \nabla_x \log p_t`, by sliced score matching with random
directions u: :math:`\int \lambda(t) \mathbb{E}[\|s_x\|^2 + 2 u^\top \nabla_x s_x u]\, dt` is added.

Directions: the time runs from the denominator to the numerator here, so that log p/q is the integral from 0 to 1. The
authors' code runs from noise to data for its toy problems, as here with noise for q, and from data to noise for images,
where the sign of the integral is the other. A point is held fixed along the integral, with the joint objective, too.

References:
    | Density Ratio Estimation via Infinitesimal Classification (Choi, Meng, Song and Ermon, 2022)
    | https://arxiv.org/abs/2111.11010
    | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), for the sampling of times by losses
    | https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_estimators.networks.pair import Pair
from implicit_estimators.networks.standardise import STANDARDISERS, restored
from implicit_estimators.networks.storage import joined, parted
from implicit_estimators.networks.train import History, Progress, train
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.bridges.settings import check_settings
from implicit_estimators.ratio.bridges.time_network import TimeNetwork

PATHS = ("variance-preserving", "linear")
"""Interpolations by name."""
WEIGHTINGS = ("variance", "constant")
"""Weights of times by name."""
NODES = 32
"""Gauss-Legendre nodes of the integral over time."""
FARTHEST = 1e6
"""Standardised points farther out are taken to be at that distance."""
BINS = 16
"""Bins of the times that are drawn according to their losses."""
MEMORY = 0.95
"""Decay of the running mean of the squared losses of a bin."""

Scores = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``scores(x, t)``: the time score, with shape (n,), and the data score, with shape (n, d); t has shape (n, 1)."""


def shares(t: Tensor, path: str) -> tuple[Tensor, Tensor]:
    r"""The shares a of p and b of q in :math:`x_t`: :math:`a = t`, and b is :math:`\sqrt{1 - t^2}` or 1 - t."""
    return t, (1 - t**2).sqrt() if path == "variance-preserving" else 1 - t


def weight(t: Tensor, path: str, weighting: str) -> tuple[Tensor, Tensor]:
    r""":math:`\lambda` and :math:`\lambda'`: 1 and 0, or the variance :math:`b(t)^2` of the share of q."""
    if weighting == "constant":
        return torch.ones_like(t), torch.zeros_like(t)
    return (1 - t**2, -2 * t) if path == "variance-preserving" else ((1 - t) ** 2, -2 * (1 - t))


def time_score_terms(
    scores: Scores,
    p: Tensor,
    q: Tensor,
    t: Tensor,
    *,
    path: str = "variance-preserving",
    weighting: str = "variance",
    directions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The objective's boundary and its integrand, whose mean over uniform t is the integral.

    Args:
        scores: What is learned.
        p: Samples of p, with shape (n, d).
        q: Samples of q, with shape (n, d).
        t: Times in (0, 1), with shape (n, 1).
        path: A name in ``PATHS``.
        weighting: A name in ``WEIGHTINGS``.
        directions: u of the joint objective, with shape (n, d), mean 0 and unit covariance; None learns time scores
            alone.

    Returns:
        The boundary, a scalar, and the integrand at each t, with shape (n,).
    """
    share_p, share_q = shares(t, path)
    x = share_p * p + share_q * q
    value, change = (part[:, 0] for part in weight(t, path, weighting))
    deep = torch.is_grad_enabled()
    with torch.enable_grad():  # for the derivatives in the objective, where validation needs no others
        x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
        score, data = scores(x, t)
        (slope,) = torch.autograd.grad(score.sum(), t, create_graph=deep, retain_graph=True)
        terms = 2 * value * slope[:, 0] + 2 * change * score + value * score**2
        if directions is not None:
            (turn,) = torch.autograd.grad((data * directions).sum(), x, create_graph=deep, retain_graph=True)
            terms = terms + value * ((data**2).sum(1) + 2 * (turn * directions).sum(1))
    boundary = 2 * scores(q, torch.zeros_like(t))[0].mean()  # every weight is 1 at t = 0
    if weighting == "constant":  # the other is 0 at t = 1
        boundary = boundary - 2 * scores(p, torch.ones_like(t))[0].mean()
    return boundary, terms


class LossHistory:
    """Times that are drawn as often as their losses are large, with the weights that make up for it.

    The times lie in equal bins, drawn in proportion to the root of a running mean of the bin's squared losses (a tenth
    of the draws uniformly): of all densities, the one with the least variance.

    Args:
        device: Where the times are wanted.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.squares = torch.ones(BINS, device=device)

    def density(self) -> Tensor:
        """Density of the times in each bin, with mean 1."""
        size = self.squares.sqrt()
        return 0.1 + 0.9 * size / size.mean()

    def draw(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Times at the quantiles ``uniform`` in [0, 1) of shape (n, 1), and one over their densities."""
        density = self.density()
        ends = density.cumsum(0) / BINS
        ends = ends / ends[-1]
        bins = torch.searchsorted(ends, uniform, right=True).clamp(max=BINS - 1)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        inside = (uniform - starts[bins]) / (ends - starts)[bins]
        return (bins + inside.clamp(0, 1)) / BINS, 1 / density[bins]

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Remember the losses, of shape (n,), at times of shape (n, 1)."""
        bins = (t[:, 0] * BINS).long().clamp(max=BINS - 1)
        # beyond 1e15 the squares would not be finite in float32
        squares = losses.clamp(-1e15, 1e15) ** 2
        count = torch.zeros_like(self.squares).index_add_(0, bins, torch.ones_like(squares))
        mean = torch.zeros_like(self.squares).index_add_(0, bins, squares) / count.clamp(min=1)
        self.squares = torch.where(count > 0, MEMORY * self.squares + (1 - MEMORY) * mean, self.squares)


class InfinityRatio(RatioEstimator):
    r"""The integral of a time score that was matched on the interpolation between samples of q and of p.

    The objective needs derivatives of the network by time and has a large variance: for most problems the regression
    of ``ConditionalPathRatio`` gets closer in less time. The network gives :math:`g, v \in \mathbb{R}^d` and e, and the
    time score is :math:`g \cdot v + e`, which is what it is for every p and q if :math:`-g` is the data score (the
    continuity equation); the joint objective has g learn that.

    Args:
        path: "variance-preserving" (the paper's, good where q is nearly normal) or "linear".
        weighting: :math:`\lambda`: "variance", the share of q squared, or "constant" (for the linear path).
        joint: Learn the data score as well.
        importance: Draw times according to their losses.
        hidden: Widths of the hidden layers.
        standardise: "moments"; "robust" (quantiles and a squash of the tails) for samples that vary over orders of
            magnitude; or "ranks".
        steps: Largest number of gradient steps, rounded up to whole passes.
        batch_size: Samples in a step, of p and q together.
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decay of AdamW.
        patience: Passes without a better held-out objective before it stops.
        validation: Share of each set to hold out.

    Raises:
        ValueError: If there is no such path, weighting or standardisation, or a number is out of its range.

    Example:
        >>> p = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = InfinityRatio(hidden=(32,), steps=500).fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.2  # where the densities cross
        tensor([True])
    """

    name = "dre-infinity"

    def __init__(
        self,
        path: str = "variance-preserving",
        *,
        weighting: str = "variance",
        joint: bool = False,
        importance: bool = True,
        hidden: Sequence[int] = (128, 128),
        standardise: str = "moments",
        steps: int = 2000,
        batch_size: int = 512,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.01,
        patience: int = 50,
        validation: float = 0.2,
    ) -> None:
        if path not in PATHS:
            raise ValueError(f"path: expected one of {', '.join(PATHS)}; got {path!r}")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting: expected one of {', '.join(WEIGHTINGS)}; got {weighting!r}")
        if (path, weighting) == ("variance-preserving", "constant"):
            raise ValueError(
                "weighting: 'constant' gives the variance-preserving path an infinite objective; set path='linear'"
            )
        check_settings(standardise, steps, batch_size, validation)
        TimeNetwork(1, 1, hidden, device="meta")  # refuses widths
        self.path = path
        self.weighting = weighting
        self.joint = joint
        self.importance = importance
        self.hidden = tuple(hidden)
        self.standardise = standardise
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.validation = validation

    def _fit(self, p: Tensor, q: Tensor, seed: int, device: torch.device, progress: Progress | None) -> None:
        pair = Pair.of(p, q, self.validation, seed, STANDARDISERS[self.standardise])
        self._standardiser = pair.standardiser
        self._network = TimeNetwork(p.shape[1], 2 * p.shape[1] + 1, self.hidden, seed=seed, device=device)
        past = LossHistory(device)

        def loss(p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
            n = max(len(p), len(q))
            p, q = (x if len(x) == n else x.repeat(math.ceil(n / len(x)), 1)[:n] for x in (p, q))
            place = torch.randperm(n, generator=generator, device=device)[:, None]
            # one time from each of n equally likely parts; the ends themselves, where derivatives are infinite, are not
            uniform = (place + torch.rand(n, 1, generator=generator, device=device)) / n * (1 - 2e-5) + 1e-5
            directions = None
            if self.joint:
                coins = torch.randint(0, 2, p.shape, generator=generator, device=device)
                directions = 2.0 * coins - 1
            learning = self.importance and self._network.training
            t, correction = past.draw(uniform) if learning else (uniform, torch.ones_like(uniform))
            t = t.clamp(1e-5, 1 - 1e-5)
            settings = {"path": self.path, "weighting": self.weighting}
            boundary, terms = time_score_terms(self._scores, p, q, t, directions=directions, **settings)
            if learning:
                past.update(t, terms.detach())
            return boundary + (correction[:, 0] * terms).mean()

        rows = [len(samples) for samples in pair.raw]
        in_a_pass = min(math.ceil(sum(rows) / self.batch_size), *rows)
        self.history: History = train(
            self._network,
            loss,
            pair.learned,
            validation=pair.held_out,
            epochs=math.ceil(self.steps / in_a_pass),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            patience=self.patience,
            average=0.998,
            seed=seed,
            progress=progress,
        )
        self._network.requires_grad_(False)
        self.held_out = pair.test

    def _scores(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        d = x.shape[1]
        g, v, e = self._network(x, t).split([d, d, 1], -1)
        return (g * v).sum(1) + e[:, 0], -g

    def _log_ratio(self, x: Tensor) -> Tensor:
        z = self._standardiser(x.to(self._standardiser.location.device)).float().clamp(-FARTHEST, FARTHEST)
        total = z.new_zeros(len(z), dtype=torch.float64)
        places, weights = np.polynomial.legendre.leggauss(NODES)
        for place, share in zip(places, weights, strict=True):
            score, _ = self._scores(z, z.new_full((1, 1), 0.5 * (place + 1)))
            total = total + 0.5 * share * score.double()
        largest = torch.finfo(torch.float32).max
        return total.clamp(-largest, largest).float().to(x.device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return joined({"network": self._network.state_dict(), "standardiser": self._standardiser.state_dict()}), {}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        state = parted(tensors)
        self._standardiser = restored(self.standardise, state["standardiser"])
        network = TimeNetwork(self.width, 2 * self.width + 1, self.hidden, device=self._standardiser.location.device)
        network.load_state_dict(state["network"])
        self._network = network.requires_grad_(False).eval()

    def __repr__(self) -> str:
        state = f"fitted to {self.width} columns" if self.width else "not fitted"
        return f"InfinityRatio(path={self.path!r}, joint={self.joint}; {state})"
