r"""A density ratio by regression on the time scores of conditional paths: ``ConditionalPathRatio`` (CTSM, CTSM-v).

Let :math:`p_t` run from q at t = 0 to p at t = 1. The log-ratio is the integral of the *time score*,

.. math:: \log \frac{p(x)}{q(x)} = \int_0^1 \partial_t \log p_t(x)\, dt.

Given a pair z of a point of q and one of p, let x be normal, :math:`x = \mu_t(z) + \sqrt{k_t}\, \epsilon`, moving with
:math:`\dot x = \dot\mu_t + \dot k_t \epsilon / 2 \sqrt{k_t}`. Its conditional time score is a sum over columns,

.. math:: \partial_t \log p_t(x | z) = \sum_i \tau_i, \quad
    \tau_i = \frac{\epsilon_i \dot x_i}{\sqrt{k_t}} - \frac{\dot k_t}{2 k_t},

and its conditional expectation given x is the time score of :math:`p_t`. So a regression of :math:`\tau` on x and t,
weighted by the inverse of its variance ("time-score normalisation"), learns the time score: of the sum (CTSM), or of
every column (CTSM-v), whose prediction is summed afterwards.

What the regression function looks like is known for every p and q, and is what the network is built as:

.. math:: \mathbb{E}[\tau_i | x] = g_i v_i + e_i, \quad g = \mathbb{E}[\epsilon | x] / \sqrt{k_t} = -\nabla \log p_t,
    \quad v = \mathbb{E}[\dot x | x]

with :math:`e_i` the conditional covariance that is left (it sums to :math:`-\nabla \cdot v`: the continuity equation).
A network that gives g, v and e need not multiply, so the time score goes on as a product where samples end. g and v are
conditional expectations themselves, and are also regressed on what they are expectations of.

References:
    | Density Ratio Estimation with Conditional Probability Paths (Yu, Klami, Hyvärinen, Korba and Chehab, 2025)
    | https://arxiv.org/abs/2502.02300
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila and Laine, 2022), for
    | inputs and outputs of order one at every time
    | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
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

PATHS = ("bridge", "gaussian")
"""Conditional paths by name."""
NODES = 40
"""Gauss-Legendre nodes of the integral over the clock, or of each half of it where the path has a kink."""
FARTHEST = 1e6
"""Points farther than so many standard deviations of a path's column are taken to be at that distance."""
GRID = 4097
"""Points of the table of the clock."""


@dataclass(frozen=True)
class Step:
    """A conditional path at some times: x = a p + b q + sqrt(k) noise, and the derivatives by time; float64 (n, 1)."""

    a: Tensor
    b: Tensor
    k: Tensor
    da: Tensor
    db: Tensor
    dk: Tensor

    def float(self) -> Step:
        """The step in float32."""
        return Step(*(getattr(self, field.name).float() for field in fields(self)))


def bridge(odds: Tensor, sigma: float) -> Step:
    r"""The Brownian bridge from q to p: :math:`\mu_t = (1 - t) x_q + t x_p, k_t = \sigma^2 t (1 - t)`.

    Args:
        odds: The time as :math:`\log \frac{t}{1 - t}`, so that t and 1 - t are both known to all digits.
        sigma: Standard deviation of the noise.
    """
    t, rest = odds.sigmoid(), (-odds).sigmoid()
    one = torch.ones_like(t)
    return Step(t, rest, sigma**2 * t * rest, one, -one, sigma**2 * (rest - t))


def gaussian(odds: Tensor, sigma: float) -> Step:
    r"""From q to a normal at t = 1/2 and on to p, preserving a variance of :math:`\sigma^2`.

    :math:`\mu_t = \cos(\pi t) x_q` in the first half, :math:`-\cos(\pi t) x_p` in the second, and
    :math:`k_t = \sigma^2 \sin^2(\pi t)`: the paper's path with one normal end, once for each set.
    """
    t, rest = odds.sigmoid(), (-odds).sigmoid()
    early = (odds < 0).to(odds.dtype)
    sine, cosine = torch.sin(math.pi * torch.minimum(t, rest)), torch.cos(math.pi * torch.minimum(t, rest))
    slope = math.pi * sine
    return Step(
        a=cosine * (1 - early),
        b=cosine * early,
        k=sigma**2 * sine**2,
        da=slope * (1 - early),
        db=-slope * early,
        dk=2 * math.pi * sigma**2 * sine * cosine * (2 * early - 1),
    )


def conditional_time_score(step: Step, noise: Tensor, velocity: Tensor) -> Tensor:
    r"""The columns :math:`\tau` of the conditional time score.

    Args:
        step: The path.
        noise: :math:`\epsilon`, with shape (n, d).
        velocity: :math:`\dot x`, with shape (n, d).

    Returns:
        Shape (n, d).
    """
    return noise * velocity / step.k.sqrt() - step.dk / (2 * step.k)


class Marginals:
    """Means and variances of the columns of a path, and a clock by which they change steadily.

    Where q is broad and p is narrow, nearly all happens in the last instants of t; uniform times of the clock are
    spread over the logarithm of 1 - t there.

    Args:
        moments: Means of p, variances of p, means of q, variances of q, with shape (4, d), float64.
        path: A name in ``PATHS``.
        sigma: Standard deviation of the noise.
    """

    def __init__(self, moments: Tensor, path: str, sigma: float) -> None:
        self.moments = moments
        self.path, self.sigma = (bridge if path == "bridge" else gaussian), sigma
        narrow = float(moments[[1, 3]].clamp(min=1e-6).min())
        # the last noise has a hundredth of the narrowest column's deviation
        last = min(1e-4, 1e-4 * narrow / sigma**2)
        last = last if path == "bridge" else math.sqrt(last) / math.pi
        edge = math.log1p(-last) - math.log(last)
        odds = torch.linspace(-edge, edge, GRID, dtype=torch.float64, device=moments.device)[:, None]
        step = self.path(odds, sigma)
        _, variance, slope, growth = self.at(step)
        dt = odds.sigmoid() * (-odds).sigmoid()
        speed = dt.sqrt() + dt * (growth.abs() / 2 / variance + slope.abs() / variance.sqrt()).amax(1, keepdim=True)
        ticks = torch.cumulative_trapezoid(speed, odds, dim=0)[:, 0]
        self.ticks = torch.cat([ticks.new_zeros(1), ticks / ticks[-1]])
        self.odds = odds[:, 0]

    def quadrature(self) -> list[tuple[float, float]]:
        """Clock times and their weights, for integrals over the clock; a path in two halves has them in each."""
        middle = float(self.ticks[GRID // 2])
        parts = [(0.0, 1.0)] if self.path is bridge else [(0.0, middle), (middle, 1.0)]
        places, weights = np.polynomial.legendre.leggauss(NODES)
        return [
            (start + 0.5 * (end - start) * (float(place) + 1), 0.5 * (end - start) * float(weight))
            for start, end in parts
            for place, weight in zip(places, weights, strict=True)
        ]

    def at(self, step: Step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and variance of the columns, and their derivatives by time, each with shape (n, d)."""
        mean_p, var_p, mean_q, var_q = self.moments
        mean, slope = step.a * mean_p + step.b * mean_q, step.da * mean_p + step.db * mean_q
        variance = step.a**2 * var_p + step.b**2 * var_q + step.k
        growth = 2 * step.a * step.da * var_p + 2 * step.b * step.db * var_q + step.dk
        return mean, variance, slope, growth

    def spread(self, step: Step) -> Tensor:
        r"""Mean square of the columns of :math:`\dot\mu_t`, with shape (n, d)."""
        mean_p, var_p, mean_q, var_q = self.moments
        spread = step.da**2 * var_p + step.db**2 * var_q + (step.da * mean_p + step.db * mean_q) ** 2
        return spread.clamp(min=1e-12)

    def time(self, clock: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds of the time at clock times in [0, 1], and dt/dclock, each of the shape of ``clock``."""
        place = torch.searchsorted(self.ticks, clock.contiguous(), right=True).clamp(1, GRID - 1)
        before, after = self.ticks[place - 1], self.ticks[place]
        rate = (self.odds[1] - self.odds[0]) / (after - before)
        odds = self.odds[place - 1] + (clock - before) * rate
        return odds, rate * odds.sigmoid() * (-odds).sigmoid()


class ConditionalPathRatio(RatioEstimator):
    r"""The integral of a time score that was regressed on those of conditional paths between pairs of samples.

    For p and q far apart (10 nats and more), where a classifier only learns that the ratio is large. Samples are
    standardised together; a share of each set is held out, for the choice of the best weights and for :meth:`check`.

    Args:
        path: "bridge", a Brownian bridge between a point of q and one of p; or "gaussian", from q to a normal and on
            to p, which asks for the densities of both, and is good where one of the sets is nearly normal.
        sigma: Standard deviation of the path's noise, in standard deviations of both sets together.
        vector: Regress every column (CTSM-v) rather than the sum (CTSM).
        fields: Weight of the regressions of g and v on their own targets; 0 trains by the time score alone, as the
            paper does.
        hidden: Widths of the hidden layers.
        standardise: "moments"; "robust" (quantiles and a squash of the tails) for samples that vary over orders of
            magnitude; or "ranks".
        steps: Largest number of gradient steps, rounded up to whole passes.
        batch_size: Samples in a step, of p and q together.
        learning_rate: Step size of AdamW at the start.
        weight_decay: Decay of AdamW.
        patience: Passes without a better held-out loss before it stops.
        validation: Share of each set to hold out.

    Raises:
        ValueError: If there is no such path or standardisation, or a number is out of its range.

    Example:
        >>> p = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
        >>> q = 1 + torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> ratio = ConditionalPathRatio(hidden=(32,), steps=500).fit(p, q, seed=0)
        >>> ratio.log_ratio([0.5]).abs() < 0.15  # where the densities cross
        tensor([True])
    """

    name = "conditional-path"

    def __init__(
        self,
        path: str = "bridge",
        sigma: float = 1.0,
        *,
        vector: bool = True,
        fields: float = 1.0,
        hidden: Sequence[int] = (128, 128),
        standardise: str = "moments",
        steps: int = 4000,
        batch_size: int = 512,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.01,
        patience: int = 50,
        validation: float = 0.1,
    ) -> None:
        if path not in PATHS:
            raise ValueError(f"path: expected one of {', '.join(PATHS)}; got {path!r}")
        if not (sigma > 0 and math.isfinite(sigma)):
            raise ValueError(f"sigma: expected a positive number; got {sigma}")
        if not (fields >= 0 and math.isfinite(fields)):
            raise ValueError(f"fields: expected a number of at least 0; got {fields}")
        check_settings(standardise, steps, batch_size, validation)
        TimeNetwork(1, 1, hidden, device="meta")  # refuses widths
        self.path = path
        self.sigma = sigma
        self.vector = vector
        self.fields = fields
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
        columns = [moment for (z,) in pair.learned for moment in (z.double().mean(0), z.double().var(0, correction=0))]
        self._marginals = Marginals(torch.stack(columns), self.path, self.sigma)
        self._network = TimeNetwork(p.shape[1], 3 * p.shape[1], self.hidden, seed=seed, device=device)
        rows = [len(samples) for samples in pair.raw]
        in_a_pass = min(math.ceil(sum(rows) / self.batch_size), *rows)
        self.history: History = train(
            self._network,
            self._loss,
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

    def _loss(self, p: Tensor, q: Tensor, generator: torch.Generator) -> Tensor:
        """Squared errors over their variances: of the time score, and of the fields that it is a product of."""
        n = max(len(p), len(q))
        p, q = (x if len(x) == n else x.repeat(math.ceil(n / len(x)), 1)[:n] for x in (p, q))
        # one time from each of n equal parts of the clock
        uniform = torch.rand(n, 1, generator=generator, device=p.device, dtype=torch.float64)
        clock = (torch.randperm(n, generator=generator, device=p.device)[:, None] + uniform) / n
        noise = torch.randn(p.shape, generator=generator, device=p.device)
        # the path in float64, where the last instants of it have all digits; what is learned of it in float32
        step = self._marginals.path(self._marginals.time(clock)[0], self.sigma)
        shaking = step.dk**2 / (4 * step.k)  # mean square of the velocity that noise alone has
        moving = (self._marginals.spread(step) + shaking).float()  # and of all of it
        variance = ((moving + shaking) / step.k).float()
        scale = self._scale(step, torch.float32)
        step = step.float()
        root = step.k.sqrt()
        velocity = step.da * p + step.db * q + step.dk / (2 * root) * noise
        target = conditional_time_score(step, noise, velocity)
        x = step.a * p + step.b * q + root * noise
        score, g, v = self._time_score(x, clock, scale)
        if self.vector:
            loss = ((target - score) ** 2 / variance).mean()
        else:
            loss = ((target - score).sum(1) ** 2 / variance.sum(1)).mean()
        if self.fields:
            loss = loss + self.fields * (((noise - root * g) ** 2).mean() + ((velocity - v) ** 2 / moving).mean())
        return loss

    def _scale(self, step: Step, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Mean and deviation of the points, mean and typical size of their velocity; each (n, d)."""
        mean, variance, slope, _ = self._marginals.at(step)
        pace = (self._marginals.spread(step) + step.dk**2 / (4 * variance)).sqrt()
        return mean.to(dtype), variance.sqrt().to(dtype), slope.to(dtype), pace.to(dtype)

    def _time_score(self, x: Tensor, clock: Tensor, scale: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """The columns of the time score, minus the score, and the velocity; each (n, d)."""
        mean, deviation, slope, pace = scale
        z = ((x - mean) / deviation).clamp(-FARTHEST, FARTHEST)
        g, v, e = self._network(z.float(), clock.float()).to(x.dtype).chunk(3, 1)
        g, v, e = g / deviation, slope + pace * v, pace / deviation * e
        return g * v + e, g, v

    def _log_ratio(self, x: Tensor) -> Tensor:
        z = self._standardiser(x.to(self._standardiser.location.device)).double()
        total = z.new_zeros(len(z))
        for place, weight in self._marginals.quadrature():
            clock = z.new_full((1, 1), place)
            odds, rate = self._marginals.time(clock)
            scale = self._scale(self._marginals.path(odds, self.sigma), z.dtype)
            score, _, _ = self._time_score(z, clock, scale)
            total = total + weight * rate[0, 0] * score.sum(1)
        largest = torch.finfo(torch.float32).max
        return total.clamp(-largest, largest).float().to(x.device)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        parts = {"network": self._network.state_dict(), "standardiser": self._standardiser.state_dict()}
        return joined(parts) | {"moments": self._marginals.moments}, {}

    def _restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        state = parted(tensors)
        self._standardiser = restored(self.standardise, state["standardiser"])
        self._marginals = Marginals(state["moments"][""], self.path, self.sigma)
        network = TimeNetwork(self.width, 3 * self.width, self.hidden, device=self._standardiser.location.device)
        network.load_state_dict(state["network"])
        self._network = network.requires_grad_(False).eval()

    def __repr__(self) -> str:
        state = f"fitted to {self.width} columns" if self.width else "not fitted"
        return f"ConditionalPathRatio(path={self.path!r}, sigma={self.sigma}; {state})"
