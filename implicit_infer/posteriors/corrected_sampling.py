r"""From weighted draws of q to draws of the corrected law: by rejection under a calibrated bound, or by resampling.

With weights w = p/q, a draw is accepted with probability :math:`\min(1, w / c)`. No c is safe where weights have a
tail, and one that is safe accepts next to nothing; but the law of what is accepted,
:math:`\propto q \min(w, c)`, is within

.. math:: \epsilon(c) = \frac{\mathbb{E}_q (w - c)_+}{\mathbb{E}_q w}

of the wanted one in total variation, so c is the smallest with :math:`\epsilon(c)` below what may be lost. Accepted
draws all differ, where resampling (SIR) repeats them.

References:
    | Various techniques used in connection with random digits (von Neumann, 1951), rejection
    | Discriminator Rejection Sampling (Azadi et al., 2018), from a classifier's ratio
    | https://arxiv.org/abs/1810.06758
    | Using the SIR algorithm to simulate posterior distributions (Rubin, 1988), resampling
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Propose = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""``propose(m, rows)``: m draws at each of the B observations numbered ``rows``, (m, B, d), and log-weights (m, B)."""

LEAST = 256
"""Draws that a bound is calibrated with."""

ROUNDS = 30
"""Times that more draws are asked for before repeated ones fill the rest."""


@dataclass(frozen=True)
class Reweighting:
    r"""How weighted draws become draws.

    Args:
        by: "rejection" (no draw comes twice) or "resampling" (systematic; draws of large weight come several times).
        oversample: Draws of q for each draw wanted: of a round of rejection, or to resample from.
        lost: :math:`\epsilon`, the total variation that the bound of rejection may cost.

    Raises:
        ValueError: If there is no such way, or a number is out of its range.
    """

    by: Literal["rejection", "resampling"] = "rejection"
    oversample: int = 4
    lost: float = 0.01

    def __post_init__(self) -> None:
        if self.by not in ("rejection", "resampling"):
            raise ValueError(f"by: expected 'rejection' or 'resampling'; got {self.by!r}")
        if self.oversample < 1 or not 0 < self.lost < 1:
            raise ValueError(
                "oversample, lost: expected a positive int and a share inside (0, 1); got "
                f"{self.oversample}, {self.lost}"
            )

    def draw(self, propose: Propose, n: int, batch: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """N draws at each of ``batch`` observations, and what to tell of it.

        Args:
            propose: Gives weighted draws.
            n: Draws wanted.
            batch: B, the number of observations.
            generator: Source of the random numbers.

        Returns:
            Draws with shape (n, B, d); and the smallest relative effective sample size over observations, the share
            of draws that were accepted, and the share that repeats filled after all.
        """
        everyone = torch.arange(batch)
        theta, log_weight = propose(max(LEAST, self.oversample * n), everyone)
        weight = (log_weight.double() - log_weight.double().amax(0)).exp()
        figures = {"effective_share": float((weight.mean(0).square() / weight.square().mean(0)).min())}
        if self.by == "resampling":
            chosen = systematic(weight, n, generator)
            return theta.gather(0, chosen[..., None].expand(-1, -1, theta.shape[2])), figures
        bound = log_bound(log_weight.double(), self.lost)
        kept: list[Tensor] = [theta[:0, i] for i in range(batch)]
        proposed = accepted = 0
        rows, pool, pool_weight = everyone, theta, weight
        for _ in range(ROUNDS):
            chance = torch.rand(log_weight.shape, generator=generator, dtype=torch.float64)
            take = chance.log() < log_weight.double() - bound[rows]
            proposed, accepted = proposed + take.numel(), accepted + int(take.sum())
            for place, row in enumerate(rows.tolist()):
                kept[row] = torch.cat((kept[row], theta[take[:, place], place]))
            rows = torch.tensor([row for row in rows.tolist() if len(kept[row]) < n], dtype=torch.long)
            if not len(rows):
                break
            theta, log_weight = propose(max(LEAST, self.oversample * n), rows)
        missing = 0
        for row in rows.tolist():
            short = n - len(kept[row])
            missing += short
            again = systematic(pool_weight[:, row : row + 1], short, generator)[:, 0]
            kept[row] = torch.cat((kept[row], pool[again, row]))
        figures |= {"accepted": accepted / max(1, proposed), "repeated": missing / max(1, n * batch)}
        return torch.stack([draws[:n] for draws in kept], 1), figures


def log_bound(log_weight: Tensor, lost: float) -> Tensor:
    """The smallest log c that loses no more than ``lost``, from m log-weights for each of B targets (m, B); (B,)."""
    largest = log_weight.amax(0)
    ranked = (log_weight - largest).exp().sort(0, descending=True).values
    count = torch.arange(1, len(ranked) + 1, dtype=ranked.dtype)[:, None]
    total = ranked.cumsum(0)
    # with c at the k-th largest weight, the k larger ones lose what they have above it
    excess = (total - count * ranked) / total[-1]
    k = (excess <= lost).sum(0).clamp(min=1, max=len(ranked))
    below = total.gather(0, (k - 1)[None])[0]
    # between the k-th and the next weight the loss is linear in c
    c = (below - lost * total[-1]) / k
    return c.clamp(min=1e-300).log().clamp(max=0.0) + largest


def systematic(weight: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Rows (n, B) drawn with probability proportional to ``weight`` (m, B), each within 1 of its expected count."""
    cumulative = (weight / weight.sum(0)).cumsum(0).T.contiguous()
    start = torch.rand((weight.shape[1], 1), generator=generator, dtype=weight.dtype)
    places = (torch.arange(n, dtype=weight.dtype) + start) / max(n, 1)
    chosen = torch.searchsorted(cumulative, places).clamp(max=len(weight) - 1)
    order = torch.rand(chosen.shape, generator=generator).argsort(1)
    return chosen.gather(1, order).T


def log_mean_exp(values: list[Tensor]) -> Tensor:
    """The logarithm of the mean of exp over a list of tensors of one shape."""
    return torch.stack(values).logsumexp(0) - math.log(len(values))
