r"""Optimal transport as a loss: the model descends what it costs to move its draws onto data. Nothing to train.

Unlike a critic's, these losses have a slope wherever the model is. Unlike those of kernels, they are biased on batches:
the least loss lies where the model's draws stand in for the batch's data, within what a batch can tell.

References:
    | Generative Modeling using the Sliced Wasserstein Distance (Deshpande, Zhang and Schwing, 2018)
    | https://arxiv.org/abs/1803.11188
    | Learning Generative Models with Sinkhorn Divergences (Genevay, Peyré and Cuturi, 2018)
    | https://arxiv.org/abs/1706.00292
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_estimators.comparisons.base import Comparison
from implicit_estimators.comparisons.mmd import matrices
from implicit_estimators.discrepancies.sinkhorn import SinkhornDivergence
from implicit_estimators.discrepancies.sliced import SlicedWasserstein, directions, sliced_power, worst_direction
from implicit_estimators.kernels import median_distance
from implicit_estimators.seeds import Seed, generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlicedMatching(Comparison):
    r"""The p-th power of the sliced Wasserstein distance of batches, along fresh directions at each call.

    Args:
        projections: Directions at each call.
        p: Order of the distance, 1 or 2.
        worst: Take the worst direction that ascent from the best of these finds (max-sliced).
        ascent: Steps of that ascent.
        seed: Seed of the directions; how far they have been drawn is part of what the comparison remembers.

    Raises:
        ValueError: If a number is out of its range.
    """

    projections: int = 64
    p: int = 2
    worst: bool = False
    ascent: int = 10
    seed: Seed = 0
    _random: list[torch.Generator] = field(default_factory=list, init=False, repr=False, compare=False)

    name = "sliced-wasserstein"
    trained = False

    def __post_init__(self) -> None:
        SlicedWasserstein(self.projections, self.p, self.worst, self.ascent)

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The power of the distance.

        Args:
            at_data: Samples of the data, with shape (n, d).
            at_model: Draws of the model, with shape (m, d).

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If a batch is empty, or the widths differ.
        """
        x, y = matrices(at_data, at_model, 1)
        if not self._random:
            self._random.append(generator(self.seed, y.device))
        lines = directions(y.shape[1], self.projections, self._random[0], y)
        if self.worst:
            lines = worst_direction(y.detach(), x.detach(), lines, self.p, self.ascent)
        return sliced_power(y, x, lines, self.p)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the stream of directions stands, once any were drawn."""
        return {"random": self._random[0].get_state()} if self._random else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put it back; on the device that it was drawn on."""
        self._random.clear()
        if "random" in state:
            saved = state["random"].cpu()
            # a CPU's state is that of a Mersenne Twister, 5,056 bytes; a GPU's is a seed and an offset
            device = "cpu" if saved.numel() > 64 else "cuda"
            self._random.append(torch.Generator(device=device))
            self._random[0].set_state(saved)


@dataclass(frozen=True)
class SinkhornMatching(Comparison):
    r"""The Sinkhorn divergence of batches, its gradient by the potentials.

    Args:
        epsilon: The regularisation, in units of :math:`|x - y|^k`; None takes ``share`` of the median of that in the
            first batch of data, where it stays, and remembers it (``state_dict``).
        share: See ``epsilon``.
        power: k, 1 or 2.
        iterations: The most iterations at each call.
        tolerance: Iterations stop where the plan's weights differ from even by less than this in all.

    Raises:
        ValueError: If a number is out of its range.
    """

    epsilon: float | None = None
    share: float = 0.05
    power: int = 2
    iterations: int = 100
    tolerance: float = 1e-2
    _placed: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    name = "sinkhorn"
    trained = False

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise ValueError(f"share: expected a positive number; got {self.share}")
        self._divergence(1.0 if self.epsilon is None else self.epsilon)

    def _divergence(self, epsilon: float) -> SinkhornDivergence:
        return SinkhornDivergence(epsilon, self.power, self.iterations, self.tolerance)

    def generator_objective(self, at_data: Tensor, at_model: Tensor) -> Tensor:
        """The divergence.

        Args:
            at_data: Samples of the data, with shape (n, d).
            at_model: Draws of the model, with shape (m, d).

        Returns:
            The loss, with shape ().

        Raises:
            ValueError: If a batch is empty, the widths differ, or ``epsilon`` is to be placed by a single row.
        """
        x, y = matrices(at_data, at_model, 1 if self.epsilon is not None else 2)
        if self.epsilon is None and "epsilon" not in self._placed:
            self._placed["epsilon"] = self.share * median_distance(x, x[:0], seed=0) ** self.power
            logger.info("sinkhorn: epsilon placed at %.4g", self._placed["epsilon"])
        epsilon = self._placed["epsilon"] if self.epsilon is None else self.epsilon
        value, _ = self._divergence(epsilon).unchecked(y, x.to(y))
        return value

    def state_dict(self) -> dict[str, Tensor]:
        """The epsilon that was placed, if one was."""
        return {key: torch.tensor(value, dtype=torch.float64) for key, value in self._placed.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put it back."""
        self._placed.clear()
        self._placed.update({key: float(value) for key, value in state.items()})
