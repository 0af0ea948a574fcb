"""The verbs a user types: each checks what it was given, then hands over to the part that does the work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from implicit_infer.catalogue import find, ratio_methods, resolve_method
from implicit_infer.checks import check_count, check_device, check_observed, check_runs, check_simulator
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import track
from implicit_simulators import Seed, Simulator, resolve_seed

if TYPE_CHECKING:
    from implicit_estimators.ratio.base import RatioEstimator
    from implicit_infer.compare.comparison import Comparison
    from implicit_infer.runs import Runs
    from implicit_infer.stored import StoredRuns


def infer(
    simulator: Simulator,
    observed: Any,
    method: str | Method = "nre",
    budget: int | None = None,
    *,
    runs: Runs | StoredRuns | str | os.PathLike[str] | None = None,
    seed: Seed = 0,
    device: str = "cpu",
    workers: int = 1,
    progress: bool = True,
) -> Posterior:
    r"""Infer the parameters that made one observation, without a likelihood.

    .. math:: p(\theta \mid x) \propto p(\theta) \, p(x \mid \theta)

    Args:
        simulator: What draws x given theta, with its prior.
        observed: The observation, with shape ``simulator.event_shape``, or the name of one that ships with the
            simulator.
        method: A name of ``ii.methods()``, or a method with its settings, such as
            ``ii.posteriors.NRE(hidden=(64, 64))``.
        budget: Simulations that may be spent, failed ones included: 10,000 if None, or as many as there are ``runs``.
        runs: Simulations from the prior that ``ii.simulate`` made before: ``Runs``, or a store that is read as it is
            needed (:func:`implicit_infer.stored.open_runs`, or its path). ``nre``, ``npe`` and ``gatsbi`` train on more
            than fits in memory; other methods read it whole.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where networks are trained.
        workers: Processes for simulation.
        progress: Whether to show progress.

    Returns:
        A posterior that can be sampled, with ``log_prob`` where the method has a density.

    Raises:
        ValueError: If the method is unknown, the observation has another shape or is not finite, a count is not
            positive, the device is not there, or ``runs`` are of another simulator; before anything runs.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import implicit_infer as ii
        >>> from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
        >>> posterior = ii.infer(GaussianLinear(2), [0.1, -0.2], method="rejection-abc", budget=1000, progress=False)
        >>> posterior.sample((5,), seed=0).shape
        torch.Size([5, 2])
    """
    resolved = resolve_method(method)
    simulator = check_simulator(simulator)
    bank = None if runs is None else check_runs(simulator, runs)
    if budget is None:
        budget = 10_000 if bank is None else len(bank)
    question = Question(
        simulator=simulator,
        observed=check_observed(simulator, observed),
        budget=check_count(budget, "budget"),
        bank=bank,
        seed=resolve_seed(seed),
        device=check_device(device),
        workers=check_count(workers, "workers"),
        progress=progress,
    )
    return resolved.infer(question)


def estimate_ratio(
    p: Any,
    q: Any,
    method: str | RatioEstimator = "auto",
    *,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
    **settings: Any,
) -> RatioEstimator:
    r"""Estimate the ratio of two densities from samples of each.

    .. math:: r(x) = p(x) / q(x)

    Args:
        p: Samples of the numerator, with shape (n, d) or (n,): tensor, array or frame.
        q: Samples of the denominator, with shape (m, d) or (m,).
        method: A name of ``ii.ratio_methods()``, "auto" for the first of them, or an estimator with its settings.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where to train.
        progress: Whether to show progress.
        **settings: Settings of the method, where it is given by name.

    Returns:
        The fitted estimator: ``log_ratio(x)``, ``divergence("kl")``, and ``check()`` for its trust.

    Raises:
        ValueError: If the method is unknown, the samples have different widths, or values are not finite.
        TypeError: If samples are not numeric, the method has no such setting, or settings come with an estimator.

    Example:
        >>> import torch, implicit_infer as ii
        >>> p = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
        >>> ratio = ii.estimate_ratio(p, p + 1, seed=0, progress=False)
        >>> bool(ratio.log_ratio([[-1.0]]) > 0)
        True
    """
    from implicit_estimators.ratio.base import RatioEstimator

    if isinstance(method, RatioEstimator):
        if settings:
            raise TypeError(f"settings: expected none beside a {type(method).__name__}; got {', '.join(settings)}")
        estimator = method
    else:
        known = ratio_methods()
        found = find(next(iter(known)) if method == "auto" else method, known, "method")
        estimator = found(**settings)
    seed, device = resolve_seed(seed), check_device(device)
    with track(f"fitting the {estimator.name} ratio", getattr(estimator, "epochs", None), show=progress) as bar:
        return estimator.fit(p, q, seed=seed, device=device, progress=lambda epoch, figures: bar.update(1, **figures))


def compare(
    simulator: Simulator,
    observed: Any,
    methods: Sequence[str | Method] | Mapping[str, str | Method],
    budgets: int | Sequence[int] = (1_000, 10_000),
    repeats: int = 3,
    *,
    out: str | os.PathLike[str],
    seed: int = 0,
    workers: int = 1,
    device: str = "cpu",
    reference: Literal["auto"] | Any | None = "auto",
    draws: int = 1000,
    predictive: int = 500,
    progress: bool = True,
) -> Comparison:
    """Ask many methods the same question at the same budget, and say how far each is from the truth.

    All methods see the same prior simulations: one bank per repeat, made once and kept in ``out``; a method that
    chooses its own parameters (SMC-ABC) spends its own. Every finished run is written as it ends; called again with
    the same ``out``, what is missing (or failed) is done and nothing else.

    Args:
        simulator: What draws x given theta, with its prior.
        observed: The observation, with shape ``simulator.event_shape``, or the name of one that ships with the
            simulator.
        methods: Names of ``ii.methods()`` or methods with their settings; as a dict, the keys are the labels under
            which they appear, so that several variants of one method can be compared.
        budgets: Simulations that each method may spend, failed ones included.
        repeats: Independent repetitions, each with its own simulations and seeds.
        out: Folder of this comparison; made if need be.
        seed: Root of every random number.
        workers: Worker processes; each runs one method at a time on one thread.
        device: Where networks are trained.
        reference: Draws from the true posterior with shape (n, d); "auto" takes the exact posterior or NUTS where the
            simulator has one; None goes without.
        draws: Posterior draws of each method that are kept and scored.
        predictive: How many of them are simulated again for the predictive check, which the budget does not count.
        progress: Whether to show progress.

    Returns:
        The comparison, with ``table``, ``summary()`` and ``report()``.

    Raises:
        ValueError: If a method is unknown or named twice, the observation has another shape or is not finite, a count
            is not positive, the device is not there, or ``out`` belongs to another question; before anything runs.
        TypeError: If an argument is of the wrong kind.
    """
    from implicit_infer.compare.folder import Folder
    from implicit_infer.compare.plan import Plan
    from implicit_infer.compare.run_all import run_all

    plan = Plan.checked(
        simulator,
        observed,
        methods=methods,
        budgets=budgets,
        repeats=repeats,
        seed=seed,
        device=device,
        reference=reference,
        draws=draws,
        predictive=predictive,
    )
    return run_all(plan, Folder(out), workers=check_count(workers, "workers"), progress=progress)
