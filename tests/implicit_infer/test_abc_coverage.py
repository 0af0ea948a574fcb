"""Coverage near the observation passes what is right and sees a tolerance that is too wide."""

import pytest
import torch

from implicit_infer.abc import RejectionABC
from implicit_infer.abc.coverage import coverage_near
from implicit_infer.posteriors.method import Question
from implicit_infer.simulate import simulate
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

SIMULATOR = GaussianLinear(dim=2)
OBSERVED = torch.tensor([0.4, -0.2])


@pytest.fixture(scope="module")
def fresh():
    return simulate(SIMULATOR, 10_000, seed=777, progress=False)


def posterior(keep, budget):
    return RejectionABC(keep=keep).infer(Question(SIMULATOR, OBSERVED, budget, 100, progress=False))


def test_a_narrow_tolerance_covers(fresh):
    assert coverage_near(posterior(200, 40_000), fresh, progress=False).calibrated


def test_a_wide_tolerance_is_seen(fresh):
    """Half of the prior's draws lean towards its mean, 0, and are too wide: 200 truths at 0.4 tell."""
    found = coverage_near(posterior(1000, 2000), fresh, progress=False)
    assert not found.calibrated
    assert found.p_value("theta_1") < 1e-3  # the smallest that 4,000 sets of ranks can tell is 1 / 4,001


def test_truths_are_the_nearest(fresh):
    found = coverage_near(posterior(200, 40_000), fresh, n=50, draws=20, progress=False)
    assert found.n == 50
    assert found.draws == 20
    with pytest.raises(ValueError, match="runs: expected at least n = 20000 simulations; got 10000"):
        coverage_near(posterior(200, 40_000), fresh, n=20_000)
