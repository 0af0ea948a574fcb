"""Several penalties at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.penalties.base import Critic, Penalty
from implicit_estimators.penalties.zero_centred import R1, R2
from implicit_estimators.seeds import Seed, generator


@dataclass(frozen=True)
class Sum(Penalty):
    """The sum of penalties, each with its own weight; "r1+r2" is the name of R1 and R2 together.

    Penalties that draw take their points from one stream in turn: those of a sum are independent.

    Args:
        parts: At least one penalty.

    Raises:
        ValueError: If there is none.
    """

    parts: tuple[Penalty, ...] = (R1(), R2())

    name = "sum"

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts: expected at least one penalty; got none")

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, seed: Seed = None, condition: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Penalty.penalty`."""
        random = generator(seed, real.device)
        return torch.stack([part.penalty(critic, real, fake, random, condition) for part in self.parts]).sum()
