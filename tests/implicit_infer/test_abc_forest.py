"""Forests against scikit-learn's own leaves, the formula of their weights, and closed-form posteriors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, Uniform

import implicit_infer as ii
from implicit_infer.abc.forest import ForestABC, MarginalForestABC
from implicit_infer.abc.forest_trees import Growth, Trees
from implicit_infer.posteriors.method import Question
from implicit_infer.progress import track
from implicit_infer.simulate import simulate
from implicit_simulators import Simulator
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear
from implicit_simulators.streams import Stream

SIMULATOR = GaussianLinear(2)
OBSERVED = torch.tensor([0.3, -0.2])
SMALL = Growth(trees=40)


class Sum(Simulator):
    """Tells the sum of two parameters, nothing of a third, and a column of noise besides."""

    name = "sum"
    parameter_names = ("first", "second", "dark")
    event_shape = torch.Size([2])
    noise = 0.3

    def __init__(self) -> None:
        self.prior = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        noise = torch.randn(len(theta), 2, generator=stream.torch())
        x = torch.stack((theta[:, 0] + theta[:, 1] + self.noise * noise[:, 0], 1e4 + noise[:, 1]), 1)
        # some fail
        return torch.where(theta[:, 2:] > 2, torch.nan, x)


def ask(budget: int, simulator: Any = SIMULATOR, observed: Tensor = OBSERVED, **more: Any) -> Question:
    return Question(simulator, observed, budget, 100, progress=False, **more)


def grown(n: int = 200, trees: int = 5) -> tuple[Trees, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=random)
    y = x[:, :1] + 0.1 * torch.randn(n, 1, generator=random)
    with track("", show=False) as bar:
        return Trees.grow(x, lambda _: y, Growth(trees=trees), 1, bar), x, y


def test_leaves_are_those_of_the_trees_that_were_grown() -> None:
    trees, x, _ = grown()
    assert torch.equal(trees.apply(x), trees.leaves.long())
    # a leaf holds five different rows of its bootstrap sample at least
    for leaves, counts in zip(trees.leaves, trees.counts, strict=True):
        assert torch.bincount(leaves[counts > 0].long())[leaves[counts > 0].long().unique()].min() >= 5


def test_weights_are_the_formula() -> None:
    trees, x, _ = grown()
    at = torch.tensor([0.2, -1.0, 0.5])
    expected = torch.zeros(len(x), dtype=torch.float64)
    for leaf, leaves, counts in zip(trees.apply(at[None])[:, 0], trees.leaves, trees.counts, strict=True):
        inside = (leaves == leaf).double() * counts.double()
        expected += inside / inside.sum() / len(trees.leaves)
    assert torch.allclose(trees.weights(at), expected)
    assert float(trees.weights(at).sum()) == pytest.approx(1)


def test_out_of_bag_predictions_see_what_is_there_and_no_more() -> None:
    trees, x, y = grown(600, 60)
    assert 0.8 < float(trees.explained(y)) < 1
    noise = torch.randn(600, 1, generator=torch.Generator().manual_seed(5))
    with track("", show=False) as bar:
        blind = Trees.grow(x, lambda _: noise, Growth(trees=30), 1, bar)
    assert float(blind.explained(noise)) < 0.05


@pytest.mark.parametrize(
    "method",
    [ForestABC(SMALL), ForestABC(SMALL, criterion="mean"), MarginalForestABC(SMALL)],
    ids=["joint", "mean", "marginal"],
)
def test_a_normal_posterior(method) -> None:
    """A forest's neighbours lie within a leaf of a few per cent of the bank, which pulls the mean to the prior's, 0,
    and widens: by 0.3 and by a quarter of a deviation at most here."""
    posterior = method.infer(ask(3000))
    exact = SIMULATOR.posterior(OBSERVED)
    draws = posterior.sample((1000,), seed=0).double()
    assert ((draws.mean(0) - exact.mean).abs() < 0.3 * exact.stddev).all()
    assert ((draws.std(0) / exact.stddev - 1).abs() < 0.25).all()
    # half of each parameter's variance is noise's
    assert all(share == pytest.approx(0.5, abs=0.08) for share in posterior.figures["explained"].values())
    assert posterior.simulations == 3000


def test_only_the_joint_forest_knows_of_dependence() -> None:
    r"""The posterior's correlation is :math:`-1 / (1 + s^2)` with noise s, -0.92."""
    simulator, observed = Sum(), torch.tensor([0.5, 1e4])
    bank = simulate(simulator, 2000, seed=3, progress=False)
    joint = ForestABC(SMALL).infer(ask(2000, simulator, observed, bank=bank))
    marginal = MarginalForestABC(SMALL).infer(ask(2000, simulator, observed, bank=bank))
    tied = MarginalForestABC(SMALL, dependence="joint").infer(ask(2000, simulator, observed, bank=bank))
    # tying changes the order of draws and nothing else
    assert torch.equal(tied.particles().theta.sort(0).values, marginal.particles().theta.sort(0).values)
    for posterior, low, high in ((joint, -1.0, -0.75), (marginal, -0.25, 0.25), (tied, -1.0, -0.7)):
        draws = posterior.sample((800,), seed=0)
        assert low < float(draws[:, :2].T.corrcoef()[0, 1]) < high
        assert any("next to nothing of dark" in warning for warning in posterior.warnings)
        assert any("simulations failed" in warning for warning in posterior.warnings)
        assert posterior.figures["failed"] == int(bank.failed.sum()) > 0


def test_draws_stay_in_the_support() -> None:
    simulator = GaussianLinear(1)
    simulator.prior = Independent(Uniform(torch.zeros(1), torch.ones(1)), 1)
    for method in (ForestABC(SMALL), MarginalForestABC(SMALL)):
        draws = method.infer(ask(500, simulator, torch.tensor([-2.0]))).sample((100,), seed=0)
        assert ((draws >= 0) & (draws <= 1)).all()
        assert float(draws.mean()) < 0.4


@pytest.mark.parametrize("method", [ForestABC(SMALL), MarginalForestABC(SMALL)], ids=["joint", "marginal"])
def test_it_is_amortised_repeatable_and_saved(method, tmp_path) -> None:
    posterior = method.infer(ask(600))
    other = torch.tensor([-0.6, 0.6])
    draws = posterior.sample((300,), x=other, seed=1)
    assert ((draws.mean(0) - SIMULATOR.posterior(other).mean).abs() < 0.2).all()
    assert posterior.simulations == 600
    again = method.infer(ask(600))
    assert torch.equal(again.sample((300,), x=other, seed=1), draws)
    posterior.save(tmp_path / "p")
    loaded = ii.load_posterior(tmp_path / "p", SIMULATOR)
    assert torch.equal(loaded.sample((300,), x=other, seed=1), draws)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Growth(trees=0), "trees: expected a positive int"),
        (lambda: Growth(leaf=0), "leaf: expected a positive int"),
        (lambda: Growth(columns=0.0), "columns: expected a number in"),
        (lambda: ForestABC(criterion="median"), "criterion: expected 'distributional' or 'mean'"),
        (lambda: MarginalForestABC(dependence="some"), "dependence: expected 'independent' or 'joint'"),
        (lambda: ForestABC(frequencies=0), "frequencies: expected a positive int"),
        (lambda: ForestABC().infer(ask(10)), "budget: expected at least 20 simulations"),
    ],
)
def test_what_cannot_be_is_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
