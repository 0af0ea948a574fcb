"""Ratio losses: least at the true log-ratio, of the known value there, and with live gradients at |output| = 100."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.divergences import DIVERGENCES
from implicit_estimators.ratio_losses import (
    RATIO_LOSSES,
    BrierLoss,
    FDivergenceLoss,
    LogLoss,
    RatioLoss,
    ratio_loss,
)

SMOOTH = [name for name in RATIO_LOSSES if name != "tv"]
every = pytest.mark.parametrize("name", RATIO_LOSSES)
smooth = pytest.mark.parametrize("name", SMOOTH)


def by_quadrature(loss: RatioLoss, line, output) -> float:
    """The loss in expectation, for an output given as a function of x."""
    return 2 * loss.prior * line.expect_p(lambda x: loss.at_p(output(x))) + 2 * (1 - loss.prior) * line.expect_q(
        lambda x: loss.at_q(output(x))
    )


@smooth
def test_the_gradient_is_zero_at_the_true_ratio(name: str, line) -> None:
    """In every direction of output space: the derivative at each x, weighed by its density, is 0."""
    loss = ratio_loss(name)
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    output = line.log_ratio(x).requires_grad_()
    p, q = line.p.log_prob(x).exp(), line.q.log_prob(x).exp()
    (slope,) = torch.autograd.grad((p * loss.at_p(output) + q * loss.at_q(output)).sum(), output)
    (size,) = torch.autograd.grad((p * loss.at_p(output)).sum(), output)
    assert (slope.abs() <= 1e-10 * (size.abs() + 1e-3)).all()


@smooth
@pytest.mark.parametrize("move", [lambda s: s + 0.3, lambda s: s - 0.3, lambda s: 1.2 * s, lambda s: s.sin()])
def test_every_other_output_costs_more(name: str, move, line) -> None:
    loss = ratio_loss(name)
    least = by_quadrature(loss, line, line.log_ratio)
    assert by_quadrature(loss, line, lambda x: move(line.log_ratio(x))) > least + 1e-6


@pytest.mark.parametrize("name", ["log", "brier"])
@pytest.mark.parametrize("prior", [0.1, 0.8])
def test_the_class_prior_is_taken_off_again(name: str, prior: float, line) -> None:
    loss = ratio_loss(name, prior)
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    output = (line.log_ratio(x) + math.log(prior / (1 - prior))).requires_grad_()
    p, q = prior * line.p.log_prob(x).exp(), (1 - prior) * line.q.log_prob(x).exp()
    (slope,) = torch.autograd.grad((p * loss.at_p(output) + q * loss.at_q(output)).sum(), output)
    assert slope.abs().max() < 1e-12
    assert torch.allclose(loss.log_ratio(output), line.log_ratio(x), atol=1e-12)


def test_the_log_loss_at_its_optimum_is_log_4_minus_twice_jensen_shannon(line) -> None:
    assert by_quadrature(LogLoss(), line, line.log_ratio) == pytest.approx(math.log(4) - 2 * line.divergence("js"))


def test_the_brier_loss_at_its_optimum(line) -> None:
    harmonic = line.expect_q(lambda x: line.log_ratio(x).sigmoid())  # the integral of p q / (p + q)
    assert by_quadrature(BrierLoss(), line, line.log_ratio) == pytest.approx(harmonic)


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "tv"])
def test_a_bound_at_its_optimum_is_minus_the_divergence(name: str, line) -> None:
    loss = FDivergenceLoss(divergence=name)
    assert by_quadrature(loss, line, line.log_ratio) == pytest.approx(-line.divergence(name), rel=1e-8)


def test_total_variation_is_approached_as_the_output_grows(line) -> None:
    loss = FDivergenceLoss(divergence="tv")
    gaps = [
        by_quadrature(loss, line, lambda x, k=k: k * line.log_ratio(x)) + line.divergence("tv") for k in (1, 10, 1e3)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", ["log", "js"])
def test_the_log_loss_is_the_jensen_shannon_bound(name: str) -> None:
    """log 4 - 2 bound, for any outputs: a GAN's discriminator."""
    p, q = torch.randn(50, dtype=torch.float64), torch.randn(70, dtype=torch.float64)
    bound = DIVERGENCES["js"].bound(p, q)
    expected = math.log(4) - 2 * bound if name == "log" else -bound
    assert torch.allclose(ratio_loss(name).loss(p, q), expected)


@every
@pytest.mark.parametrize("size", [100.0, -100.0])
def test_gradients_are_finite_and_alive_at_100_in_float32(name: str, size: float) -> None:
    """And of the size that theory gives, where float32 can hold it."""
    loss = ratio_loss(name)
    for term in (loss.at_p, loss.at_q):
        output = torch.full((1_000,), size, requires_grad=True)
        exact = torch.tensor([size], dtype=torch.float64, requires_grad=True)
        total = term(output).sum()
        (slope,) = torch.autograd.grad(total, output)
        (truth,) = torch.autograd.grad(term(exact).sum(), exact)
        assert torch.isfinite(total)
        assert torch.isfinite(slope).all()
        assert slope.sign().eq(truth.sign()).all() or abs(float(truth)) < 1e-44
    right, wrong = (loss.at_p, loss.at_q) if size > 0 else (loss.at_q, loss.at_p)
    output = torch.tensor([size], requires_grad=True)
    (slope,) = torch.autograd.grad(wrong(output).sum(), output)
    assert slope * size > 0  # a gross error is still pushed back
    assert float(wrong(output).detach()) > float(right(output).detach())


def test_the_log_loss_pushes_gross_errors_with_full_force() -> None:
    output = torch.tensor([-100.0], requires_grad=True)
    (slope,) = torch.autograd.grad(LogLoss().at_p(output).sum(), output)
    assert float(slope) == -1


@every
def test_weights_count_as_repetitions(name: str) -> None:
    loss = ratio_loss(name)
    p, q = torch.tensor([0.3, -0.7, 1.1]), torch.tensor([0.2, -0.4])
    weighted = loss.loss(p, q, torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 4.0]))
    repeated = loss.loss(p[[0, 0, 1, 2, 2, 2]], q[[0, 1, 1, 1, 1]])
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-6)


@every
def test_the_order_of_samples_does_not_matter(name: str) -> None:
    loss = ratio_loss(name)
    p, q = torch.randn(40, dtype=torch.float64), torch.randn(30, dtype=torch.float64)
    assert torch.allclose(loss.loss(p, q), loss.loss(p.flip(0), q.roll(7)))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="loss: expected one of log, brier, kl"):
        ratio_loss("hinge")
    with pytest.raises(ValueError, match=r"prior: expected a number inside \(0, 1\); got 1"):
        LogLoss(1)
    with pytest.raises(ValueError, match="prior: an f-divergence bound weighs p and q evenly"):
        FDivergenceLoss(0.3, "kl")
    with pytest.raises(ValueError, match="divergence: expected one of"):
        FDivergenceLoss(divergence="log")
    with pytest.raises(ValueError, match="tells where p > q, not the ratio"):
        ratio_loss("tv").log_ratio(torch.zeros(1))
    with pytest.raises(ValueError, match="output_q: expected outputs of at least one sample"):
        LogLoss().loss(torch.zeros(3), torch.zeros(0))
    with pytest.raises(ValueError, match=r"weights_p: expected shape \(3,\); got \(2,\)"):
        LogLoss().loss(torch.zeros(3), torch.zeros(3), torch.ones(2))
    mine = BrierLoss(0.2)
    assert ratio_loss(mine) is mine
