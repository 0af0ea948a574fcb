"""Coverage of posteriors whose coverage is known: the exact one in its band, wrong ones outside it."""

import math

import pytest
import torch
from scipy.stats import chi2
from torch.distributions import Independent, Normal

from implicit_infer.diagnose import Coverage, expected_coverage
from implicit_infer.posteriors import Posterior
from implicit_infer.simulate import simulate
from implicit_simulators.benchmark import GaussianLinear

SIMULATOR = GaussianLinear(dim=2)


class Scaled(Posterior):
    """The exact posterior of the Gaussian task, moved by ``shift`` and widened by ``stretch`` standard deviations."""

    def __init__(self, shift=0.0, stretch=1.0):
        super().__init__(SIMULATOR, torch.zeros(2), method="scaled", simulations=0)
        self.shift, self.stretch = shift, stretch

    def _law(self, x):
        return Independent(Normal(0.5 * x + self.shift * 0.05**0.5, self.stretch * 0.05**0.5), 1)

    def _sample(self, n, x, stream, progress):
        with stream.forked():
            return self._law(x).sample((n,))

    def _log_prob(self, theta, x):
        return self._law(x).log_prob(theta)


class Prior(Scaled):
    def _law(self, x):
        return Independent(Normal(torch.zeros_like(x), 0.1**0.5), 1)


class Undense(Scaled):
    def _log_prob(self, theta, x):
        raise NotImplementedError


class Foreign:
    """What sbi's posteriors look like."""

    def sample_batched(self, sample_shape, x, show_progress_bars=True):
        return 0.5 * x + 0.05**0.5 * torch.randn(*sample_shape, *x.shape)

    def log_prob(self, theta, x):
        return -(theta - 0.5 * x).square().sum(1)


@pytest.fixture(scope="module")
def truths():
    return simulate(SIMULATOR, 400, seed=3, progress=False)


def covered(posterior, truths, **settings):
    return expected_coverage(posterior, truths, n=400, draws=99, seed=1, progress=False, **settings)


def test_the_exact_posterior_is_inside(truths):
    found = covered(Scaled(), truths)
    assert found.calibrated
    assert set(found.ranks) == {"hpd", "tarp", "theta_1", "theta_2"}
    assert all(found.p_value(name) > 0.005 for name in found.ranks)
    assert "as it should be" in str(found)


def test_an_overconfident_posterior_is_outside(truths):
    found = covered(Scaled(stretch=0.7), truths)
    assert not any(found.inside(name) for name in ("hpd", "tarp", "theta_1"))
    assert "too narrow" in found.verdict("hpd")
    assert found.verdict("theta_1") == "too narrow"
    assert found.p_value("hpd") == pytest.approx(1 / 4001)


def test_the_curve_of_highest_density_is_the_closed_form(truths):
    """Of two normal parameters narrowed by c: the chi-squared law at c^2 times its quantile; 4 binomial errors."""
    found = covered(Scaled(stretch=0.7), truths)
    expected = torch.as_tensor(chi2.cdf(0.49 * chi2.ppf(found.levels.numpy(), 2), 2))
    error = (expected * (1 - expected) / found.n).sqrt()
    assert ((found.curve("hpd") - expected).abs() < 4 * error + 1 / found.n).all()


def test_too_wide_and_moved_posteriors_are_named(truths):
    assert covered(Scaled(stretch=1.5), truths).verdict("hpd") == "too wide"
    moved = covered(Scaled(shift=-0.5), truths)
    assert "above" in moved.verdict("theta_1")
    # of half a standard deviation in each of two parameters, 400 truths see less in the regions of highest density
    assert moved.curve("hpd").mean() < covered(Scaled(), truths).curve("hpd").mean()


def test_the_prior_covers(truths):
    """It is a posterior, of data that say nothing: marginal ranks and regions of its density are as they should be."""
    found = covered(Prior(), truths)
    assert all(found.inside(name) for name in ("hpd", "theta_1", "theta_2"))


def test_bands_hold_all_along():
    """Of 300 sets of uniform ranks, no more leave their bands than four standard errors above the stated 10 %."""
    generator = torch.Generator().manual_seed(0)
    left = 0
    for _ in range(300):
        ranks = {"hpd": torch.randint(50, (100,), generator=generator)}
        left += not Coverage(ranks, 49, 0.9, ()).inside("hpd")
    assert left / 300 < 0.1 + 4 * math.sqrt(0.09 / 300)
    assert left > 0


def test_without_a_density(truths):
    found = covered(Undense(), truths)
    assert "hpd" not in found.ranks
    assert found.calibrated
    assert "no density" in found.notes[0]


def test_posteriors_of_others(truths):
    before = torch.random.get_rng_state()
    found = covered(Foreign(), truths.valid())
    assert found.calibrated
    assert torch.equal(before, torch.random.get_rng_state())


def test_from_a_simulator():
    found = expected_coverage(Scaled(), n=30, draws=19, seed=0, progress=False)
    again = expected_coverage(Scaled(), SIMULATOR, n=30, draws=19, seed=0, progress=False)
    assert found.n == 30
    assert all(torch.equal(found.ranks[name], again.ranks[name]) for name in found.ranks)


def test_ties_fall_evenly():
    """Truth and draws all the same number: the rank must still be uniform; four standard errors of its mean."""

    class Constant(Scaled):
        def _sample(self, n, x, stream, progress):
            return torch.zeros(n, len(x), 2)

    theta = torch.zeros(500, 2)
    found = expected_coverage(Constant(), (theta, theta), n=500, draws=9, seed=0, progress=False)
    ranks = found.ranks["theta_1"].double()
    assert abs(ranks.mean() - 4.5) < 4 * math.sqrt(99 / 12 / 500)
    assert ranks.max() == 9


def test_the_picture_has_all_curves(truths):
    figure = covered(Scaled(), truths).plot("exact")
    assert [len(axes.get_lines()) for axes in figure.axes] == [3, 3]


def test_bad_arguments_are_refused(truths):
    with pytest.raises(TypeError, match="posterior: expected"):
        expected_coverage(SIMULATOR, truths)
    with pytest.raises(TypeError, match="truths: expected"):
        expected_coverage(Scaled(), "runs")
    with pytest.raises(ValueError, match="confidence"):
        expected_coverage(Scaled(), truths, confidence=1.0)
    with pytest.raises(ValueError, match="truths: expected theta"):
        expected_coverage(Scaled(), (torch.zeros(3, 2), torch.zeros(4, 2)))
    with pytest.raises(ValueError, match="none"):
        expected_coverage(Scaled(), (torch.zeros(3, 2), torch.full((3, 2), torch.nan)))
