"""The accurate rejection keeps a tenth, spends what it is given, and finds a law that plain rejection widens."""

import math

import pytest
import torch

import implicit_infer as ii
from implicit_infer.abc import AdjustedABC, RejectionABC
from implicit_infer.abc.regression import Training
from implicit_infer.abc.summaries import SemiAutomatic
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

OBSERVED = torch.tensor([0.4, -0.2, 0.1, 0.3, -0.5])


def test_draws_differ_and_are_nearer_the_truth_than_those_of_plain_rejection():
    simulator = GaussianLinear(dim=5)
    quick = AdjustedABC(
        keep=1000, distance=SemiAutomatic(moments=2, training=Training(hidden=(16,), members=1, epochs=4))
    )
    posterior, plain = (
        ii.infer(simulator, OBSERVED, method=method, budget=4000, seed=0, progress=False)
        for method in (quick, RejectionABC(keep=500))
    )
    assert posterior.simulations == 4000
    draws = posterior.sample((2000,), seed=0)
    assert len(draws.unique(dim=0)) == 2000
    exact = simulator.posterior(OBSERVED)
    # plain rejection is wider by five standard errors of the mean of five; what is adjusted by its own is within
    # five of those that its particles are worth, of which a regression on 10 summaries explains 11 by chance
    wider = plain.sample((500,), seed=0).std(0) / exact.stddev - 1
    assert float(wider.mean()) > 5 / math.sqrt(2 * 500 * 5)
    worth = posterior.figures["ess"] - 11
    assert ((draws.mean(0) - exact.mean).abs() < 5 * exact.stddev * math.sqrt(2 / worth)).all()
    assert ((draws.std(0) / exact.stddev - 1).abs() < 5 / math.sqrt(worth)).all()


@pytest.mark.parametrize(
    ("settings", "budget", "kept"),
    [({}, 10_000, 1000), ({}, 100, 100), ({}, 1000, 500), ({"keep": 7}, 1000, 7), ({"quantile": 0.5}, 1000, 500)],
)
def test_how_many_are_kept(settings, budget, kept):
    assert AdjustedABC(**settings).kept(budget) == kept


def test_it_has_a_name_and_rules_of_its_own():
    assert isinstance(ii.methods()["adjusted-abc"](), AdjustedABC)
    assert AdjustedABC().settings()["distance"]["moments"] == 2
    with pytest.raises(ValueError, match="keep, quantile, tolerance: expected at most one"):
        AdjustedABC(keep=5, quantile=0.1)
