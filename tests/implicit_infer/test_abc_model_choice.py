"""Model choice against exact marginal likelihoods: counts that are Poisson or geometric, and two normal laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Exponential, Independent, Normal, Uniform

import implicit_infer as ii
from implicit_infer.abc.model_choice import ForestChoice, RejectionChoice, SMCChoice, choose_model
from implicit_infer.abc.model_choice.base import ModelChoice, ModelQuestion
from implicit_simulators import Simulator
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from implicit_simulators.streams import Stream

N = 4


class Counts(Simulator):
    """Four counts; their sum is sufficient for the parameter of either law."""

    parameter_names = ("rate",)
    event_shape = torch.Size([N])

    def __init__(self, geometric: bool) -> None:
        self.geometric = geometric
        self.name = "geometric" if geometric else "poisson"
        law: Any = Uniform(torch.zeros(1), torch.ones(1)) if geometric else Exponential(torch.ones(1))
        self.prior = Independent(law, 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        random = stream.torch()
        if self.geometric:
            uniform = torch.rand(len(theta), N, generator=random, dtype=torch.float64).clamp_min(1e-300)
            p = theta.double().clamp(1e-6, 1 - 1e-6)
            return (uniform.log() / torch.log1p(-p)).floor().float()
        return torch.poisson(theta.expand(-1, N), generator=random)


def total(x: Tensor) -> Tensor:
    return x.sum(1, keepdim=True)


def total_and_factorials(x: Tensor) -> Tensor:
    """What the likelihoods of both laws depend on together."""
    return torch.stack((x.sum(1), torch.lgamma(x + 1).sum(1)), 1)


MODELS = {"poisson": Counts(False), "geometric": Counts(True)}
OBSERVED = torch.tensor([0.0, 3.0, 0.0, 0.0])


def exact(given_the_sum: bool) -> float:
    """The Poisson law's probability, by both marginal likelihoods of the data or of their sum."""
    s = float(OBSERVED.sum())
    poisson = math.lgamma(s + 1) - (s + 1) * math.log(N + 1) - float(torch.lgamma(OBSERVED + 1).sum())
    geometric = math.lgamma(N + 1) + math.lgamma(s + 1) - math.lgamma(N + s + 2)
    if given_the_sum:
        poisson = s * math.log(N) - (s + 1) * math.log(N + 1)
        geometric += math.lgamma(N + s) - math.lgamma(N) - math.lgamma(s + 1)
    return 1 / (1 + math.exp(geometric - poisson))


def two_normals() -> dict[str, Simulator]:
    """Two laws of the data: normal of variance 0.2 and of variance 1.1 in each of two dimensions."""
    return {"narrow": GaussianLinear(2), "wide": GaussianLinear(2, prior_variance=1.0)}


def narrow(x: Tensor) -> float:
    logs = [float(Normal(0.0, math.sqrt(variance)).log_prob(x).sum()) for variance in (0.2, 1.1)]
    return 1 / (1 + math.exp(logs[1] - logs[0]))


def choose(method: Any, models: Any = MODELS, observed: Tensor = OBSERVED, budget: int = 20_000, **more: Any):
    return choose_model(models, observed, method, budget, seed=100, progress=False, **more)


@pytest.mark.parametrize(("summarize", "given_the_sum"), [(total, True), (total_and_factorials, False)])
def test_rejection_with_no_tolerance_is_exact_given_the_summaries(summarize, given_the_sum) -> None:
    found = choose(RejectionChoice(tolerance=1e-4), budget=60_000, summarize=summarize)
    probability = exact(given_the_sum)
    error = math.sqrt(probability * (1 - probability) / found.figures["accepted"])
    assert error < 0.03
    assert found.probability("poisson") == pytest.approx(probability, abs=4 * error)
    assert any("Robert et al." in warning for warning in found.warnings)


def test_the_sum_alone_chooses_otherwise_than_the_data() -> None:
    """Three of the four counts are zero, which the geometric law explains better; their sum does not tell."""
    assert exact(given_the_sum=True) > exact(given_the_sum=False) + 0.15


def test_a_model_prior_counts() -> None:
    found = choose(
        RejectionChoice(tolerance=1e-4), summarize=total, prior={"geometric": 3, "poisson": 1}, budget=40_000
    )
    p = exact(True)
    expected = p / (p + 3 * (1 - p))
    error = math.sqrt(expected * (1 - expected) / found.figures["accepted"])
    assert found.prior == (0.25, 0.75)
    assert found.probability("poisson") == pytest.approx(expected, abs=4 * error)
    odds = p / (1 - p)
    # the relative error of odds is that of p over 1 - p
    assert found.bayes_factor("poisson", "geometric") == pytest.approx(odds, rel=5 * error / expected / (1 - expected))


@pytest.mark.parametrize("at", [0.3, 0.8])
def test_smc_is_exact_as_the_tolerance_falls(at: float) -> None:
    """Errors of a thousand particles over some generations: each resamples the models, with an error of 0.016."""
    observed = torch.tensor([at, -at])
    found = choose(SMCChoice(particles=500), two_normals(), observed, 20_000)
    assert found.simulations == 20_000
    assert found.figures["generations"] >= 3
    assert found.probability("narrow") == pytest.approx(narrow(observed), abs=0.08)
    assert not any("Robert" in warning for warning in found.warnings)
    assert sum(found.figures["paths"]["simulations"]) == 20_000
    assert sorted(found.figures["paths"]["tolerance"], reverse=True) == found.figures["paths"]["tolerance"]


def test_smc_on_models_of_different_dimension() -> None:
    """A law with a parameter that does nothing is as probable as the one without."""

    class Idle(GaussianLinear):
        name = "idle"

        def __init__(self) -> None:
            super().__init__(1)
            self.parameter_names = ("theta_1", "idle")
            self.prior = Independent(Normal(torch.zeros(2), 0.1**0.5 * torch.ones(2)), 1)

        def _simulate(self, theta, stream):
            return super()._simulate(theta[:, :1], stream)

    found = choose(SMCChoice(particles=500), [Idle(), GaussianLinear(1)], torch.tensor([0.2]), 10_000)
    assert found.probability("idle") == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("at", [0.3, 0.8])
def test_logistic_adjustment_makes_up_for_a_wide_tolerance(at: float) -> None:
    observed = torch.tensor([at, -at])
    plain, adjusted = (
        choose(RejectionChoice(keep=3000, adjust=adjust), two_normals(), observed, 10_000)
        for adjust in ("none", "logistic")
    )
    truth = narrow(observed)
    # within 3,000 of 10,000 the log-odds are not quite linear
    assert abs(adjusted.probability("narrow") - truth) < 0.06
    if at == 0.8:
        assert abs(plain.probability("narrow") - truth) > 0.1


def test_forest_estimates_the_chosen_models_probability() -> None:
    """A mean of some hundred errors has a standard error of 0.045, of which three are allowed where neither model is
    certain; and the prior error rate is that of the best rule, known here by many draws, but for what a forest of so
    few simulations adds."""
    models = two_normals()
    for at in (0.3, 0.8):
        observed = torch.tensor([at, -at])
        found = choose(ForestChoice(trees=40), models, observed, 2000)
        truth = narrow(observed)
        assert found.best == ("narrow" if truth > 0.5 else "wide")
        assert found.probability("narrow") == pytest.approx(truth, abs=0.14)
    x = torch.cat([simulator.simulate(simulator.sample_prior(4000, 1), 2) for simulator in models.values()])
    odds = torch.stack([Normal(0.0, math.sqrt(v)).log_prob(x).sum(1) for v in (0.2, 1.1)]).softmax(0)
    best = float(odds.min(0).values.mean())
    assert best - 0.02 < found.figures["prior_error_rate"] < best + 0.08


@pytest.mark.parametrize("method", ["forest", "rejection", "smc"])
def test_budget_failures_and_repeats(method: str) -> None:
    class Broken(GaussianLinear):
        name = "broken"
        simulated = 0

        def _simulate(self, theta, stream):
            Broken.simulated += len(theta)
            x = super()._simulate(theta, stream)
            return torch.where(theta[:, :1] > 0.4, torch.nan, x)

    settings = {"forest": ForestChoice(trees=20), "rejection": RejectionChoice(), "smc": SMCChoice(particles=100)}
    models = [Broken(2), GaussianLinear(2, noise_variance=0.2)]
    found, again = (choose(settings[method], models, torch.tensor([0.1, 0.1]), 1000) for _ in range(2))
    assert found == again
    assert found.simulations == 1000
    assert Broken.simulated < 2000
    assert found.figures["failed"] > 0
    assert any("simulations failed" in warning for warning in found.warnings)
    assert sum(found.probabilities) == pytest.approx(1)


def test_the_answer_prints_and_tabulates() -> None:
    answer = ModelChoice(("a", "b"), (0.8, 0.2), (0.5, 0.5), "rejection", 100, warnings=("mind this",))
    assert answer.best == "a"
    assert answer.bayes_factor("a", "b") == pytest.approx(4)
    assert ModelChoice(("a", "b"), (1.0, 0.0), (0.5, 0.5), "smc", 1).bayes_factor("a", "b") == math.inf
    text = str(answer)
    assert "0.800" in text
    assert "note: mind this" in text
    assert answer.table().loc["b", "bayes_factor"] == pytest.approx(0.25)


def test_it_is_a_verb() -> None:
    assert ii.choose_model is choose_model


@pytest.mark.parametrize("total_count", [2, 3, 17, 100])
def test_simulations_are_allotted_by_the_prior(total_count: int) -> None:
    question = ModelQuestion((), ("a", "b"), (0.9, 0.1), torch.zeros(1), total_count, 0)
    counts = question.allotted(total_count)
    assert sum(counts) == total_count
    assert min(counts) >= 1
    assert abs(counts[0] - 0.9 * total_count) <= 1.3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((GaussianLinear(2), [0.0, 0.0]), TypeError, "simulators: expected several simulators"),
        (([GaussianLinear(2)], [0.0, 0.0]), ValueError, "simulators: expected at least two; got 1"),
        (([GaussianLinear(2), GaussianLinear(2)], [0.0, 0.0]), ValueError, "expected different names"),
        (({"a": GaussianLinear(2), "b": GaussianLinear(3)}, [0.0, 0.0]), ValueError, "expected one event_shape"),
        ((two_normals(), [0.0, 0.0], "forrest"), ValueError, "did you mean 'forest'"),
        ((two_normals(), [0.0, 0.0], 3), TypeError, "method: expected a name or a ChoiceMethod"),
        ((two_normals(), [0.0, 0.0], "smc", 5), ValueError, "budget: expected an int of at least 20"),
        ((two_normals(), [0.0]), ValueError, "observed: gaussian-linear expects shape"),
    ],
)
def test_a_bad_question_is_refused(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        choose_model(*arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RejectionChoice(keep=3, tolerance=1.0), "keep, tolerance: expected at most one"),
        (lambda: RejectionChoice(keep=0), "keep: expected a positive int"),
        (lambda: RejectionChoice(tolerance=-1.0), "tolerance: expected a non-negative number"),
        (lambda: RejectionChoice(adjust="linear"), "adjust: expected 'none' or 'logistic'"),
        (lambda: SMCChoice(particles=2), "particles: expected an int of at least 10"),
        (lambda: SMCChoice(stay=1.0), "stay: expected a number in"),
        (lambda: ForestChoice(trees=5), "trees: expected an int of at least 20"),
        (lambda: choose("forest", prior=[1.0, -1.0]), "prior: expected 2 positive numbers"),
        (lambda: choose("forest", prior={"poisson": 1.0}), "prior: expected one number for each of"),
        (lambda: choose(RejectionChoice(tolerance=1e-9), observed=OBSERVED + 500), "tolerance: none of 20000"),
    ],
)
def test_what_cannot_be_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
