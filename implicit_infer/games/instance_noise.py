"""Instance noise that is taken away as the game goes: laws that do not overlap are made to, until they do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Noisy(Protocol):
    """What adds noise to samples before they are compared."""

    noise: float


@dataclass(frozen=True)
class AnnealedNoise:
    r"""A standard deviation that falls linearly to 0.

    .. math:: \sigma(t) = \sigma_0 \max(0, 1 - t / u)

    with t the share of the game that has been played. The critic then tells :math:`p * N(0, \sigma^2)` from
    :math:`q * N(0, \sigma^2)`, which overlap whatever the supports of p and q, and whose log-ratio has a slope
    everywhere. Their equilibrium is that of p and q, so that a constant :math:`\sigma` is legal too (``until`` =
    infinity), at the price of details below it.

    References:
        | Amortised MAP Inference for Image Super-resolution (Sønderby et al., 2017)
        | https://arxiv.org/abs/1610.04490

    Args:
        start: :math:`\sigma_0`, in the units of the samples that it is added to.
        until: u, the share of the game after which there is none.

    Raises:
        ValueError: If ``start`` is negative or infinite, or ``until`` is not positive.

    Example:
        >>> AnnealedNoise(0.4, until=0.5).at(0.25)
        0.2
    """

    start: float
    until: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.start < math.inf:
            raise ValueError(f"start: expected a number not below 0; got {self.start}")
        if not self.until > 0:
            raise ValueError(f"until: expected a positive share of the game; got {self.until}")

    def at(self, share: float) -> float:
        """The standard deviation once ``share`` of the game, in [0, 1], has been played."""
        return self.start * max(0.0, 1 - share / self.until)

    def on(self, sight: Noisy) -> Callable[[float], None]:
        """What sets ``sight.noise`` before each step: ``play.run(before=AnnealedNoise(0.5).on(sight))``."""

        def before(share: float) -> None:
            sight.noise = self.at(share)

        return before
