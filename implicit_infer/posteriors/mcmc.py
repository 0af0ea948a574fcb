r"""Sample many posteriors at once, by ensembles of walkers that propose from one another.

No gradients, no tuning: a network's potential is cheap in batches, so that hundreds of walkers at each of many
observations move in one call. Two proposals take turns, each of which leaves the target invariant when one half of an
ensemble moves given the other half:

- the stretch move, :math:`u' = u_j + z (u_i - u_j)` with :math:`z \sim g(z) \propto z^{-1/2}` on [1/2, 2], accepted
  with probability :math:`\min(1, z^{d-1} \pi(u') / \pi(u_i))`, which is invariant under affine maps;
- the differential-evolution move, :math:`u' = u_i + \gamma (u_j - u_k) + \epsilon` with
  :math:`\gamma = 2.38 / \sqrt{2d}`, and now and then :math:`\gamma = 1`, which jumps between modes.

References:
    | Ensemble samplers with affine invariance (Goodman & Weare, 2010)
    | https://doi.org/10.2140/camcos.2010.5.65
    | A Markov chain Monte Carlo version of the genetic algorithm differential evolution (ter Braak, 2006)
    | https://doi.org/10.1007/s11222-006-8769-1
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.progress import track

LogDensity = Callable[[Tensor], Tensor]
"""Log density up to a constant: walkers (B, W, d) to (B, W), one target for each of the B ensembles."""


@dataclass(frozen=True)
class EnsembleSampler:
    r"""Settings of the sampler.

    Args:
        walkers: Walkers of each ensemble, even and at least 2 (d + 1).
        warmup: Sweeps (every walker moves once) before anything is kept.
        thin: Least sweeps between two kept states of the ensemble. Where few moves are accepted there are more, up to
            five times as many: so many that 99 of 100 walkers have moved in between.
        jump_every: Every so many differential-evolution moves one has :math:`\gamma = 1`.
    """

    walkers: int = 200
    warmup: int = 200
    thin: int = 20
    jump_every: int = 5

    def sample(
        self,
        log_density: LogDensity,
        start: Tensor,
        n: int,
        generator: torch.Generator,
        progress: bool = False,
    ) -> tuple[Tensor, float]:
        """Draw ``n`` states for each ensemble.

        Args:
            log_density: The targets.
            start: Starting walkers with shape (B, W, d).
            n: Draws wanted of each target.
            generator: Source of all random numbers, on the device of ``start``.
            progress: Whether to show progress.

        Returns:
            Draws with shape (n, B, d), and the mean acceptance rate after warm-up.

        Raises:
            ValueError: If the number of walkers is odd or too small for the dimension.
        """
        _, walkers, d = start.shape
        if walkers % 2 or walkers < 2 * (d + 1):
            raise ValueError(f"walkers: expected an even number of at least {2 * (d + 1)}; got {walkers}")
        rounds, thin = math.ceil(n / walkers), self.thin
        sweeps = self.warmup + rounds * thin
        state, value = start.clone(), log_density(start)
        kept, accepted, before = [], torch.zeros((), device=start.device), torch.zeros((), device=start.device)
        moves = _Moves(d, self.jump_every, generator)
        with track("sampling by mcmc", total=sweeps, show=progress) as bar:
            sweep = 0
            while sweep < sweeps:
                sweep += 1
                for half in (slice(0, walkers // 2), slice(walkers // 2, walkers)):
                    rest = state[:, walkers // 2 :] if half.start == 0 else state[:, : walkers // 2]
                    proposal, correction = moves.propose(sweep, state[:, half], rest)
                    proposed = log_density(proposal)
                    threshold = torch.rand(proposed.shape, generator=generator, device=start.device).log()
                    # a proposal without density (NaN) is never taken; a walker without one takes whatever has one
                    better = torch.nan_to_num(proposed, nan=-torch.inf) - value[:, half]
                    take = threshold < correction + torch.nan_to_num(better, nan=-torch.inf, posinf=torch.inf)
                    state[:, half] = torch.where(take[..., None], proposal, state[:, half])
                    value[:, half] = torch.where(take, proposed, value[:, half])
                    if sweep > self.warmup:
                        accepted += take.float().mean() / 2
                    elif sweep > self.warmup // 2:
                        before += take.float().mean() / 2
                if sweep == self.warmup:
                    thin = self._thin(float(before) / (self.warmup - self.warmup // 2))
                    sweeps = self.warmup + rounds * thin
                if sweep > self.warmup and (sweep - self.warmup) % thin == 0:
                    kept.append(state.clone())
                bar.update()
        draws = torch.cat(kept, 1).transpose(0, 1)  # (rounds * W, B, d)
        order = torch.randperm(len(draws), generator=generator, device=draws.device)
        return draws[order[:n]], float(accepted / max(1, sweeps - self.warmup))

    def _thin(self, acceptance: float) -> int:
        """Sweeps after which 99 of 100 walkers have moved at this rate of acceptance, within the limits."""
        if acceptance <= 0:
            return 5 * self.thin
        return min(max(self.thin, math.ceil(math.log(0.01) / math.log1p(-min(acceptance, 0.99)))), 5 * self.thin)


class _Moves:
    """The two proposals, in turns."""

    def __init__(self, d: int, jump_every: int, generator: torch.Generator) -> None:
        self.d, self.jump_every, self.generator = d, jump_every, generator

    def propose(self, sweep: int, active: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals with the shape of ``active`` (B, M, d), and the log of the Hastings correction (B, M)."""
        batch, m, d = active.shape
        device = active.device
        first = torch.randint(m, (batch, m), generator=self.generator, device=device)
        anchor = self._pick(rest, first)
        if sweep % 2:
            z = (1 + torch.rand((batch, m), generator=self.generator, device=device)).square() / 2
            return anchor + z[..., None] * (active - anchor), (d - 1) * z.log()
        offset = torch.randint(1, max(m, 2), (batch, m), generator=self.generator, device=device)
        other = self._pick(rest, (first + offset) % m)
        gamma = 1.0 if sweep % (2 * self.jump_every) == 0 else 2.38 / math.sqrt(2 * self.d)
        scale = 1e-4 * rest.std(1, keepdim=True)
        jitter = scale * torch.randn(active.shape, generator=self.generator, device=device)
        return active + gamma * (anchor - other) + jitter, torch.zeros((batch, m), device=device)

    @staticmethod
    def _pick(rest: Tensor, index: Tensor) -> Tensor:
        return rest.gather(1, index[..., None].expand(-1, -1, rest.shape[2]))
