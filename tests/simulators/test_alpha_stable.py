"""Alpha-stable draws against the three densities that are known, the textbook formulae and the Fourier transform."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from implicit_simulators import AlphaStable
from implicit_simulators.observations.exchange_rates import RETURNS

THETAS = [
    (1.7, 0.9, 10.0, 10.0),
    (1.0, 0.8, 2.0, -1.0),
    (1.0, -1.0, 0.5, 0.0),
    (1.001, 1.0, 1.0, 0.0),
    (0.999, -0.7, 3.0, 1.0),
    (0.6, 0.5, 1.0, 0.0),
    (1.3, -1.0, 2.0, 5.0),
    (2.0, 0.3, 1.0, 0.0),
]


def draw(theta: tuple[float, ...], n: int, seed: int = 0) -> Tensor:
    return AlphaStable(n_obs=n).simulate(torch.tensor([theta], dtype=torch.float64), seed=seed)[0]


def s1_location(alpha: float, beta: float, gamma: float, delta: float) -> float:
    """The location of the same law in the parametrisation of textbooks and scipy."""
    if alpha == 1:
        return delta - 2 / math.pi * beta * gamma * math.log(gamma)
    return delta - beta * gamma * math.tan(math.pi * alpha / 2)


@pytest.mark.parametrize(
    ("theta", "law"),
    [
        ((2.0, 0.7, 3.0, 1.0), stats.norm(1.0, 3.0 * 2**0.5)),
        ((1.0, 0.0, 3.0, 1.0), stats.cauchy(1.0, 3.0)),
        ((0.5, 1.0, 3.0, 1.0), stats.levy(1.0 - 3.0, 3.0)),
    ],
    ids=["normal", "cauchy", "levy"],
)
def test_the_known_densities(theta: tuple[float, ...], law: Any) -> None:
    assert stats.kstest(draw(theta, 20_000).numpy(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("theta", THETAS)
def test_the_characteristic_function(theta: tuple[float, ...]) -> None:
    n = 100_000
    x = draw(theta, n)
    t = torch.tensor([-2.0, -0.7, -0.1, 0.05, 0.3, 1.0, 3.0], dtype=torch.float64) / theta[2]
    expected = AlphaStable().characteristic_function(torch.tensor([theta], dtype=torch.float64), t)[0]
    waves = torch.exp(1j * t[:, None] * x)
    # real and imaginary parts are means of numbers of variance below 1
    assert ((waves.mean(1) - expected).real.abs() < 5 * waves.real.std(1) / n**0.5 + 1e-9).all()
    assert ((waves.mean(1) - expected).imag.abs() < 5 * waves.imag.std(1) / n**0.5 + 1e-9).all()


@pytest.mark.parametrize("theta", THETAS[:-1])
def test_the_characteristic_function_is_that_of_the_textbooks(theta: tuple[float, ...]) -> None:
    alpha, beta, gamma, _ = theta
    location = s1_location(*theta)
    t = np.array([-2.0, -0.3, 0.4, 1.5])
    if alpha == 1:
        twist = 2 / math.pi * beta * np.sign(t) * np.log(np.abs(t))
        expected = np.exp(1j * location * t - np.abs(gamma * t) * (1 + 1j * twist))
    else:
        twist = beta * np.sign(t) * math.tan(math.pi * alpha / 2)
        expected = np.exp(1j * location * t - np.abs(gamma * t) ** alpha * (1 - 1j * twist))
    ours = AlphaStable().characteristic_function(torch.tensor([theta], dtype=torch.float64), torch.tensor(t))[0]
    np.testing.assert_allclose(ours, expected, atol=1e-10)


@pytest.mark.parametrize("theta", [THETAS[0], (1.0, 0.5, 1.0, 0.0), (0.8, -0.5, 2.0, 1.0)])
def test_the_density_that_scipy_integrates(theta: tuple[float, ...]) -> None:
    alpha, beta, gamma, _ = theta
    law = stats.levy_stable(alpha, beta, loc=s1_location(*theta), scale=gamma)
    x = np.sort(draw(theta, 2000).numpy())
    # scipy integrates each point: the distance on a few of the steps bounds the distance on all from below
    places = np.arange(50, 2000, 100)
    distance = np.abs(law.cdf(x[places]) - (places + 0.5) / 2000).max()
    assert distance < 2.2 / 2000**0.5  # Kolmogorov: exceeded once in 8000


@pytest.mark.parametrize("alpha", [0.4, 0.9, 1.0, 1.2, 1.9])
@pytest.mark.parametrize("beta", [-1.0, 0.3, 1.0])
def test_each_draw_is_that_of_chambers_mallows_and_stuck(alpha: float, beta: float) -> None:
    """The two formulae as Weron (1996) prints them, for S1; his (3.9) has the 2/pi that the original lacks."""
    rng = np.random.default_rng(0)
    v, w = math.pi * (rng.random(500) - 0.5), rng.exponential(size=500)
    if alpha == 1:
        bend = math.pi / 2 + beta * v
        x = 2 / math.pi * (bend * np.tan(v) - beta * np.log(math.pi / 2 * w * np.cos(v) / bend))
    else:
        skew = beta * math.tan(math.pi * alpha / 2)
        b, s = math.atan(skew) / alpha, (1 + skew**2) ** (1 / (2 * alpha))
        power = (np.cos(v - alpha * (v + b)) / w) ** ((1 - alpha) / alpha)
        x = s * np.sin(alpha * (v + b)) / np.cos(v) ** (1 / alpha) * power
        x = x - skew  # from S1 to S0
    theta = torch.tensor([[alpha, beta, 1.0, 0.0]], dtype=torch.float64)
    ours = AlphaStable._transform(theta, torch.tensor(v)[None], torch.tensor(w)[None])[0]
    np.testing.assert_allclose(ours, x, rtol=1e-8, atol=1e-8)


def test_nothing_jumps_at_one() -> None:
    """Draws move with alpha as their derivative says, on both sides of 1 and through it."""
    simulator = AlphaStable(n_obs=200)
    noise = simulator._noise(1, _stream(), torch.zeros(1))
    theta = torch.tensor([[1.0, 0.8, 1.0, 0.0]], dtype=torch.float64)
    direction = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    x, slope = torch.autograd.functional.jvp(lambda t: simulator._transform(t, *noise), theta, direction)
    for step in (1e-4, 1e-7, -1e-7, -1e-4):
        moved = simulator._transform(theta + step * direction, *noise)
        error = (moved - x - step * slope).abs() / (1 + x.abs())
        assert (error < 1e3 * step**2 * (1 + x.abs().log1p() ** 2) + 1e-13).all()


def _stream() -> Any:
    from implicit_simulators import Stream

    return Stream.of(0)


def test_extreme_draws_are_numbers() -> None:
    theta = torch.tensor([[1.1, 1.0, 300.0, 0.0], [0.5, -1.0, 1.0, 0.0]])
    x = AlphaStable(n_obs=200_000).simulate(theta, seed=0)
    assert torch.isfinite(x).all()
    assert x.abs().amax(1)[0] > 1e5
    assert AlphaStable(n_obs=4).simulate([[2.1, 0, 1, 0], [1, 1.1, 1, 0], [1, 0, 0, 0]], seed=0).isnan().all()


@pytest.mark.parametrize(("alpha", "ratio"), [(2.0, 2.439), (1.0, 6.314), (1.5, 3.148)])
def test_summaries_are_those_of_mcculloch(alpha: float, ratio: float) -> None:
    """The column beta = 0 of his table II."""
    simulator = AlphaStable(n_obs=400_000)
    summaries = simulator.summarize(draw((alpha, 0.0, 2.0, 1.0), 400_000)[None])[0]
    assert summaries[0] == pytest.approx(ratio, rel=0.015)  # about four standard errors
    assert summaries[1].abs() < 0.02
    assert summaries[3] == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", RETURNS)
def test_returns_fit_the_simulator_made_for_them(name: str) -> None:
    simulator = AlphaStable.for_observation(name)
    x = simulator.observation(name)
    assert x.shape == simulator.event_shape
    drawn = simulator.summarize(simulator.simulate(simulator.sample_prior(300, seed=0), seed=1))
    share = (drawn < simulator.summarize(x[None])).float().mean(0)
    assert ((share > 0.02) & (share < 0.98)).all()
    assert torch.isfinite(simulator.prior.log_prob(torch.tensor(simulator.reference_theta)))


def test_another_number_of_draws_has_no_observations() -> None:
    with pytest.raises(ValueError, match=r"observation: exchange-rates-cd has 1866 returns; .* n_obs=200"):
        AlphaStable().observation("exchange-rates-cd")
    with pytest.raises(ValueError, match=r"name: expected one of exchange-rates-dm, .*; got 'gold'"):
        AlphaStable.for_observation("gold")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_obs": 0}, "n_obs: expected a positive int; got 0"),
        ({"prior": "flat"}, "prior: expected one of standard, returns; got 'flat'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlphaStable(**settings)
