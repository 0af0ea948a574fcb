"""Generator losses: their slopes in closed form, and that they descend the divergence they are named after."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.divergences import DIVERGENCES
from implicit_estimators.generator_losses import (
    GENERATOR_LOSSES,
    DivergenceLoss,
    GeneratorLoss,
    NonSaturating,
    Saturating,
    generator_loss,
)


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


@pytest.mark.parametrize(
    ("loss", "descended"),
    [
        (Saturating(), lambda pair: 2 * pair.divergence("js")),
        (NonSaturating(), lambda pair: pair.divergence("reverse-kl") - 2 * pair.divergence("js")),
        (DivergenceLoss("tv"), kl_to_mixture),  # at a log-ratio learned by another loss
    ],
    ids=["saturating", "non-saturating", "tv"],
)
def test_what_the_other_losses_descend(loss: GeneratorLoss, descended, line) -> None:
    expected = numerical(lambda mean, sd: descended(type(line)(mean, sd)), line.mean, line.sd)
    assert pathwise(loss, line.mean, line.sd) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_value_is_the_estimate_of_the_divergence(name: str) -> None:
    s = torch.randn(500, dtype=torch.float64)
    assert torch.allclose(generator_loss(name).loss(s), DIVERGENCES[name].value(s))


@pytest.mark.parametrize("name", GENERATOR_LOSSES)
@pytest.mark.parametrize("s", [-100.0, 100.0])
def test_values_and_slopes_are_finite_at_100_in_float32(name: str, s: float) -> None:
    loss = generator_loss(name)
    values = torch.full((1_000,), s, requires_grad=True)
    total = loss.loss(values)
    (gradient,) = torch.autograd.grad(total, values)
    assert torch.isfinite(total)
    assert torch.isfinite(gradient).all()
    assert (gradient <= 0).all()  # a generator is never pushed towards less p/q


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="loss: expected one of saturating, non-saturating, kl"):
        generator_loss("hinge")
    with pytest.raises(ValueError, match="divergence: expected one of"):
        DivergenceLoss("saturating")
    mine = Saturating()
    assert generator_loss(mine) is mine
