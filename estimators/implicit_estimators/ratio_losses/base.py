"""What every critic loss offers: a scalar of outputs at samples of p and q, and the log-ratio they tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class RatioLoss:
    r"""A loss :math:`2 \pi \, \mathbb{E}_p[a(v)] + 2 (1 - \pi) \, \mathbb{E}_q[b(v)]`.

    A child sets ``name`` and writes ``at_p`` (a) and ``at_q`` (b), or ``loss`` where that is no sum over samples. It
    may remember the batches of its training: ``dataclasses.replace(loss)`` is one that has seen none.

    Args:
        prior: The weight :math:`\pi` of p, in (0, 1). With :math:`\pi = n_p / (n_p + n_q)` every sample counts the
            same, which wastes none when the sets differ in size; the output is then :math:`\log r + \log \frac{\pi}{1
            - \pi}`, and ``log_ratio`` takes the offset off again.

    Raises:
        ValueError: If ``prior`` is not inside (0, 1).
    """

    prior: float = 0.5

    name: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 < self.prior < 1:
            raise ValueError(f"prior: expected a number inside (0, 1); got {self.prior}")

    @property
    def tells_ratio(self) -> bool:
        """Whether ``log_ratio`` is a log-ratio; a critic loss of which it is not hands the output on as it is."""
        return True

    def check_tells_ratio(self) -> None:
        """Refuse, where the ratio itself is wanted, a loss that does not tell it.

        Raises:
            ValueError: If ``tells_ratio`` is False.
        """
        if not self.tells_ratio:
            raise ValueError(f"loss: the critic of {self.name!r} does not tell the ratio p/q")

    def at_p(self, output: Tensor) -> Tensor:
        """The loss of each output at a sample of p, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} must write at_p(output)")

    def at_q(self, output: Tensor) -> Tensor:
        """The loss of each output at a sample of q, elementwise."""
        raise NotImplementedError(f"{type(self).__name__} must write at_q(output)")

    def loss(
        self,
        output_p: Tensor,
        output_q: Tensor,
        weights_p: Tensor | None = None,
        weights_q: Tensor | None = None,
    ) -> Tensor:
        """The scalar that a critic minimises.

        Args:
            output_p: The network's outputs at samples of p, any shape.
            output_q: Its outputs at samples of q; the number may differ.
            weights_p: Weights of the samples of p with the shape of ``output_p``; only their proportions matter.
            weights_q: The same for q.

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If a set is empty, or weights have another shape than their outputs.
        """
        return 2 * self.prior * mean_of(self.at_p(output_p), weights_p, "p") + 2 * (1 - self.prior) * mean_of(
            self.at_q(output_q), weights_q, "q"
        )

    def log_ratio(self, output: Tensor) -> Tensor:
        """Log p/q as the output tells it, elementwise."""
        return output - math.log(self.prior / (1 - self.prior))

    def log_normaliser(self, output_p: Tensor, output_q: Tensor) -> float:
        """What ``log_ratio`` exceeds log p/q by everywhere, as outputs at fresh samples tell; 0 for most losses."""
        return 0.0

    def state_dict(self) -> dict[str, Tensor]:
        """What the loss remembers of its batches, for a checkpoint; nothing for most losses."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave."""


def mean_of(values: Tensor, weights: Tensor | None, side: str) -> Tensor:
    """The weighted mean of values at samples of one side, ``"p"`` or ``"q"``."""
    _check(values, weights, side)
    return values.mean() if weights is None else (weights * values).sum() / weights.sum()


def shares_of(output: Tensor, weights: Tensor | None, side: str) -> Tensor:
    """What each output of one side counts in its mean, with shape (n,)."""
    _check(output, weights, side)
    if weights is None:
        return output.new_full((output.numel(),), 1 / output.numel())
    return weights.flatten() / weights.sum()


def _check(output: Tensor, weights: Tensor | None, side: str) -> None:
    if output.numel() == 0:
        raise ValueError(f"output_{side}: expected outputs of at least one sample; got shape {tuple(output.shape)}")
    if weights is not None and weights.shape != output.shape:
        raise ValueError(f"weights_{side}: expected shape {tuple(output.shape)}; got {tuple(weights.shape)}")


@dataclass(frozen=True)
class EvenLoss(RatioLoss):
    """A loss that weighs p and q evenly by its own nature; ``prior`` stays 1/2.

    Raises:
        ValueError: If ``prior`` is not 1/2.
    """

    def __post_init__(self) -> None:
        if self.prior != 0.5:
            raise ValueError(f"prior: the loss {self.name!r} weighs p and q evenly (0.5); got {self.prior}")

    def log_ratio(self, output: Tensor) -> Tensor:
        """The output itself."""
        return output
