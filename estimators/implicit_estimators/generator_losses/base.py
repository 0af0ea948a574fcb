"""What every generator loss offers: a scalar of what the critic says at the model's draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class GeneratorLoss:
    """A loss of the log-ratio at the model's draws. A child sets ``name`` and writes ``each``, or ``loss`` if no mean.

    Attributes:
        name: The name in ``GENERATOR_LOSSES``.
        needs_data: Whether the loss looks at the critic's values at the data.
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool] = False

    def loss(self, log_ratio: Tensor, at_data: Tensor | None = None) -> Tensor:
        """The scalar that the model minimises.

        Args:
            log_ratio: Log p/q (or a critic's output) at the model's draws, any shape.
            at_data: The same at samples of the data, for losses that compare both (relativistic ones).

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If there are no draws, or values at the data are needed and missing.
        """
        check_draws(log_ratio)
        return self.each(log_ratio).mean()

    def each(self, log_ratio: Tensor) -> Tensor:
        """The loss of each draw, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} must write each(log_ratio), or loss(log_ratio, at_data)")


def check_draws(log_ratio: Tensor) -> None:
    """Refuse an empty batch, whose mean would be NaN.

    Raises:
        ValueError: If there are no values.
    """
    if log_ratio.numel() == 0:
        raise ValueError(f"log_ratio: expected values at one draw at least; got shape {tuple(log_ratio.shape)}")
