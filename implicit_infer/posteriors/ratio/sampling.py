r"""Draw from prior times ratio: by importance resampling where few parameters allow it, else by ensembles of walkers.

Candidates come in equal parts from the prior and from the linear regression of the parameters on the summaries,
:math:`q(u) = \frac12 p(u) + \frac12 N(u; A s + b, L L^\top)`, and are weighted by :math:`w = p(u) r(u, x) / q(u)`. With
the effective number of candidates :math:`(\sum w)^2 / \sum w^2` well above the number of draws wanted, resampling them
gives draws that are independent and right up to the network. Else they are where walkers start.

References:
    | Using the SIR algorithm to simulate posterior distributions (Rubin, 1988)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.mcmc import EnsembleSampler
from implicit_simulators import Stream

SURPLUS = 4.0
"""Effective candidates for each draw from which on candidates are resampled."""

POOL = 2**16
"""Most candidates weighted at once."""

POOLS = 8
"""Most pools of candidates for one observation."""

STARTS = 4000
"""Candidates of either kind that walkers may start from."""

LogDensity = Callable[[Tensor, Tensor], Tensor]
"""Log density of u with shape (B, W, d) given s with shape (B, k), up to a function of s: values (B, W)."""


class RatioSampler:
    """Draws from a density in unconstrained space, up to a constant, given summaries.

    Args:
        coordinates: Where u and s live, with the prior and the regression.
        log_density: The density.
        walkers: The sampler where candidates are too few.
        largest: Most parameters for which candidates are resampled; 0 always walks.
    """

    def __init__(
        self, coordinates: Coordinates, log_density: LogDensity, walkers: EnsembleSampler, largest: int = 3
    ) -> None:
        self.coordinates, self.log_density = coordinates, log_density
        self.walkers, self.largest = walkers, largest

    @torch.no_grad()
    def sample(self, n: int, s: Tensor, stream: Stream, progress: bool = False) -> tuple[Tensor, dict[str, Any]]:
        """N draws of u at each of B summaries, and figures of how they came about.

        Args:
            n: Draws wanted.
            s: Summaries with shape (B, k).
            stream: Source of all random numbers.
            progress: Whether to show progress.

        Returns:
            Draws with shape (n, B, d), and the figures.
        """
        generator = stream.torch()
        beside = int(torch.randint(2**62, (), generator=generator))
        with Stream.of(beside, role="prior").forked():  # priors draw from torch's global generator
            figures: dict[str, Any] = {}
            draws = s.new_empty(n, len(s), self.coordinates.parameters_dim)
            walking = list(range(len(s)))
            if self.coordinates.parameters_dim <= self.largest and n:
                walking, effective = [], []
                for place, given in enumerate(s):
                    found = self._resample(n, given, generator)
                    if found is None:
                        walking.append(place)
                    else:
                        draws[:, place], number = found
                        effective.append(number)
                if effective:
                    figures["importance_effective"] = min(effective)
            if walking:
                given = s[walking]
                start = torch.stack([self._start(row, generator) for row in given])
                draws[:, walking], acceptance = self.walkers.sample(
                    lambda u: self.log_density(u, given), start, n, generator, progress
                )
                figures["mcmc_acceptance"] = acceptance
            return draws, figures

    def _candidates(self, count: int, s: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Candidates (count, d), half of them from the prior, and their log weights up to a constant."""
        coordinates, d = self.coordinates, self.coordinates.parameters_dim
        half = count // 2
        theta = coordinates.simulator.prior.sample((half,)).reshape(half, d).to(s)
        normal = torch.randn((count - half, d), generator=generator, dtype=s.dtype)
        u = torch.cat((coordinates.transform.inv(theta), coordinates.bound(normal, s.expand(count - half, -1))))
        prior, regression = coordinates.log_prior(u), coordinates.log_normal(u, s.expand(count, -1))
        log_weight = self.log_density(u[None], s[None])[0] - torch.logaddexp(prior, regression)
        return u, torch.nan_to_num(log_weight, nan=-torch.inf, posinf=-torch.inf)

    def _resample(self, n: int, s: Tensor, generator: torch.Generator) -> tuple[Tensor, float] | None:
        """N draws and the effective number of candidates, or None where it would take too many."""
        count = min(POOL, max(4096, 16 * n))
        pools = [self._candidates(count, s, generator)]
        first = _effective(pools[0][1])
        needed = SURPLUS * n / max(first, 1e-9)
        if not needed <= POOLS:
            return None
        pools += [self._candidates(count, s, generator) for _ in range(int(-(-needed // 1)) - 1)]
        u, log_weight = (torch.cat(parts) for parts in zip(*pools, strict=True))
        effective = _effective(log_weight)
        if effective < SURPLUS * n / 2:  # the first pool promised what the others did not keep
            return None
        # systematic: one uniform number places n even ticks, which adds the least to the weights' own noise
        share = log_weight.double().softmax(0).cumsum(0)
        tick = (torch.arange(n, dtype=torch.float64) + torch.rand((), generator=generator, dtype=torch.float64)) / n
        rows = torch.searchsorted(share, tick * share[-1]).clamp(max=len(share) - 1)
        return u[rows][torch.randperm(n, generator=generator)], effective

    def _start(self, s: Tensor, generator: torch.Generator) -> Tensor:
        """Walkers (W, d), resampled from candidates."""
        walkers = self.walkers.walkers
        u, log_weight = self._candidates(2 * max(STARTS, 4 * walkers), s, generator)
        # tempered until the walkers are spread over enough candidates to move; the chain forgets the start
        for _ in range(20):
            if _effective(log_weight) >= walkers / 2:
                break
            log_weight = log_weight / 1.5
        rows = torch.multinomial(log_weight.softmax(0), walkers, replacement=True, generator=generator)
        noise = torch.randn((walkers, u.shape[1]), generator=generator, dtype=u.dtype)
        return u[rows] + 0.01 * u[rows].std(0) * noise


def _effective(log_weight: Tensor) -> float:
    weight = log_weight.double().softmax(0)
    return float(1 / weight.square().sum()) if torch.isfinite(log_weight).any() else 0.0
