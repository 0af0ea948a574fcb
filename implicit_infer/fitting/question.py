"""One fitting problem, checked, as methods receive it, and the only door to the simulator: it counts what is spent."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_simulators import Simulator, Stream


class BudgetSpent(Exception):  # noqa: N818 - not an error: a method that asks for more than is left has come to its end
    """There are fewer simulations left than were asked for."""


@dataclass
class FitQuestion:
    r"""What a fitting method is asked.

    Attributes:
        simulator: The simulator, whose prior says where parameters may lie and where the search begins.
        data: Observations that are independent of one another, with shape (m, \*event_shape): finite.
        budget: Simulations that may be spent, failed ones included; never one more.
        seed: Root of every random number of the fit.
        start: Parameters to start from, with shape (d,), or None where the method draws its own from the prior.
        device: Where networks are trained.
        progress: Whether to show progress.
        spent: Simulations spent so far.
    """

    simulator: Simulator
    data: Tensor
    budget: int
    seed: int
    start: Tensor | None = None
    device: str = "cpu"
    progress: bool = True
    spent: int = field(default=0, init=False)
    calls: int = field(default=0, init=False)

    @property
    def left(self) -> int:
        """Simulations that are left."""
        return self.budget - self.spent

    def simulate(self, theta: Tensor) -> Tensor:
        r"""One x for each row of theta, counted; gradients flow to theta where the simulator is differentiable.

        Args:
            theta: Parameters with shape (n, d), in the prior's support.

        Returns:
            Simulations with shape (n, \*event_shape), each call with a stream of its own; rows that failed hold NaN.

        Raises:
            BudgetSpent: If fewer than n simulations are left; nothing is simulated.
        """
        if len(theta) > self.left:
            raise BudgetSpent(f"{len(theta)} simulations were asked for, and {self.left} are left")
        self.spent += len(theta)
        self.calls += 1
        seed = Stream.of(self.seed, self.calls, "simulate").key
        if theta.requires_grad and self.simulator.differentiable:
            return self.simulator.simulate(theta, seed)
        with torch.no_grad():
            return self.simulator.simulate(theta.detach(), seed)
