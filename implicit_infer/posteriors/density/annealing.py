r"""Walkers for a learned density, wherever its modes are: from a law that can be drawn from, by small steps.

.. math:: \log \pi_\beta = (1 - \beta) \log \pi_0 + \beta \log \pi_1, \qquad 0 = \beta_0 < \beta_1 < \dots = 1

Each temperature is chosen so that the weights of the step keep half of their effective sample size; walkers are
resampled by them and moved by the ensemble sampler at the new temperature (a sequential Monte Carlo sampler). Every
evaluation is one of a network: no simulation is spent.

References:
    | Sequential Monte Carlo samplers (Del Moral, Doucet & Jasra, 2006)
    | https://doi.org/10.1111/j.1467-9868.2006.00553.x
"""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_infer.posteriors.mcmc import EnsembleSampler, LogDensity

LARGEST = 60
"""Most temperatures; the last step is then taken whole."""


def anneal(
    log_from: LogDensity,
    log_to: LogDensity,
    start: Tensor,
    generator: torch.Generator,
    *,
    sweeps: int = 4,
    share: float = 0.5,
) -> tuple[Tensor, int]:
    """Move draws of one density to another.

    Args:
        log_from: Log density that ``start`` was drawn from, of walkers (B, W, d) to (B, W), up to a constant.
        log_to: The target, likewise.
        start: Walkers with shape (B, W, d).
        generator: Source of all random numbers.
        sweeps: Sweeps of the sampler at each temperature.
        share: Share of the effective sample size that a step keeps.

    Returns:
        Walkers at the target with shape (B, W, d), and the number of temperatures.
    """
    batch, walkers, d = start.shape
    state, beta = start.clone(), torch.zeros(batch, dtype=start.dtype, device=start.device)
    for step in range(1, LARGEST + 1):
        low = torch.nan_to_num(log_from(state), nan=-torch.inf)
        difference = torch.nan_to_num(log_to(state) - low, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        rise = 1 - beta if step == LARGEST else _rise(difference, 1 - beta, share)
        beta = beta + rise
        weight = torch.softmax(rise[:, None] * difference.nan_to_num(neginf=-1e30, posinf=1e30), 1)
        chosen = _systematic(weight, generator)
        state = state.gather(1, chosen[..., None].expand(-1, -1, d))
        at = beta[:, None]

        def tempered(u: Tensor, at: Tensor = at) -> Tensor:
            return torch.where(at < 1, (1 - at) * log_from(u), torch.zeros_like(at)) + at * log_to(u)

        moves = EnsembleSampler(walkers=walkers, warmup=sweeps - 1, thin=1)
        moved, _ = moves.sample(tempered if bool((beta < 1).any()) else log_to, state, walkers, generator)
        state = moved.transpose(0, 1)
        if bool((beta >= 1).all()):
            break
    return state, step


def _rise(difference: Tensor, left: Tensor, share: float) -> Tensor:
    """The largest step in temperature of each row that keeps the share, by bisection."""

    def kept(rise: Tensor) -> Tensor:
        weight = torch.softmax(rise[:, None] * difference.nan_to_num(neginf=-1e30, posinf=1e30), 1)
        return 1 / weight.square().sum(1) / difference.shape[1]

    low, high = torch.zeros_like(left), left.clone()
    whole = kept(high) >= share
    for _ in range(40):
        middle = 0.5 * (low + high)
        enough = kept(middle) >= share
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    # never so small a step that rounding would stand still
    return torch.where(whole, left, torch.minimum(left, low.clamp_min(1e-6)))


def _systematic(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Systematic resampling: as many indices as weights for each row, with shape (B, W)."""
    batch, count = weight.shape
    offset = torch.rand((batch, 1), generator=generator, device=weight.device, dtype=weight.dtype)
    grid = (torch.arange(count, device=weight.device, dtype=weight.dtype) + offset) / count
    return torch.searchsorted(weight.cumsum(1), grid).clamp(max=count - 1)
