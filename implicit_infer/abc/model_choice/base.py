r"""What model choice is: a question about several simulators, ways to answer it, and the answer.

.. math:: P(m \mid s_o) = \frac{P(m)\, p(s_o \mid m)}{\sum_j P(j)\, p(s_o \mid j)}, \qquad
    B_{12} = \frac{p(s_o \mid m = 1)}{p(s_o \mid m = 2)}, \qquad
    p(s \mid m) = \int p(s \mid \theta, m)\, p(\theta \mid m)\, d\theta

The probabilities are those given the *summaries*. Summaries that are sufficient for the parameters of every model need
not be sufficient for choosing between models, and no number of simulations shows it (Robert et al., 2011): the answer
says so wherever summaries are used.

References:
    | Lack of confidence in approximate Bayesian computation model choice (Robert, Cornuet, Marin & Pillai, 2011)
    | https://arxiv.org/abs/1102.4432
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from implicit_infer.abc.distances import Distance
from implicit_infer.executors import run_blocks
from implicit_simulators import Simulator, Stream

if TYPE_CHECKING:
    import pandas as pd

INSUFFICIENT = (
    "the probabilities are those given the summaries: summaries that tell all of each model's parameters need not tell "
    "the models apart as the data would (Robert et al., 2011); compare the answer with that of other summaries"
)


@dataclass(frozen=True)
class ModelQuestion:
    """Which of several simulators made the observation, checked, as the methods receive it.

    Attributes:
        simulators: The models, with one ``event_shape``.
        names: Their names.
        prior: Their prior probabilities, which sum to one.
        observed: The observation.
        budget: Simulations that may be spent on all models together, failed ones included.
        seed: Root of every random number.
        summarize: From x to summaries (n, k); None takes the first simulator's.
        workers: Processes for simulation.
        progress: Whether to show progress.
    """

    simulators: tuple[Simulator, ...]
    names: tuple[str, ...]
    prior: tuple[float, ...]
    observed: Tensor
    budget: int
    seed: int
    summarize: Callable[[Tensor], Tensor] | None = None
    workers: int = 1
    progress: bool = True

    @property
    def summarised(self) -> bool:
        """Whether less than the data themselves is compared."""
        return self.summarize is not None or type(self.simulators[0]).summarize is not Simulator.summarize

    def features(self, distance: Distance, x: Tensor) -> Tensor:
        """What a distance compares of x, with shape (n, k), alike for all models."""
        reference = copy.copy(self.simulators[0])
        if self.summarize is not None:
            vars(reference)["summarize"] = self.summarize  # of this copy alone
        return distance.features(reference, x)

    def observed_features(self, distance: Distance) -> Tensor:
        """Those of the observation, with shape (k,).

        Raises:
            ValueError: If they are not finite.
        """
        features = self.features(distance, self.observed[None])[0]
        if not torch.isfinite(features).all():
            raise ValueError("observed: its summary statistics are not finite")
        return features

    def allotted(self, total: int) -> list[int]:
        """Simulations of each model, in proportion to the prior, that add up to ``total``; at least one each."""
        spare = total - len(self.prior)
        shares = [spare * share for share in self.prior]
        counts = [math.floor(share) for share in shares]
        by_rest = sorted(range(len(shares)), key=lambda m: counts[m] - shares[m])
        for m in by_rest[: spare - sum(counts)]:
            counts[m] += 1
        return [count + 1 for count in counts]

    def root(self, model: int) -> int:
        """The root of a model's random numbers."""
        return Stream.of(self.seed, model, "split").key

    def simulate(self, model: int, theta: Tensor, first: int = 0) -> Tensor:
        """Simulate a model at theta (n, d), in blocks numbered from ``first``."""
        simulator = self.simulators[model]
        numbered = list(enumerate(theta.split(simulator.block), start=first))
        made = run_blocks(simulator, numbered, self.root(model), workers=self.workers)
        return torch.cat([block.x for block in sorted(made, key=lambda block: block.index)])

    def bank(self, total: int, distance: Distance) -> tuple[Tensor, list[Tensor], Tensor]:
        """Simulations from the prior of all models.

        Returns:
            The model of each, with shape (total,); the parameters of each model's; and all features (total, k).
        """
        theta = [
            simulator.sample_prior(count, self.root(m))
            for m, (simulator, count) in enumerate(zip(self.simulators, self.allotted(total), strict=True))
        ]
        features = torch.cat([self.features(distance, self.simulate(m, rows)) for m, rows in enumerate(theta)])
        model = torch.cat([torch.full((len(rows),), m) for m, rows in enumerate(theta)])
        return model, theta, features


@dataclass(frozen=True)
class ModelChoice:
    """The answer: how probable each model is.

    Attributes:
        names: The models.
        probabilities: Their posterior probabilities.
        prior: Their prior probabilities.
        method: What estimated them.
        simulations: Simulations spent.
        figures: What the method says of its run: JSON-able.
        warnings: Sentences that a user should read.
    """

    names: tuple[str, ...]
    probabilities: tuple[float, ...]
    prior: tuple[float, ...]
    method: str
    simulations: int
    figures: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> str:
        """The most probable model."""
        return self.names[max(range(len(self.names)), key=lambda m: self.probabilities[m])]

    def probability(self, name: str) -> float:
        """A model's posterior probability.

        Raises:
            ValueError: If there is no model of that name.
        """
        if name not in self.names:
            raise ValueError(f"name: expected one of {', '.join(self.names)}; got {name!r}")
        return self.probabilities[self.names.index(name)]

    def bayes_factor(self, numerator: str, denominator: str) -> float:
        """How much more probable the data are under one model than under another; infinity where that has none.

        Raises:
            ValueError: If there is no model of such a name.
        """
        above, below = self.probability(numerator), self.probability(denominator)
        prior = [self.prior[self.names.index(name)] for name in (numerator, denominator)]
        if below == 0:
            return math.nan if above == 0 else math.inf
        return above / below * prior[1] / prior[0]

    def table(self) -> pd.DataFrame:
        """Prior and posterior probabilities, and the Bayes factor of each model against the best."""
        import pandas as pd

        factors = [self.bayes_factor(name, self.best) for name in self.names]
        columns = {"prior": self.prior, "probability": self.probabilities, "bayes_factor": factors}
        return pd.DataFrame(columns, index=pd.Index(self.names, name="model"))

    def __str__(self) -> str:
        lines = [f"model choice by {self.method}, {self.simulations} simulations"]
        width = max(map(len, (*self.names, "model")))
        lines.append(f"{'model':<{width}}  prior  posterior  Bayes factor against {self.best}")
        for name, prior, probability in zip(self.names, self.prior, self.probabilities, strict=True):
            factor = self.bayes_factor(name, self.best)
            lines.append(f"{name:<{width}}  {prior:5.3f}  {probability:9.3f}  {factor:.3g}")
        return "\n".join([*lines, *(f"note: {warning}" for warning in self.warnings)])


class ChoiceMethod:
    """Answers a :class:`ModelQuestion`. Children are frozen dataclasses of their settings.

    Attributes:
        name: What it is called by.
    """

    name: ClassVar[str]

    def choose(self, question: ModelQuestion) -> ModelChoice:
        """Answer, spending at most ``question.budget`` simulations."""
        raise NotImplementedError(f"{type(self).__name__} must write choose(question)")

    def answer(
        self,
        question: ModelQuestion,
        weights: Tensor,
        simulations: int,
        figures: dict[str, Any],
        warnings: list[str],
    ) -> ModelChoice:
        """The answer with probabilities in proportion to weights (models,), and the warnings that all methods share."""
        weights = weights.double() / weights.double().sum()
        said = list(warnings)
        if figures.get("failed"):
            said.append(
                f"{figures['failed']} of {simulations} simulations failed and count as far from the observation"
            )
        if question.summarised:
            said.append(INSUFFICIENT)
        return ModelChoice(
            names=question.names,
            probabilities=tuple(weights.tolist()),
            prior=question.prior,
            method=self.name,
            simulations=simulations,
            figures=figures,
            warnings=tuple(said),
        )
