"""What every inference method is: settings as keywords, and one question answered with one posterior."""

from __future__ import annotations

from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.posteriors.base import Posterior
from implicit_infer.runs import Runs
from implicit_infer.simulate import simulate
from implicit_infer.stored import StoredRuns
from implicit_simulators import Simulator, Stream


@dataclass(frozen=True)
class Question:
    """One inference problem, checked, as methods receive it.

    Attributes:
        simulator: The simulator.
        observed: The observation, with shape ``simulator.event_shape``, finite.
        budget: Simulations that may be spent, failed ones included; never one more.
        seed: Root of every random number of the run.
        device: Where networks are trained.
        workers: Processes for simulation.
        progress: Whether to show progress.
        bank: Prior simulations made before, in memory or on disk, or None; methods that draw from the prior use its
            first ``budget`` rows.
        checkpoint: Folder that a run in generations is kept in and goes on from, or None.
        executor: Runs simulations in place of ``workers``: any ``concurrent.futures`` executor, a Dask client, or None.
    """

    simulator: Simulator
    observed: Tensor
    budget: int
    seed: int
    device: str = "cpu"
    workers: int = 1
    progress: bool = True
    bank: Runs | StoredRuns | None = None
    checkpoint: str | None = None
    executor: Any = None

    def runs(self) -> Runs | StoredRuns:
        """``budget`` simulations from the prior: the first rows of the bank, or simulated now."""
        if self.bank is not None:
            return self.bank.first(self.budget)
        how = {"workers": self.workers, "executor": self.executor, "progress": self.progress}
        runs = simulate(self.simulator, self.budget, seed=self.seed, **how)
        if len(runs) < self.budget:  # Ctrl-C ends simulate() with what it has; a method must not go on with less
            raise KeyboardInterrupt(f"stopped after {len(runs)} of {self.budget} simulations")
        return runs

    def simulate(self, theta: Tensor, part: int) -> Runs:
        r"""Simulations at parameters that a method chose itself, such as those of a later round.

        Args:
            theta: Parameters with shape (n, d), in the prior's support; the method answers for the budget.
            part: A number from 1 on, another for every call: the stream of the simulations.

        Returns:
            The runs, in the order of theta; rows that failed are NaN.
        """
        seed = Stream.of(self.seed, part, "observe").key
        with torch.no_grad():
            return Runs(theta, self.simulator.simulate(theta, seed), seed, {}, self.simulator.parameter_names)


class Method:
    """Answers a ``Question`` with a ``Posterior``. Children are frozen dataclasses of their settings.

    Attributes:
        name: The method's name in ``ii.methods()`` and on the command line.
        amortised: Whether the posterior answers other observations without more simulations.
        resumes: Whether it keeps a run in ``question.checkpoint``, and goes on from there.
    """

    name: ClassVar[str]
    amortised: ClassVar[bool] = True
    resumes: ClassVar[bool] = False

    def infer(self, question: Question) -> Posterior:
        """Answer the question, spending at most ``question.budget`` simulations."""
        raise NotImplementedError(f"{type(self).__name__} must write infer(question)")

    def settings(self) -> dict[str, Any]:
        """All settings by name, for reports."""
        return asdict(self) if is_dataclass(self) and not isinstance(self, type) else {}
