r"""Are a flow's codes of data normal? They are, if and only if the flow's law is that of the data.

A flow that was learned by comparison may draw well and yet give data a density of next to nothing: its codes
:math:`f(x)` of data then lie far out, or in clumps, where the normal law of the codes has no mass
(Danihelka et al., 2017).

References:
    | Comparison of Maximum Likelihood and GAN-based training of Real NVPs (Danihelka et al., 2017)
    | https://arxiv.org/abs/1705.05263
    | Energy statistics: A class of statistics based on distances (Székely and Rizzo, 2013)
    | https://doi.org/10.1016/j.jspi.2013.03.018
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.seeds import Seed, generator

MEAN_KOLMOGOROV = math.sqrt(math.pi / 2) * math.log(2)
"""Mean of Kolmogorov's law: what sqrt(n) times the statistic is on average where the law is right."""


@dataclass(frozen=True)
class Normality:
    r"""How far codes are from independent standard normal ones; all are 0 for the right law, up to noise.

    Attributes:
        kolmogorov: The Kolmogorov-Smirnov distance of each coordinate from N(0, 1), averaged over coordinates: 0 to 1.
        by_chance: What that is on average for as many codes that are normal.
        energy: The energy distance :math:`2 E|y - z| - E|y - y'| - E|z - z'|` of the codes y from normal z, over
            :math:`E|z - z'|`; of at most 2,000 codes.
        kurtosis: Excess kurtosis, averaged over coordinates.
        log_spread: Mean over coordinates of the logarithm of the codes' standard deviation.
    """

    kolmogorov: float
    by_chance: float
    energy: float
    kurtosis: float
    log_spread: float


def normality(codes: Tensor, seed: Seed = 0) -> Normality:
    """Measure how far codes are from normal ones.

    Args:
        codes: With shape (n, d), n at least 2.
        seed: Source of the normal sample that the energy distance is taken from.

    Returns:
        The measures; NaN where codes are not finite.

    Raises:
        ValueError: If the shape is another.
    """
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(f"codes: expected shape (n, d) with n at least 2; got {tuple(codes.shape)}")
    n = len(codes)
    chance = MEAN_KOLMOGOROV / math.sqrt(n)
    if not codes.isfinite().all():
        return Normality(math.nan, chance, math.nan, math.nan, math.nan)
    rows = codes.detach().double()
    ordered = torch.special.ndtr(rows.sort(0).values)
    steps = torch.arange(n + 1, dtype=torch.float64, device=rows.device)[:, None] / n
    gaps = torch.maximum(ordered - steps[:-1], steps[1:] - ordered).amax(0)
    spread = rows.std(0).clamp(min=1e-300)
    standard = (rows - rows.mean(0)) / spread
    return Normality(
        kolmogorov=float(gaps.mean()),
        by_chance=chance,
        energy=_energy(rows, seed),
        kurtosis=float(standard.pow(4).mean(0).mean() - 3),
        log_spread=float(spread.log().mean()),
    )


@torch.no_grad()
def codes_of(module: Any, data: Tensor, condition: Tensor | None = None) -> Tensor:
    """A flow's codes of data, in float64, as single precision would not do where the flow is stretched.

    Args:
        module: A network with ``latent``.
        data: With shape (n, *event_shape).
        condition: With n rows, or None.

    Returns:
        Codes with shape (n, d).
    """
    precise = copy.deepcopy(module).double().eval()
    given = () if condition is None else (condition.double(),)
    return precise.latent(data.double(), *given)


def _energy(rows: Tensor, seed: Seed, most: int = 2000) -> float:
    random = generator(seed, rows.device)
    some = rows[torch.randperm(len(rows), generator=random, device=rows.device)[:most]]
    n = len(some)
    z = torch.randn(some.shape, generator=random, device=rows.device, dtype=rows.dtype)
    # E|z - z'| is known, but taken from the same sample its noise cancels that of the other terms
    between = torch.cdist(some, z).mean()
    within, unit = (torch.cdist(sample, sample).sum() / (n * (n - 1)) for sample in (some, z))
    return float((2 * between - within - unit) / unit)
