"""Generator losses: their slopes in closed form, and that they descend the divergence they are named after."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_estimators.divergences import DIVERGENCES
from implicit_estimators.generator_losses import (
    GENERATOR_LOSSES,
    DivergenceLoss,
    Exponential,
    GeneratorLoss,
    LeastSquares,
    MaximumLikelihood,
    NonSaturating,
    RaiseCritic,
    Relativistic,
    RelativisticAverage,
    Saturating,
    generator_loss,
)
from implicit_estimators.ratio_losses import ratio_loss


def slope(loss: GeneratorLoss, value: float, dtype: torch.dtype = torch.float32) -> float:
    s = torch.tensor([value], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss.loss(s), s)
    return float(gradient)


@pytest.mark.parametrize("s", [-100.0, -40.0, -3.0, 0.0, 2.0, 40.0, 100.0])
def test_slopes_of_the_gan_losses(s: float) -> None:
    sigmoid = math.exp(-math.log1p(math.exp(-s)))
    complement = math.exp(-math.log1p(math.exp(s)))
    assert slope(NonSaturating(), s) == pytest.approx(-complement, rel=1e-5, abs=1e-44)
    assert slope(Saturating(), s) == pytest.approx(-sigmoid, rel=1e-5, abs=1e-44)


def test_only_the_saturating_loss_dies_on_a_sure_critic() -> None:
    assert slope(NonSaturating(), -100.0) == -1
    assert -1e-40 < slope(Saturating(), -100.0) < 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kl", lambda r: -r),
        ("reverse-kl", lambda r: -1.0),
        ("js", lambda r: -0.5 * r / (1 + r)),
        ("pearson", lambda r: -2 * r**2),
        ("neyman", lambda r: -2 / r),
        ("hellinger", lambda r: -0.25 * math.sqrt(r)),
        ("alpha", lambda r: -(r**0.25)),
        ("jeffreys", lambda r: -r - 1),
        ("tv", lambda r: -r / (1 + r) ** 2),
    ],
)
@pytest.mark.parametrize("s", [-8.0, -1.0, 0.0, 0.5, 6.0])
def test_slopes_of_the_divergences(name: str, expected, s: float) -> None:
    """-r^2 f''(r), and for total variation the slope of its smooth critic."""
    assert slope(DivergenceLoss(name), s, torch.float64) == pytest.approx(expected(math.exp(s)), rel=1e-9)


def pathwise(loss: GeneratorLoss, mean: float, sd: float) -> tuple[float, float]:
    """Derivatives in (mean, sd) of q = N(mean, sd), x = mean + sd z, against p = N(0, 1), by quadrature over z."""
    z = torch.linspace(-13, 13, 40_001, dtype=torch.float64)
    weight = (-0.5 * z**2).exp() / math.sqrt(2 * math.pi) * (z[1] - z[0])
    q = torch.tensor([mean, sd], dtype=torch.float64, requires_grad=True)
    x = q[0] + q[1] * z
    s = -0.5 * x**2 + 0.5 * ((x - mean) / sd) ** 2 + math.log(sd)  # the true log-ratio, fixed as a function of x
    (gradient,) = torch.autograd.grad(_weighted(loss, s, weight), q)
    return float(gradient[0]), float(gradient[1])


def _weighted(loss: GeneratorLoss, s: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A weighted sum whose gradient in s is that of the loss, which is a mean over elements."""
    detached = s.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(loss.loss(detached), detached)
    return (weight * len(s) * slopes * s).sum()


def numerical(function, mean: float, sd: float) -> tuple[float, float]:
    step = 1e-4
    return (
        (function(mean + step, sd) - function(mean - step, sd)) / (2 * step),
        (function(mean, sd + step) - function(mean, sd - step)) / (2 * step),
    )


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "tv"])
def test_the_gradient_is_that_of_the_divergence(name: str, line) -> None:
    """For mean and scale of q at the true ratio; tolerance from the central difference, step^2 = 1e-8."""
    if line.is_infinite(name):
        return
    expected = numerical(lambda mean, sd: type(line)(mean, sd).divergence(name), line.mean, line.sd)
    assert pathwise(DivergenceLoss(name), line.mean, line.sd) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_holding_the_ratio_fixed_in_f_itself_would_be_wrong() -> None:
    """Why the loss does not differentiate E_q f(r) as it stands: for KL that points away from the data."""
    mean, sd = 0.7, 1.0
    z = torch.linspace(-13, 13, 40_001, dtype=torch.float64)
    weight = (-0.5 * z**2).exp() / math.sqrt(2 * math.pi) * (z[1] - z[0])
    q = torch.tensor(mean, dtype=torch.float64, requires_grad=True)
    x = q + sd * z
    s = -0.5 * x**2 + 0.5 * (x - mean) ** 2
    (naive,) = torch.autograd.grad((weight * DIVERGENCES["kl"].f(s)).sum(), q)
    right, _ = pathwise(DivergenceLoss("kl"), mean, sd)
    assert right == pytest.approx(mean)  # d/dm of m^2 / 2
    assert float(naive) < -0.1


def kl_to_mixture(pair) -> float:
    return pair.expect_p(lambda x: pair.p.log_prob(x) - pair.log_mixture(x))


class Sigmoid(GeneratorLoss):
    """Least squares at LSGAN's optimal critic, p / (p + q)."""

    def loss(self, log_ratio: torch.Tensor, at_data: torch.Tensor | None = None) -> torch.Tensor:
        return LeastSquares().loss(log_ratio.sigmoid())


@pytest.mark.parametrize(
    ("loss", "descended"),
    [
        (Saturating(), lambda pair: 2 * pair.divergence("js")),
        (NonSaturating(), lambda pair: pair.divergence("reverse-kl") - 2 * pair.divergence("js")),
        (DivergenceLoss("tv"), kl_to_mixture),  # at a log-ratio learned by another loss
        (RaiseCritic(), lambda pair: pair.divergence("reverse-kl")),
        (Exponential(), lambda pair: 2 / 3 * pair.expect_q(lambda x: (-0.5 * pair.log_ratio(x)).exp())),
        (Sigmoid(), lambda pair: kl_to_mixture(pair) + 0.5 * pair.expect_q(lambda x: pair.log_ratio(x).sigmoid())),
    ],
    ids=["saturating", "non-saturating", "tv", "critic", "exponential", "least-squares"],
)
def test_what_the_other_losses_descend(loss: GeneratorLoss, descended, line) -> None:
    if isinstance(loss, Exponential) and line.sd**2 >= 3:
        return  # infinite
    expected = numerical(lambda mean, sd: descended(type(line)(mean, sd)), line.mean, line.sd)
    assert pathwise(loss, line.mean, line.sd) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_value_is_the_estimate_of_the_divergence(name: str) -> None:
    s = torch.randn(500, dtype=torch.float64)
    assert torch.allclose(generator_loss(name).loss(s), DIVERGENCES[name].value(s))


@pytest.mark.parametrize("name", GENERATOR_LOSSES)
@pytest.mark.parametrize("s", [-100.0, -80.0, -40.0, 40.0, 80.0, 100.0])
def test_values_and_slopes_are_finite_at_large_outputs_in_float32(name: str, s: float) -> None:
    loss = generator_loss(name)
    values = torch.full((1_000,), s, requires_grad=True)
    total = loss.loss(values, torch.zeros(1_000))
    (gradient,) = torch.autograd.grad(total, values)
    assert torch.isfinite(total)
    assert torch.isfinite(gradient).all()
    if not (name == "least-squares" and s > 1):
        assert (gradient <= 0).all()  # a generator is never pushed towards less p/q


FULL_SLOPE = {
    "non-saturating": -1.0,
    "reverse-kl": -1.0,
    "jeffreys": -1.0,
    "critic": -1.0,
    "maximum-likelihood": -1.0,
    "relativistic": -1.0,
    "relativistic-average": -2.0,
    "least-squares": -81.0,
}
"""Slopes of a batch of draws that the critic is sure of, times its size."""
STEEPER = {"exponential", "neyman"}
FADING = {"saturating": 1.0, "kl": 1.0, "js": 0.5, "pearson": 2.0, "hellinger": 0.25, "tv": 1.0, "alpha": 1.0}
"""Factors of the slopes that vanish like r, and others as a power of it."""
POWER = {"pearson": 2.0, "hellinger": 0.5, "alpha": 0.25}


@pytest.mark.parametrize("name", GENERATOR_LOSSES)
def test_slopes_on_a_sure_critic_are_what_theory_says(name: str) -> None:
    """At -80 in float32: dead only where they vanish like r, and then to the last digit that float32 has."""
    values = torch.full((8,), -80.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_loss(name).loss(values, torch.zeros(8)), values)
    slope = float(gradient.sum())
    if name in FULL_SLOPE:
        assert slope == pytest.approx(FULL_SLOPE[name], rel=1e-5)
    elif name in STEEPER:
        assert slope < -1e12
    else:
        expected = -FADING[name] * math.exp(-80 * POWER.get(name, 1.0))
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-37)


@given(st.lists(st.floats(-15, 15), min_size=1, max_size=9))
def test_maximum_likelihood_is_kl_where_the_weights_have_mean_one(outputs: list[float]) -> None:
    """And Goodfellow's -E_q e^s, to the letter: the three differ in what they do with a constant in s alone."""
    s = torch.tensor(outputs, dtype=torch.float64)
    s = (s - s.logsumexp(0) + math.log(len(s))).requires_grad_()
    losses = (MaximumLikelihood().loss(s), DivergenceLoss("kl").loss(s), -s.exp().mean())
    slopes = [torch.autograd.grad(loss, s)[0] for loss in losses]
    assert torch.allclose(slopes[0], slopes[1], atol=1e-12)
    assert torch.allclose(slopes[1], slopes[2], atol=1e-12)
    assert torch.allclose(losses[0], losses[1], atol=1e-10)  # of the value too, as the mean of r is 1


@given(st.lists(st.floats(-80, 80), min_size=1, max_size=9), st.floats(-200, 200))
def test_maximum_likelihood_does_not_see_a_constant(outputs: list[float], constant: float) -> None:
    s = torch.tensor(outputs, dtype=torch.float64, requires_grad=True)
    (here,), (there,) = (torch.autograd.grad(MaximumLikelihood().loss(v), s) for v in (s, s + constant))
    assert torch.allclose(here, there, atol=1e-12)
    assert float(here.sum()) == pytest.approx(-1)


def test_maximum_likelihood_fits_a_gaussian_as_likelihood_does(line) -> None:
    """The gradient in (mean, sd) from 200,001 evenly likely draws is that of KL; the error is that of the midpoints."""
    share = (torch.arange(200_001, dtype=torch.float64) + 0.5) / 200_001
    z = torch.special.ndtri(share)
    q = torch.tensor([line.mean, line.sd], dtype=torch.float64, requires_grad=True)
    x = q[0] + q[1] * z
    s = line.p.log_prob(x) - line.q.log_prob(x)
    (gradient,) = torch.autograd.grad(MaximumLikelihood().loss(s), q)
    expected = numerical(lambda mean, sd: type(line)(mean, sd).divergence("kl"), line.mean, line.sd)
    if 2 * line.sd**2 > 1.5:  # lighter tails of q leave its weights to the last few midpoints
        assert gradient.tolist() == pytest.approx(expected, abs=2e-3)


def test_second_derivatives_of_maximum_likelihood_are_those_of_its_gradient() -> None:
    """Games that differentiate a gradient (consensus, unrolled) must not meet weights that were cut off."""
    s = torch.linspace(-1, 1, 5, dtype=torch.float64, requires_grad=True)

    def slopes(at: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(MaximumLikelihood().loss(at), at, create_graph=True)[0]

    weights = s.softmax(0)
    expected = weights[:, None] * weights - weights.diag()
    assert torch.allclose(torch.autograd.functional.jacobian(slopes, s), expected)


@pytest.mark.parametrize("kind", [Relativistic, RelativisticAverage])
def test_relativistic_generators_exchange_the_two_sides(kind) -> None:
    """What the model minimises is the critic's loss with data and draws exchanged; at equal outputs both are even."""
    data, draws = torch.linspace(-2, 1, 7), torch.linspace(-1, 3, 5)
    critic = ratio_loss(kind.name)
    assert torch.equal(kind().loss(draws, data), critic.loss(draws, data))
    assert kind().loss(draws, data) != critic.loss(data, draws)
    assert kind().loss(data + 5, draws + 5) == pytest.approx(float(kind().loss(data, draws)), rel=1e-5)
    sides = 1 if kind is Relativistic else 2
    assert float(kind().loss(torch.full((3,), 0.7), torch.full((4,), 0.7))) == pytest.approx(sides * math.log(2))


def test_the_slope_of_a_relativistic_draw_is_how_often_a_datum_beats_it() -> None:
    data, draws = torch.linspace(-2, 1, 7), torch.linspace(-1, 3, 5).requires_grad_()
    (slopes,) = torch.autograd.grad(Relativistic().loss(draws, data), draws)
    assert torch.allclose(slopes * 5, -(data[:, None] - draws).sigmoid().mean(0))


@pytest.mark.parametrize("name", GENERATOR_LOSSES)
def test_the_order_of_draws_does_not_matter_and_none_are_refused(name: str) -> None:
    loss, draw = generator_loss(name), torch.Generator().manual_seed(0)
    s, at_data = (torch.randn(40, generator=draw, dtype=torch.float64) for _ in range(2))
    assert torch.allclose(loss.loss(s, at_data), loss.loss(s.flip(0), at_data.roll(7)))
    with pytest.raises(ValueError, match="log_ratio: expected values at one draw at least"):
        loss.loss(s[:0], at_data)
    if loss.needs_data:
        for nothing in (None, s[:0]):
            with pytest.raises(ValueError, match=f"at_data: the generator loss '{name}' needs"):
                loss.loss(s, nothing)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"loss: expected one of saturating, .*; got 'critics' \(did you"):
        generator_loss("critics")
    with pytest.raises(ValueError, match="divergence: expected one of"):
        DivergenceLoss("saturating")
    with pytest.raises(NotImplementedError, match=r"must write each\(log_ratio\)"):
        GeneratorLoss().loss(torch.zeros(1))
    mine = Saturating()
    assert generator_loss(mine) is mine
    assert all(generator_loss(name).name == name for name in GENERATOR_LOSSES if name not in DIVERGENCES)
