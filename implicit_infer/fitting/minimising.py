"""The verb ``minimise``: parameters with the lowest expected loss of what a stochastic simulator makes with them."""

from __future__ import annotations

from typing import Any

import torch

from implicit_infer.checks import check_count, check_device, check_simulator
from implicit_infer.fitting.base import Fit, check_start
from implicit_infer.fitting.local_surrogate import LocalSurrogate
from implicit_infer.fitting.objective import ExpectedLoss, Loss
from implicit_infer.fitting.question import FitQuestion
from implicit_simulators import Seed, Simulator, resolve_seed


def minimise(
    simulator: Simulator,
    loss: Loss,
    budget: int = 50_000,
    method: LocalSurrogate | None = None,
    *,
    start: Any = None,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Fit:
    r"""Find the parameters for which a stochastic simulator's draws have the lowest expected loss.

    .. math:: \hat\theta = \arg\min_\theta \mathbb{E}_{x \sim p(x \mid \theta)} [R(x)]

    The simulator need not be differentiable; the loss must be. A local minimum is found, from ``start``.

    Args:
        simulator: What draws x given theta; its prior says where parameters may lie.
        loss: R, from draws of shape (n, \*event_shape) to a loss for each, with shape (n,); in torch.
        budget: Simulations that may be spent, failed ones included.
        method: The search with its settings; ``ii.fitting.LocalSurrogate()`` if None.
        start: Parameters to start from, with shape (d,), or by name; the middle of the prior if None.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where networks are trained.
        progress: Whether to show progress.

    Returns:
        The fit, with ``parameters`` by name and ``trace``; ``figures["objective"]`` is the loss that the last emulator
        foretells.

    Raises:
        ValueError: If the start lies outside of the prior's support, the budget is too small, or the loss gives
            another shape than (n,).
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import implicit_infer as ii
        >>> from implicit_simulators import Rosenbrock
        >>> problem = Rosenbrock(2)
        >>> fit = ii.minimise(problem, problem.loss, 900, start=(2.0, 2.0), progress=False)
        >>> fit.simulations
        900
    """
    if not callable(loss):
        raise TypeError(f"loss: expected a function of draws; got {type(loss).__name__}")
    if method is not None and not isinstance(method, LocalSurrogate):
        raise TypeError(f"method: expected a LocalSurrogate(...) or None; got {type(method).__name__}")
    simulator = check_simulator(simulator)
    question = FitQuestion(
        simulator=simulator,
        data=torch.zeros((0, *simulator.event_shape)),
        budget=check_count(budget, "budget"),
        seed=resolve_seed(seed),
        start=check_start(simulator, start),
        device=check_device(device),
        progress=progress,
    )
    return (LocalSurrogate() if method is None else method).search(question, ExpectedLoss(loss))
