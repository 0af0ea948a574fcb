"""How long a game is played and with which steps, whichever the game."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Training:
    r"""How long a game is played and with which steps, whichever the game.

    Both players use Adam. The generator that is kept is the exponential moving average of its weights (Yazıcı et al.,
    2019): the iterates of a game circle around the equilibrium that their average approaches.

    References:
        | The unusual effectiveness of averaging in GAN training (Yazıcı et al., 2019)
        | https://arxiv.org/abs/1806.04498

    Args:
        steps: Generator steps.
        learning_rate: Adam's step size of the generator.
        critic_learning_rate: The same of the critic; two time scales (TTUR, Heusel et al., 2017) where it differs.
        betas: Adam's decay rates.
        schedule: "cosine-tail" lowers the step sizes by a cosine to 0 over the second half; "constant" does not.
        average: Decay of the moving average of the generator's weights; 0 keeps the last iterate.
        marks: Points of the history.

    Raises:
        ValueError: If a number is out of its range.
    """

    steps: int = 8000
    learning_rate: float = 1e-3
    critic_learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.0, 0.99)
    schedule: Literal["cosine-tail", "constant"] = "cosine-tail"
    average: float = 0.998
    marks: int = 100

    def __post_init__(self) -> None:
        for argument in ("steps", "marks"):
            if getattr(self, argument) < 1:
                raise ValueError(f"{argument}: expected a positive int; got {getattr(self, argument)}")
        for argument in ("learning_rate", "critic_learning_rate"):
            if not 0 < getattr(self, argument) < math.inf:
                raise ValueError(f"{argument}: expected a positive number; got {getattr(self, argument)}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: expected a decay in [0, 1); got {self.average}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two decays in [0, 1); got {self.betas}")
        if self.schedule not in ("cosine-tail", "constant"):
            raise ValueError(f"schedule: expected 'cosine-tail' or 'constant'; got {self.schedule!r}")

    def rate(self, step: int) -> float:
        """The factor on the step sizes at a step from 1 to ``steps``."""
        share = step / self.steps
        if self.schedule == "constant" or share < 0.5:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (2 * share - 1)))
