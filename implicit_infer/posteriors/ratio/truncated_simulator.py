"""A simulator that is asked of a box of its parameters only: any method then finds the posterior within the box."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from implicit_infer.posteriors.ratio.truncated_prior import TruncatedPrior
from implicit_simulators import Simulator, Stream


class TruncatedSimulator(Simulator):
    """The same simulations under a prior restricted to a box.

    Args:
        simulator: The simulator.
        low: Lower bounds with shape (d,).
        high: Upper bounds with shape (d,).

    Raises:
        ValueError: If the simulator's prior cannot be restricted to that box.
    """

    def __init__(self, simulator: Simulator, low: Tensor, high: Tensor) -> None:
        self.base = simulator
        self.name, self.parameter_names, self.event_shape = (
            simulator.name,
            simulator.parameter_names,
            simulator.event_shape,
        )
        self.differentiable, self.block, self.points = simulator.differentiable, simulator.block, simulator.points
        self.releases_gil = simulator.releases_gil
        self.prior: TruncatedPrior = TruncatedPrior(simulator.prior, low, high)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        return self.base._simulate(theta, stream)

    def summarize(self, x: Tensor) -> Tensor:
        """What the simulator itself makes of x."""
        return self.base.summarize(x)

    def settings(self) -> dict[str, Any]:
        """Those of the simulator, and the box."""
        return {**self.base.settings(), "low": self.prior.low.tolist(), "high": self.prior.high.tolist()}
