"""A classifier mends wrong posteriors, leaves right ones alone, and certifies which is which."""

import copy
import math

import pytest
import torch
from torch.distributions import Independent, Normal

from implicit_infer.posteriors import (
    FMPE,
    Certificate,
    Classifier,
    Posterior,
    Question,
    RatioCorrected,
    Reweighting,
    correct,
)
from implicit_infer.posteriors.corrected_certificate import best_factor
from implicit_infer.simulate import simulate
from implicit_simulators.benchmark import GaussianLinear

SIMULATOR = GaussianLinear(dim=2)
QUICK = Classifier(networks=4, hidden=(64,), epochs=50, batch_size=256)


class Scaled(Posterior):
    """The exact posterior of the Gaussian task, moved by ``shift`` and widened by ``stretch`` standard deviations."""

    def __init__(self, shift, stretch):
        super().__init__(SIMULATOR, torch.tensor([0.3, -0.2]), method="scaled", simulations=7)
        self.shift, self.stretch = shift, stretch

    def _law(self, x):
        exact = 0.05**0.5
        return Independent(Normal(0.5 * x + self.shift * exact, self.stretch * exact), 1)

    def _sample(self, n, x, stream, progress):
        with stream.forked():
            return self._law(x).sample((n,))

    def _log_prob(self, theta, x):
        return self._law(x).log_prob(theta)


@pytest.fixture(scope="module")
def runs():
    return simulate(SIMULATOR, 2000, seed=11, progress=False)


@pytest.fixture(scope="module", params=[(0.5, 1.0), (0.0, 1.5)])
def mended(request, runs):
    return request.param, correct(Scaled(*request.param), runs, classifier=QUICK, seed=1, progress=False)


def test_a_wrong_posterior_is_told_from_the_truth(mended):
    """The classifier cannot beat the exact ratio by more than four standard errors, and finds most of what it finds."""
    (shift, stretch), posterior = mended
    certificate = posterior.certificate
    assert certificate.told_apart
    exact = _best_log_loss(shift, stretch)
    assert certificate.log_loss > exact - 4 * certificate.log_loss.standard_error
    assert math.log(2) - certificate.log_loss > 0.5 * (math.log(2) - exact)
    assert certificate.factor > 0.7
    assert any("alone was off" in sentence for sentence in posterior.warnings)


def test_its_draws_become_exact_ones(mended):
    """0.3 to 0.5 off before, and after it as 2,000 rows tell: 0.05 in the mean of six runs, thrice that is granted."""
    _, posterior = mended
    exact = SIMULATOR.posterior(posterior.observed)
    draws = posterior.sample((4000,), seed=2)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 0.16).all()
    assert ((draws.std(0) / sd - 1).abs() < 0.15).all()
    assert len(draws.unique(dim=0)) == 4000  # rejection repeats none
    assert posterior.figures["repeated"] == 0


def test_its_potential_follows_the_exact_density(mended):
    _, posterior = mended
    exact = SIMULATOR.posterior(posterior.observed)
    theta = exact.mean + exact.variance.sqrt() * torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    after = posterior.potential(theta) - exact.log_prob(theta)
    before = posterior.bases[0].potential(theta) - exact.log_prob(theta)
    assert after.std() < 0.6 * before.std()
    with pytest.raises(NotImplementedError, match="see potential"):
        posterior.log_prob(theta)


def test_resampling_gives_the_same_law(mended):
    _, posterior = mended
    again = copy.copy(posterior)
    again.reweighting = Reweighting("resampling", 8)
    first, second = posterior.sample((4000,), seed=2), again.sample((4000,), seed=3)
    # two means of 4,000 draws, of which as few as a third may be distinct: 4.5 standard errors
    assert ((first.mean(0) - second.mean(0)).abs() < 4.5 * 0.05**0.5 * (1 / 4000 + 1 / 1300) ** 0.5).all()


def test_the_exact_posterior_is_left_alone(runs):
    posterior = correct(Scaled(0.0, 1.0), runs, classifier=QUICK, seed=1, progress=False)
    certificate = posterior.certificate
    assert not certificate.told_apart
    assert certificate.factor == 0
    assert abs(certificate.auc - 0.5) < 4 * certificate.auc.standard_error
    assert posterior.warnings == []
    exact = SIMULATOR.posterior(posterior.observed)
    draws = posterior.sample((4000,), seed=2)
    sd = exact.variance.sqrt()
    assert (((draws.mean(0) - exact.mean) / sd).abs() < 4.5 / 4000**0.5).all()
    torch.testing.assert_close(posterior.log_prob(draws), exact.log_prob(draws), rtol=1e-4, atol=1e-4)


def test_many_observations_at_once(mended):
    _, posterior = mended
    x = torch.tensor([[0.6, 0.0], [-0.6, 0.0], [0.0, 0.3]])
    draws = posterior.sample_batched((500,), x, seed=3)
    assert draws.shape == (500, 3, 2)
    # the bound on the mean's bias above, and 4.5 standard errors of 500 draws, in units of 0.22
    assert ((draws.mean(0) - x / 2).abs() < 0.05**0.5 * (0.2 + 4.5 / 500**0.5)).all()


def test_cross_fitted_bases_each_miss_a_fold():
    """All simulations are spent, each base is trained on four fifths, and a mixture of densities is one."""
    question = Question(SIMULATOR, torch.tensor([0.3, -0.2]), 400, seed=0, progress=False)
    method = RatioCorrected(FMPE(hidden=(8,), epochs=2), folds=5, fits=2, classifier=Classifier(epochs=2, hidden=(8,)))
    posterior = method.infer(question)
    assert [base.simulations for base in posterior.bases] == [320, 320]
    assert posterior.simulations == 400
    assert posterior.sample((20,), seed=0).shape == (20, 2)
    theta = SIMULATOR.sample_prior(5, seed=0)
    assert posterior.potential(theta).shape == (5,)
    first, second = (posterior.sample((10,), seed=1) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_certificate_of_exact_ratios():
    """Ratios of N(1, 1) to N(0, 1): AUC Phi(1 / sqrt 2), accuracy Phi(1/2), and no reason to temper."""
    random = torch.Generator().manual_seed(0)
    p, q = 1 + torch.randn(20_000, generator=random), torch.randn(20_000, 2, generator=random)
    certificate = Certificate.of(p - 0.5, q - 0.5)
    normal = Normal(torch.tensor(0.0), torch.tensor(1.0))
    assert abs(certificate.auc - normal.cdf(torch.tensor(0.5**0.5))) < 4 * certificate.auc.standard_error
    assert abs(certificate.c2st - normal.cdf(torch.tensor(0.5))) < 4 * certificate.c2st.standard_error
    assert certificate.factor > 0.95
    assert "75.8" in str(certificate)
    assert Certificate.from_figures(certificate.figures()) == certificate


@pytest.mark.parametrize("too_sure", [2.0, 5.0])
def test_the_factor_undoes_exaggeration(too_sure):
    random = torch.Generator().manual_seed(0)
    p, q = 1 + torch.randn(20_000, generator=random), torch.randn(20_000, 2, generator=random)
    # the standard error of a logistic slope at 20,000 rows is about 0.02
    assert best_factor(too_sure * (p - 0.5), too_sure * (q - 0.5)) == pytest.approx(1 / too_sure, abs=0.08 / too_sure)


def test_noise_is_tempered_to_nothing():
    random = torch.Generator().manual_seed(0)
    noise = Certificate.of(torch.randn(2000, generator=random), torch.randn(2000, 3, generator=random))
    assert noise.factor == 0
    assert not noise.told_apart
    assert "does not tell" in str(noise)


def test_bad_arguments_are_refused(runs):
    with pytest.raises(ValueError, match="answers for one"):
        RatioCorrected("smc-abc")
    with pytest.raises(ValueError, match="folds, fits"):
        RatioCorrected(folds=3, fits=4)
    with pytest.raises(ValueError, match="method: expected one of"):
        RatioCorrected("nothing")
    with pytest.raises(TypeError, match="posterior: expected a Posterior"):
        correct(SIMULATOR, runs)
    with pytest.raises(ValueError, match="runs: expected theta and x"):
        correct(Scaled(0, 1), simulate(GaussianLinear(dim=3), 100, seed=0, progress=False), progress=False)
    with pytest.raises(ValueError, match="at least 12 simulations"):
        correct(Scaled(0, 1), runs.first(10), progress=False)
    with pytest.raises(ValueError, match="networks: expected at least 3"):
        Classifier(networks=2)
    with pytest.raises(ValueError, match="expected shapes"):
        Certificate.of(torch.zeros(3), torch.zeros(4, 1))


def _best_log_loss(shift, stretch):
    """The log loss of the exact ratio, by a million draws of each side."""
    random = torch.Generator().manual_seed(0)
    p = torch.randn(1_000_000, 2, generator=random)
    q = shift + stretch * torch.randn(1_000_000, 2, generator=random)

    def log_ratio(z):
        narrow = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
        wide = Independent(Normal(torch.full((2,), shift), stretch * torch.ones(2)), 1)
        return narrow.log_prob(z) - wide.log_prob(z)

    losses = torch.nn.functional.softplus(-log_ratio(p)).mean() + torch.nn.functional.softplus(log_ratio(q)).mean()
    return float(losses) / 2
