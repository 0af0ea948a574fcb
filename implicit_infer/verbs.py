"""The verbs a user types: each checks what it was given, then hands over to the part that does the work."""

from __future__ import annotations

import contextlib
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from implicit_infer.catalogue import find, ratio_methods, resolve_fit_method, resolve_method
from implicit_infer.checks import check_count, check_device, check_observed, check_runs, check_simulator
from implicit_infer.executors import check_workers
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.progress import track
from implicit_simulators import Seed, Simulator, resolve_seed

if TYPE_CHECKING:
    from implicit_estimators.comparisons import Comparison as SampleComparison
    from implicit_estimators.ratio.base import RatioEstimator
    from implicit_estimators.ratio.conditional import ConditionalRatio
    from implicit_estimators.ratio.mutual_information import MutualInformation
    from implicit_estimators.ratio.two_sample import TwoSampleTest
    from implicit_infer.compare.comparison import Comparison
    from implicit_infer.fitting.base import Fit, FitMethod
    from implicit_infer.runs import Runs
    from implicit_infer.stored import StoredRuns


def infer(
    simulator: Simulator,
    observed: Any,
    method: str | Method = "auto",
    budget: int | None = None,
    *,
    runs: Runs | StoredRuns | str | os.PathLike[str] | None = None,
    seed: Seed = 0,
    device: str = "cpu",
    workers: int = 1,
    executor: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Posterior:
    r"""Infer the parameters that made one observation, without a likelihood.

    .. math:: p(\theta \mid x) \propto p(\theta) \, p(x \mid \theta)

    Args:
        simulator: What draws x given theta, with its prior.
        observed: The observation, with shape ``simulator.event_shape``, or the name of one that ships with the
            simulator.
        method: A name of ``ii.methods()``, or a method with its settings, such as
            ``ii.posteriors.NRE(hidden=(64, 64))``. "auto" learns the posterior or the likelihood, whichever predicts
            held-out parameters better, and simulates in rounds where the posterior of ``observed`` is: its draws are
            for this observation. For other observations too, name an amortised method, such as "npe".
        budget: Simulations that may be spent, failed ones included: 10,000 if None, or as many as there are ``runs``.
        runs: Simulations from the prior that ``ii.simulate`` made before: ``Runs``, or a store that is read as it is
            needed (:func:`implicit_infer.stored.open_runs`, or its path). ``nre``, ``npe`` and ``gatsbi`` train on more
            than fits in memory; other methods read it whole.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where networks are trained.
        workers: Processes for simulation.
        executor: Simulate there instead: any ``concurrent.futures`` executor, or a ``dask.distributed.Client``.
        checkpoint: A folder. A method in generations (``smc-abc``, ``replenishment-abc``, ``abc-mcmc``) is kept there
            as it goes on; the same call goes on from it, bit by bit as if it had never stopped, and a finished run goes
            on where the budget is larger than before. What was made with another question or other settings is refused.
        progress: Whether to show progress.

    Returns:
        A posterior that can be sampled, with ``log_prob`` where the method has a density.

    Raises:
        ValueError: If the method is unknown, the observation has another shape or is not finite, a count is not
            positive, the device is not there, ``runs`` are of another simulator, or the method keeps no checkpoint;
            before anything runs.
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
    if checkpoint is not None and not resolved.resumes:
        raise ValueError(f"checkpoint: {resolved.name} does not run in generations and keeps none; leave it out")
    check_workers(check_count(workers, "workers"), executor)
    question = Question(
        simulator=simulator,
        observed=check_observed(simulator, observed),
        budget=check_count(budget, "budget"),
        bank=bank,
        seed=resolve_seed(seed),
        device=check_device(device),
        workers=workers,
        executor=executor,
        checkpoint=None if checkpoint is None else os.fspath(checkpoint),
        progress=progress,
    )
    return resolved.infer(question)


def fit(
    simulator: Simulator,
    data: Any,
    method: str | FitMethod = "auto",
    comparison: str | SampleComparison | None = None,
    budget: int = 50_000,
    *,
    start: Any = None,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Fit:
    r"""Find the parameters of a simulator that make its draws look like data.

    .. math:: \hat\theta = \arg\min_\theta D\left(p_{\text{data}}, \, p(\cdot \mid \theta)\right)

    Args:
        simulator: What draws x given theta; its prior says where parameters may lie, and where the search begins.
        data: Observations that are independent of one another, with shape (m, \*event_shape); one observation has
            m = 1, and may be named if it ships with the simulator.
        method: A name of ``ii.fit_methods()``, or a method with its settings, such as ``ii.fitting.AVO(entropy=5)``.
        comparison: What D is, for a method that is named and compares draws with data: a name of ``ii.comparisons()``,
            or a comparison with its settings; the method's own if None. A method with its settings brings its own.
        budget: Simulations that may be spent, failed ones included.
        start: Parameters to start from, with shape (d,), or by name; the method draws its own if None.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where networks are trained.
        progress: Whether to show progress.

    Returns:
        The fit, with ``parameters`` by name, ``sample`` where the method leaves a distribution over them, ``trace``,
        ``warnings``, ``summary``, ``plot`` and ``save``.

    Raises:
        ValueError: If the method or the comparison is unknown, the method needs gradients and the simulator has none,
            data or start do not fit the simulator, a count is not positive, or the device is not there; before
            anything runs.
        TypeError: If an argument is of the wrong kind.
    """
    from implicit_infer.fitting.base import check_data, check_fit_method, check_start
    from implicit_infer.fitting.question import FitQuestion

    resolved = resolve_fit_method(method, comparison)
    simulator = check_simulator(simulator)
    check_fit_method(resolved, simulator)
    question = FitQuestion(
        simulator=simulator,
        data=check_data(simulator, data).detach().cpu(),
        budget=check_count(budget, "budget"),
        seed=resolve_seed(seed),
        start=check_start(simulator, start),
        device=check_device(device),
        progress=progress,
    )
    return resolved.fit(question)


@overload
def estimate_ratio(
    p: Any,
    q: Any,
    method: str | RatioEstimator = "auto",
    *,
    condition: None = None,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
    **settings: Any,
) -> RatioEstimator: ...


@overload
def estimate_ratio(
    p: Any,
    q: Any,
    method: str | RatioEstimator = "auto",
    *,
    condition: Any,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
    **settings: Any,
) -> ConditionalRatio: ...


def estimate_ratio(
    p: Any,
    q: Any,
    method: str | RatioEstimator = "auto",
    *,
    condition: Any = None,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
    **settings: Any,
) -> RatioEstimator | ConditionalRatio:
    r"""Estimate the ratio of two densities from samples of each.

    .. math:: r(x) = p(x) / q(x), \quad \text{or} \quad r(x \mid c) = p(x \mid c) / q(x \mid c)

    Args:
        p: Samples of the numerator, with shape (n, d) or (n,): tensor, array or frame.
        q: Samples of the denominator, with shape (m, d) or (m,). With a condition it may be None: q is then the
            marginal of ``p`` over its conditions.
        method: A name of ``ii.ratio_methods()``, "auto", or an estimator with its settings.
        condition: For a conditional ratio, the conditions of both as ``(c_p, c_q)``, one row for each sample; those of
            p alone where q is None.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where to train.
        progress: Whether to show progress.
        **settings: Settings of the method, where it is given by name.

    Returns:
        The fitted estimator: ``log_ratio(x)``, ``divergence("kl")``, ``weights(x)``, and ``check()`` and ``plot()`` for
        its trust; with a condition, ``log_ratio(x, condition)``.

    Raises:
        ValueError: If the method is unknown, the samples have different widths, or values are not finite.
        TypeError: If samples are not numeric, the method has no such setting, or settings come with an estimator.

    Example:
        >>> import torch, implicit_infer as ii
        >>> p = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
        >>> ratio = ii.estimate_ratio(p, p.flip(0) + 1, method="logistic", seed=0, progress=False)
        >>> bool(ratio.log_ratio([[-1.0]]) > 0)
        True
    """
    from implicit_estimators.ratio.conditional import ConditionalRatio

    estimator = _ratio_estimator(method, settings)
    seed, device = resolve_seed(seed), check_device(device)
    with _fitting(estimator, progress) as tell:
        if condition is None:
            return estimator.fit(p, q, seed=seed, device=device, progress=tell)
        conditional = ConditionalRatio(estimator)
        return conditional.fit(p, q, condition=condition, seed=seed, device=device, progress=tell)


def mutual_information(
    x: Any,
    y: Any,
    method: str | RatioEstimator = "auto",
    *,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
    **settings: Any,
) -> MutualInformation:
    r"""Estimate how much two variables tell of one another, from paired samples.

    .. math:: I(x; y) = KL\left(p(x, y) \,\|\, p(x) p(y)\right)

    Args:
        x: Samples with shape (n, d) or (n,): tensor, array or frame.
        y: Samples of the other variable, with shape (n, k) or (n,): row i belongs to row i of ``x``.
        method: A name of ``ii.ratio_methods()``, "auto", or an estimator with its settings.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where to train.
        progress: Whether to show progress.
        **settings: Settings of the method, where it is given by name.

    Returns:
        A float in nats with ``standard_error``, and with the fitted ``ratio`` of the joint law to the product of the
        marginals, whose ``log_ratio`` takes rows (x, y) side by side. It is judged by a quarter of the rows, which the
        ratio was not learned from.

    Raises:
        ValueError: If ``x`` and ``y`` differ in length, there are fewer than 8 rows, values are not finite, or the
            method is unknown.
        TypeError: If samples are not numeric, the method has no such setting, or settings come with an estimator.

    Example:
        >>> import math, torch, implicit_infer as ii
        >>> x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
        >>> y = x + torch.randn(2000, generator=torch.Generator().manual_seed(1))
        >>> found = ii.mutual_information(x, y, method="logistic", seed=0, progress=False)
        >>> abs(found - 0.5 * math.log(2)) < 4 * found.standard_error  # correlation 1/sqrt(2)
        True
    """
    from implicit_estimators.ratio.mutual_information import mutual_information

    estimator = _ratio_estimator(method, settings)
    seed, device = resolve_seed(seed), check_device(device)
    with _fitting(estimator, progress) as tell:
        return mutual_information(x, y, estimator, seed=seed, device=device, progress=tell)


def two_sample_test(
    p: Any,
    q: Any,
    method: str | RatioEstimator = "auto",
    *,
    permutations: int = 999,
    seed: Seed = 0,
    device: str = "cpu",
    progress: bool = True,
    **settings: Any,
) -> TwoSampleTest:
    """Test whether two sets of samples are of one distribution.

    A ratio is learned from one half of each set; the p-value comes from permuting the labels of the other half, and is
    exact at any sample size, whatever the method.

    Args:
        p: Samples with shape (n, d) or (n,), independent of one another: tensor, array or frame.
        q: Samples with shape (m, d) or (m,).
        method: A name of ``ii.ratio_methods()``, "auto", or an estimator with its settings.
        permutations: Random permutations; the p-value is at least 1 / (permutations + 1).
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        device: Where to train.
        progress: Whether to show progress.
        **settings: Settings of the method, where it is given by name.

    Returns:
        ``p_value`` and ``statistic`` (the mean of r / (1 + r) over p less that over q), and the fitted ``ratio``.

    Raises:
        ValueError: If the samples have different widths, a set has fewer than 4 rows, values are not finite, the
            method is unknown or a count is not positive.
        TypeError: If an argument is of the wrong kind, or settings come with an estimator.

    Example:
        >>> import torch, implicit_infer as ii
        >>> p, q = torch.randn(2, 500, generator=torch.Generator().manual_seed(0))
        >>> ii.two_sample_test(p, q + 0.5, method="logistic", seed=0, progress=False).p_value
        0.001
    """
    from implicit_estimators.ratio.two_sample import two_sample_test

    estimator = _ratio_estimator(method, settings)
    permutations, seed, device = check_count(permutations, "permutations"), resolve_seed(seed), check_device(device)
    with _fitting(estimator, progress) as tell:
        return two_sample_test(p, q, estimator, permutations=permutations, seed=seed, device=device, progress=tell)


def load_ratio(path: str | os.PathLike[str], device: str = "cpu") -> Any:
    """Read a fitted ratio that ``ratio.save(path)`` wrote, whatever its class.

    Args:
        path: The file.
        device: Where it shall lie.

    Returns:
        The estimator, fitted.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds something else, or the device is not there.
    """
    from implicit_estimators.networks import storage
    from implicit_estimators.ratio.conditional import ConditionalRatio

    kind, known = storage.kind(path), ratio_methods()
    if kind == ConditionalRatio.name:
        return ConditionalRatio.load(path, check_device(device))
    if kind not in known:
        raise ValueError(f"path: expected a saved ratio; {os.fspath(path)} holds a {kind}")
    return known[kind].load(path, check_device(device))


def _ratio_estimator(method: str | RatioEstimator, settings: dict[str, Any]) -> RatioEstimator:
    """The estimator that a user names or gives."""
    from implicit_estimators.ratio.base import RatioEstimator

    if isinstance(method, RatioEstimator):
        if settings:
            raise TypeError(f"settings: expected none beside a {type(method).__name__}; got {', '.join(settings)}")
        return method
    known = ratio_methods()
    name = method if method != "auto" or "auto" in known else next(iter(known))
    chosen = find(name, known, "method")
    accepted = list(inspect.signature(chosen).parameters)
    unknown = [setting for setting in settings if setting not in accepted]
    if unknown:
        raise TypeError(f"settings: {name} has {', '.join(accepted) or 'none'}; got {', '.join(unknown)}")
    return chosen(**settings)


@contextlib.contextmanager
def _fitting(estimator: RatioEstimator, show: bool) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A bar for a fit, with the epochs that it does in a second."""
    start = time.monotonic()
    with track(f"fitting the {estimator.name} ratio", getattr(estimator, "epochs", None), show=show) as bar:

        def tell(epoch: int, figures: dict[str, float]) -> None:
            rate = (bar.done + 1) / max(time.monotonic() - start, 1e-9)
            bar.update(1, **figures, **{"per second": rate})

        yield tell


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
