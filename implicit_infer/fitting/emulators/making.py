"""The verb ``emulate``: simulations in, a differentiable simulator out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from implicit_infer.checks import check_count, check_device, check_runs, check_simulator
from implicit_infer.fitting.emulators.emulation import Emulation
from implicit_infer.fitting.emulators.emulator import Emulator
from implicit_infer.fitting.emulators.learning import learned, resolve_emulation
from implicit_infer.fitting.emulators.proposals import Region, proposed
from implicit_infer.simulate import simulate
from implicit_infer.stored import StoredRuns
from implicit_simulators import Seed, Simulator, resolve_seed

if TYPE_CHECKING:
    from implicit_infer.runs import Runs


def emulate(
    simulator: Simulator,
    budget: int | None = None,
    method: str | Emulation = "flow",
    *,
    region: Region = None,
    runs: Runs | StoredRuns | str | os.PathLike[str] | None = None,
    held_out: float = 0.1,
    seed: Seed = 0,
    device: str = "cpu",
    workers: int = 1,
    progress: bool = True,
) -> Emulator:
    r"""Learn a differentiable stand-in for a simulator from its simulations.

    The emulator is a ``Simulator`` with the same prior, names and shapes, whose draws follow theta smoothly: whatever
    needs gradients through a simulator, or more simulations than can be paid for, takes it in the simulator's place.
    What it gives is as good as ``emulator.check()`` says, and no better.

    Args:
        simulator: What is emulated.
        budget: Simulations that may be spent, failed ones included: 10,000 if None, or as many as there are ``runs``.
        method: "flow" (a conditional flow by maximum likelihood, with a density), "gan" (a conditional generator
            against a critic), "energy" (a conditional generator by the energy score: the quickest), or one of these
            with its settings, such as ``ii.fitting.FlowEmulation(transforms=5)``.
        region: Where in parameter space: a box ``(low, high)``, which is filled by a Latin hypercube, a distribution
            over theta, or None for the prior.
        runs: Simulations from the prior that ``ii.simulate`` made before, in place of new ones.
        held_out: Share of the simulations that is set aside to choose by, and as many again for the check.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where to train.
        workers: Processes for simulation from the prior.
        progress: Whether to show progress.

    Returns:
        The emulator; with ``log_likelihood`` where the method gives a density.

    Raises:
        ValueError: If the method is unknown, the region is not inside the prior's support, a number is out of its
            range, or too few simulations did not fail.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import torch, implicit_infer as ii
        >>> from implicit_simulators.benchmark import GaussianLinear
        >>> from implicit_infer.games import Training
        >>> quick = ii.fitting.ScoredEmulation(training=Training(50))
        >>> emulator = ii.emulate(GaussianLinear(2), 500, quick, progress=False)
        >>> theta = torch.zeros(3, 2, requires_grad=True)
        >>> emulator.simulate(theta, seed=0).sum().backward()
        >>> theta.grad.shape
        torch.Size([3, 2])
    """
    simulator, seed, device = check_simulator(simulator), resolve_seed(seed), check_device(device)
    emulation = resolve_emulation(method)
    if not 0 < held_out < 0.4:
        raise ValueError(f"held_out: expected a share between 0 and 0.4; got {held_out}")
    if runs is not None and region is not None:
        raise ValueError("runs, region: expected one of the two; runs are of the prior")
    if runs is not None:
        bank = check_runs(simulator, runs)
        bank = bank if budget is None else bank.first(check_count(budget, "budget"))
        bank = bank.in_memory() if isinstance(bank, StoredRuns) else bank
        theta, x = bank.theta, bank.x
        return learned(simulator, emulation, theta, x, held_out, seed, device, progress)
    budget = check_count(10_000 if budget is None else budget, "budget")
    if region is None:
        made = simulate(simulator, budget, seed=seed, workers=workers, progress=progress)
        theta, x = made.theta, made.x
    else:
        theta = proposed(simulator, region, budget, seed)
        x = simulator.simulate(theta, seed)
    return learned(simulator, emulation, theta, x, held_out, seed, device, progress)
