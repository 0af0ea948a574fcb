"""The verb for model choice: which of several simulators made the observation?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from implicit_infer.abc.model_choice.base import ChoiceMethod, ModelChoice, ModelQuestion
from implicit_infer.abc.model_choice.forest import ForestChoice
from implicit_infer.abc.model_choice.rejection import RejectionChoice
from implicit_infer.abc.model_choice.smc import SMCChoice
from implicit_infer.catalogue import find
from implicit_infer.checks import check_count, check_simulator
from implicit_simulators import Seed, Simulator, resolve_seed

CHOICE_METHODS: dict[str, type[ChoiceMethod]] = {
    method.name: method for method in (ForestChoice, RejectionChoice, SMCChoice)
}
"""Ways to choose a model, by name."""


def choose_model(
    simulators: Sequence[Simulator] | Mapping[str, Simulator],
    observed: Any,
    method: str | ChoiceMethod = "forest",
    budget: int = 10_000,
    *,
    prior: Sequence[float] | Mapping[str, float] | None = None,
    summarize: Callable[[Tensor], Tensor] | None = None,
    seed: Seed = 0,
    workers: int = 1,
    progress: bool = True,
) -> ModelChoice:
    r"""Say how probably each of several simulators made the observation.

    .. math:: P(m \mid s_o) \propto P(m) \int p(s_o \mid \theta, m)\, p(\theta \mid m)\, d\theta

    Args:
        simulators: The models, with priors of their own and one ``event_shape``; as a mapping, the keys are their
            names.
        observed: The observation, with shape ``event_shape``.
        method: "forest", "rejection" or "smc", or one of them with its settings, such as
            ``RejectionChoice(adjust="logistic")``.
        budget: Simulations that may be spent on all models together, failed ones included.
        prior: Prior probabilities of the models, which are divided by their sum; equal if None.
        summarize: From x of shape (n, \*event_shape) to summaries (n, k), for all models; the first simulator's if
            None.
        seed: An int, a ``torch.Generator`` or None for fresh entropy.
        workers: Processes for simulation.
        progress: Whether to show progress.

    Returns:
        Probabilities and Bayes factors by name, which print as a table with what there is to warn of.

    Raises:
        ValueError: If there are fewer than two simulators, names repeat, event shapes differ, the prior does not fit,
            the method is unknown, the observation has another shape or is not finite, or the budget is too small.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import implicit_infer as ii
        >>> from implicit_simulators.benchmark import GaussianLinear
        >>> models = {"narrow": GaussianLinear(2, noise_variance=0.1), "wide": GaussianLinear(2, noise_variance=9.0)}
        >>> found = ii.choose_model(models, [4.0, -5.0], method="rejection", budget=2000, progress=False)
        >>> found.best
        'wide'
    """
    if isinstance(simulators, Mapping):
        names, models = tuple(map(str, simulators)), tuple(map(check_simulator, simulators.values()))
    else:
        if isinstance(simulators, Simulator):
            raise TypeError(f"simulators: expected several simulators; got one {type(simulators).__name__}")
        models = tuple(map(check_simulator, simulators))
        names = tuple(simulator.name for simulator in models)
    if len(models) < 2:
        raise ValueError(f"simulators: expected at least two; got {len(models)}")
    if len(set(names)) < len(names):
        raise ValueError(f"simulators: expected different names; got {', '.join(names)}: give a mapping of names")
    shapes = {tuple(simulator.event_shape) for simulator in models}
    if len(shapes) > 1:
        raise ValueError(f"simulators: expected one event_shape; got {', '.join(map(str, sorted(shapes)))}")
    if isinstance(method, str):
        method = find(method, CHOICE_METHODS, "method")()
    if not isinstance(method, ChoiceMethod):
        raise TypeError(f"method: expected a name or a ChoiceMethod; got {type(method).__name__}")
    question = ModelQuestion(
        simulators=models,
        names=names,
        prior=_prior(prior, names),
        observed=models[0].check_observation(observed),
        budget=check_count(budget, "budget", least=10 * len(models)),
        seed=resolve_seed(seed),
        summarize=summarize,
        workers=check_count(workers, "workers"),
        progress=progress,
    )
    return method.choose(question)


def _prior(prior: Sequence[float] | Mapping[str, float] | None, names: tuple[str, ...]) -> tuple[float, ...]:
    if prior is None:
        return (1 / len(names),) * len(names)
    if isinstance(prior, Mapping):
        if set(prior) != set(names):
            raise ValueError(f"prior: expected one number for each of {', '.join(names)}; got {', '.join(prior)}")
        prior = [prior[name] for name in names]
    values = [float(value) for value in prior]
    if len(values) != len(names) or not all(0 < value < math.inf for value in values):
        raise ValueError(f"prior: expected {len(names)} positive numbers; got {values}")
    return tuple(value / sum(values) for value in values)
