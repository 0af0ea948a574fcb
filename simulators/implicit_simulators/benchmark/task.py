"""What the ten tasks share: the observations that the benchmark published, by number."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from implicit_simulators.base import Simulator
from implicit_simulators.benchmark.publication import OBSERVATIONS, recorded


class BenchmarkTask(Simulator):
    """A simulator with the ten observations "1", ..., "10", and the parameters that made them."""

    observations: ClassVar[tuple[str, ...]] = OBSERVATIONS

    def _observation(self, name: str) -> Tensor:
        return recorded(self.name, name)[0]

    def true_parameters(self, name: str) -> Tensor:
        """The parameters behind the published observation ``name``, with shape (d,).

        Raises:
            ValueError: If there is none of that name.
        """
        self.observation(name)
        return recorded(self.name, name)[1]
