r"""Better draws from a trained generator, by its own ratio: what the critic still sees, rejection and chains take away.

With :math:`r = p/q` at the generator's draws (the critic's, calibrated, or an estimate of ``ii.estimate_ratio``), draws
of q become draws of p:

- *Discriminator rejection sampling* keeps a draw with probability :math:`\sigma(F)`,

  .. math:: F = \log r - \log M - \log(1 - e^{\log r - \log M - \epsilon}) - \gamma,

  which for :math:`\gamma = \epsilon = 0` is :math:`r / M`, exact rejection. M is the largest ratio of some draws,
  raised where a larger one turns up; :math:`\gamma`, a percentile of F, trades faithfulness for accepted draws.
- *Metropolis-Hastings GAN* runs a chain for each draw that is wanted, which proposes independent draws of the generator
  and accepts with probability :math:`\min(1, r' / r)`; its law tends to p. Started at data, it is there from the start.

Both inherit the errors of the ratio: calibrate it (:func:`calibrated`), and look at ``ratio.check()`` first.

References:
    | Discriminator Rejection Sampling (Azadi et al., 2019)
    | https://arxiv.org/abs/1810.06758
    | Metropolis-Hastings Generative Adversarial Networks (Turner et al., 2019)
    | https://arxiv.org/abs/1811.11357
    | Two Further Applications of a Model for Binary Regression (Cox, 1958), for the calibration line
    | https://doi.org/10.1093/biomet/45.3-4.562
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.ratio.check import calibration_line
from implicit_estimators.seeds import Seed, generator
from implicit_infer.checks import check_count

Draw = Callable[[int, torch.Generator], Tensor]
"""``draw(n, generator)``: n draws of the model, with shape (n, *event_shape)."""
LogRatio = Callable[[Tensor], Tensor]
"""Log p/q at samples, with shape (n,)."""


def rejection(
    draw: Draw,
    log_ratio: LogRatio,
    n: int,
    *,
    percentile: float | None = 80.0,
    burn_in: int = 10_000,
    most: int = 1_000_000,
    seed: Seed = None,
) -> Tensor:
    r"""Draws by discriminator rejection sampling; see the module.

    Args:
        draw: Draws of the generator.
        log_ratio: Log p/q at them.
        n: Draws that are wanted.
        percentile: :math:`\gamma` is this percentile of F over the burn-in, as in the paper (80); None for
            :math:`\gamma = 0`, exact rejection, which keeps one in M.
        burn_in: Draws that M and :math:`\gamma` are first taken of; none of them is kept.
        most: Draws of the generator after which it gives up.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.

    Returns:
        n draws.

    Raises:
        ValueError: If a number is out of its range.
        RuntimeError: If ``most`` draws do not give n: then p is hardly anywhere that the generator draws.
    """
    check_count(n, "n")
    check_count(burn_in, "burn_in", 2)
    if percentile is not None and not 0 <= percentile <= 100:
        raise ValueError(f"percentile: expected a number from 0 to 100 or None; got {percentile}")
    random = generator(seed, "cpu")
    first = log_ratio(draw(burn_in, random)).double()
    largest = first.max()
    gamma = 0.0 if percentile is None else float(_logit(first, largest).quantile(percentile / 100))
    kept: list[Tensor] = []
    found = made = 0
    while found < n:
        if made >= most:
            raise RuntimeError(f"rejection: {most:,} draws gave {found} of {n}: raise most, or lower the percentile")
        rows = draw(min(8192, most - made), random)
        log_r = log_ratio(rows).double()
        made += len(rows)
        largest = torch.maximum(largest, log_r.max())
        chance = (_logit(log_r, largest) - gamma).sigmoid()
        chosen = rows[torch.rand(len(rows), generator=random, dtype=torch.float64).to(chance.device) < chance]
        kept.append(chosen)
        found += len(chosen)
    return torch.cat(kept)[:n]


def metropolis_hastings(
    draw: Draw,
    log_ratio: LogRatio,
    n: int,
    *,
    start: Any = None,
    steps: int = 640,
    seed: Seed = None,
) -> Tensor:
    """Draws by independent Metropolis-Hastings chains, all at once; see the module.

    Args:
        draw: Draws of the generator.
        log_ratio: Log p/q at them.
        n: Draws that are wanted, one chain each.
        start: Held-out data to start at, with shape (m, *event_shape); a chain that never leaves its start is started
            again at a draw of the generator, so that no datum is returned. Draws of the generator if None.
        steps: Length of each chain (640 in the paper).
        seed: An int, a ``torch.Generator`` or None for fresh entropy.

    Returns:
        n draws, independent of each other but for data that started two chains.

    Raises:
        ValueError: If a count is not positive.
    """
    check_count(n, "n")
    check_count(steps, "steps")
    random = generator(seed, "cpu")
    now = draw(n, random)
    if start is not None:
        data = torch.as_tensor(start).to(now)
        now = data[torch.randint(len(data), (n,), generator=random).to(now.device)]
    log_r, moved = log_ratio(now).double(), torch.full((n,), start is None, device=now.device)
    for _ in range(2):
        for _ in range(steps):
            proposed = draw(n, random)
            log_new = log_ratio(proposed).double()
            uniform = torch.rand(n, generator=random, dtype=torch.float64).to(log_r.device)
            better = uniform.log() < log_new - log_r
            now = torch.where(better.reshape(-1, *[1] * (now.ndim - 1)), proposed, now)
            log_r = torch.where(better, log_new, log_r)
            moved = moved | better
        if bool(moved.all()):
            break
        again = draw(n, random)
        stuck = ~moved
        now = torch.where(stuck.reshape(-1, *[1] * (now.ndim - 1)), again, now)
        log_r, moved = torch.where(stuck, log_ratio(again).double(), log_r), torch.ones_like(moved)
    return now


def calibrated(log_ratio: LogRatio, data: Any, draws: Any) -> LogRatio:
    r"""The ratio put on its calibration line, :math:`a + b \log r`, by held-out data and fresh draws (Platt's scaling).

    Args:
        log_ratio: Log p/q at samples, as a critic tells it.
        data: Data that the critic has not seen, with shape (n, ...).
        draws: Draws of the generator, with shape (m, ...).

    Returns:
        The calibrated ratio. The line is that of logistic regression, p and q weighing the same however many there are.
    """
    at_p, at_q = (log_ratio(torch.as_tensor(x)).detach().cpu().double() for x in (data, draws))
    intercept, slope = calibration_line(at_p, at_q)

    def line(x: Tensor) -> Tensor:
        return float(intercept) + float(slope) * log_ratio(x)

    return line


def _logit(log_r: Tensor, largest: Tensor) -> Tensor:
    """F without gamma: the logit of r over its largest value, kept finite where it is the largest."""
    below = (log_r - largest).clamp(max=-1e-8)
    return below - torch.log(-torch.expm1(below))
