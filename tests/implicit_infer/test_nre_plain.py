"""NRE-A, -B, -C and balanced NRE: ratios and posteriors against closed forms, balance, ensembles, refusals."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from implicit_estimators.networks.train_ratio import RatioTraining
from implicit_infer.posteriors import BNRE, NREA, NREB, NREC, EnsembleSampler, Question
from implicit_infer.posteriors.ratio.plain import PlainNRE, RatioPosterior
from implicit_simulators.benchmark import GaussianLinear, TwoMoons

METHODS: dict[str, type[PlainNRE]] = {"nre-a": NREA, "nre-b": NREB, "nre-c": NREC, "bnre": BNRE}
QUICK = {name: RatioTraining(25, 200, 5e-3) if name == "bnre" else RatioTraining(12, 50, 3e-3) for name in METHODS}
OBSERVED = torch.tensor([0.4, -0.5])


@functools.cache
def answer(name: str) -> RatioPosterior:
    question = Question(GaussianLinear(2), OBSERVED, 4000, seed=0, progress=False)
    return METHODS[name](hidden=(32, 32), training=QUICK[name]).infer(question)


@functools.cache
def exact_draws() -> Tensor:
    return GaussianLinear(2).posterior(OBSERVED).sample((400,))


def gap(name: str) -> Tensor:
    """What the learned log-ratio is off by, at draws of the exact posterior."""
    simulator, theta = GaussianLinear(2), exact_draws()
    truth = simulator.posterior(OBSERVED).log_prob(theta) - simulator.prior.log_prob(theta)
    return answer(name).log_ratio(theta) - truth


@pytest.mark.parametrize("name", METHODS)
def test_the_ratio_is_the_exact_one(name: str) -> None:
    """From 4,000 simulations of a Gaussian, in nats.

    Seeds 100 to 102 have a spread of 0.08 to 0.14 and a mean of at most 0.09; balanced NRE, 0.30 and 0.15.
    """
    off, most = gap(name), 0.6 if name == "bnre" else 0.3
    assert off.std() < most
    if METHODS[name]().loss().normalised:
        assert abs(float(off.mean())) < most


@pytest.mark.parametrize("name", METHODS)
def test_the_posterior_is_the_exact_one(name: str) -> None:
    """Means within 0.25 and spreads within 15 % of the exact one: at seeds 100 to 102 they were within 0.08 and 5 %.

    Of NRE-C only seed 100 was looked at.

    Balanced NRE is wide on purpose (0.2 and 12 %).
    """
    posterior = answer(name)
    draws = posterior.sample((2000,), seed=1)
    exact = GaussianLinear(2).posterior(OBSERVED)
    sd = exact.variance.sqrt()
    off, wide = ((draws.mean(0) - exact.mean) / sd).abs(), draws.std(0) / sd - 1
    if name == "bnre":
        assert (off < 0.5).all()
        assert ((wide > -0.1) & (wide < 0.4)).all()
    else:
        assert (off < 0.25).all()
        assert (wide.abs() < 0.15).all()
        assert posterior.warnings == []
    assert posterior.figures["importance_effective"] > 4 * 2000 / 2
    assert posterior.simulations == 4000


def test_walkers_and_resampled_candidates_agree() -> None:
    """Two samplers of one density: quartiles within 5 standard errors of 2,000 draws, walkers worth half of theirs."""
    posterior = answer("nre-a")
    resampled = posterior.sample((2000,), seed=1)
    posterior.sampler.largest = 0
    try:
        walked = posterior.sample((2000,), seed=1)
    finally:
        posterior.sampler.largest = 3
    assert "mcmc_acceptance" in posterior.figures
    sd = resampled.std(0)
    for share in (0.25, 0.5, 0.75):
        off = (walked.quantile(share, 0) - resampled.quantile(share, 0)) / sd
        # a quartile's standard error is at most 1.37 / sqrt(n) of a normal's sd
        assert (off.abs() < 5 * 1.37 * (1 / 2000 + 1 / 1000) ** 0.5).all()


def test_several_observations_at_once_and_a_potential() -> None:
    posterior = answer("nre-c")
    x = torch.stack((OBSERVED, -OBSERVED))
    draws = posterior.sample_batched((500,), x, seed=2)
    assert draws.shape == (500, 2, 2)
    sd = 0.05**0.5
    assert ((draws.mean(0) - x / 2).abs() < 0.35 * sd).all()  # 5 standard errors, and 0.1 for the network
    theta = exact_draws()[:5]
    expected = posterior.log_ratio(theta) + posterior.simulator.prior.log_prob(theta)
    torch.testing.assert_close(posterior.potential(theta), expected)
    with pytest.raises(NotImplementedError, match="no normalised density"):
        posterior.log_prob(theta)


def test_balance_is_kept_by_bnre() -> None:
    r""":math:`E_{joint}[d] + E_{product}[d] = 1` on fresh pairs, within 4 standard errors of 4,000 of each and 0.01."""
    posterior, simulator = answer("bnre"), GaussianLinear(2)
    theta = simulator.sample_prior(4000, seed=7)
    z = posterior.inputs.parameters_of(theta)
    s = posterior.inputs.summaries(simulator.simulate(theta, seed=7))
    with torch.no_grad():
        joint, product = (posterior.ratio(part[:, None], s)[:, 0].sigmoid() for part in (z, z.roll(1, 0)))
    error = math.hypot(float(joint.std()), float(product.std())) / 4000**0.5
    assert abs(float(joint.mean() + product.mean()) - 1) < 4 * error + 0.01


def test_members_are_averaged_as_ratios_where_they_are_normalised() -> None:
    question = Question(GaussianLinear(2), OBSERVED, 300, seed=1, progress=False)
    settings = {"hidden": (8,), "members": 3, "training": RatioTraining(2, 50)}
    theta = exact_draws()[:20]
    for kind, together in (
        (NREA, lambda h: h.exp().mean(0).log()),
        (NREB, lambda h: h.mean(0)),
    ):
        posterior = kind(**settings).infer(question)
        z, s = posterior.inputs.parameters_of(theta), posterior.inputs.summaries(OBSERVED[None])
        each = posterior.ratio.network(z[None], s)[:, 0]
        assert each.std(0).max() > 1e-3
        torch.testing.assert_close(posterior.log_ratio(theta), together(each).detach(), rtol=1e-4, atol=1e-5)


def test_nothing_leaves_a_bounded_prior():
    simulator = TwoMoons()
    method = NREA(hidden=(16,), training=RatioTraining(3, 50), sampler=EnsembleSampler(100, 20, 5), resample=0)
    posterior = method.infer(Question(simulator, torch.zeros(2), 500, seed=0, progress=False))
    assert simulator.prior.support.check(posterior.sample((500,), seed=1)).all()
    outside = torch.tensor([[1.5, 0.0], [0.0, 0.0]])
    assert torch.isinf(posterior.potential(outside)).tolist() == [True, False]
    assert torch.isinf(posterior.log_ratio(outside)).tolist() == [True, False]


def test_same_seed_same_posterior() -> None:
    question = Question(GaussianLinear(2), OBSERVED, 300, seed=3, progress=False)
    method = NREB(hidden=(8,), training=RatioTraining(2, 50))
    first, second = (method.infer(question).sample((10,), seed=1) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (NREA, {"members": 0}),
        (NREA, {"validation": 0.0}),
        (NREA, {"resample": -1}),
        (NREA, {"activation": "tanh"}),
        (NREA, {"hidden": ()}),
        (NREB, {"atoms": 1}),
        (NREC, {"contrasts": 0}),
        (NREC, {"gamma": 0.0}),
    ],
)
def test_bad_settings_are_refused(kind, setting) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))}.*: expected"):
        kind(**setting)


def test_too_few_simulations_are_refused() -> None:
    with pytest.raises(ValueError, match="budget: expected at least 4"):
        NREA().infer(Question(GaussianLinear(2), OBSERVED, 3, seed=0, progress=False))
