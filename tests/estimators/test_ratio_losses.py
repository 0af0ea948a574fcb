"""Ratio losses: least at the true log-ratio, of the known value there, and with live gradients at |output| = 100."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_estimators.divergences import DIVERGENCES
from implicit_estimators.ratio_losses import (
    ALIASES,
    CRITIC_LOSSES,
    RATIO_LOSSES,
    AlphaLoss,
    BrierLoss,
    DonskerVaradhanLoss,
    FDivergenceLoss,
    FisherLoss,
    HingeLoss,
    KLIEPLoss,
    LeastSquaresLoss,
    LogLoss,
    LSGANLoss,
    RatioLoss,
    RelativisticLoss,
    SmileLoss,
    WassersteinLoss,
    ratio_loss,
)

NOT_SUMS = {"donsker-varadhan", "smile", "kliep", "relativistic"}
"""Losses that are no sums over samples."""
OTHER_LINK = {"lsif", "relative", "smoothed"}
"""Losses whose output is not the log-ratio itself."""
SMOOTH = [name for name in RATIO_LOSSES if name not in {"tv"} | NOT_SUMS | OTHER_LINK]
every = pytest.mark.parametrize("name", [*RATIO_LOSSES, *CRITIC_LOSSES])
additive = pytest.mark.parametrize("name", [name for name in RATIO_LOSSES if name not in NOT_SUMS | {"lsif"}])
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
    if line.is_infinite(name):
        return  # there is no least value
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


def test_the_entropy_of_the_answer_is_one_bit_less_jensen_shannon(line) -> None:
    """McAllester's game of telling which law a sample is from: its value in bits."""
    bits = by_quadrature(LogLoss(), line, line.log_ratio) / (2 * math.log(2))
    assert bits == pytest.approx(1 - line.divergence("js") / math.log(2))


def unlinked(log_ratio: torch.Tensor) -> torch.Tensor:
    """The v whose softplus is the ratio."""
    r = log_ratio.exp()
    return r + torch.log(-torch.expm1(-r))


@pytest.mark.parametrize("mean", [0.5, 2.0])
def test_two_gaussians_of_one_width_have_a_linear_log_ratio(mean: float) -> None:
    """s* = mean^2 / 2 - mean x: every loss is stationary there in both coefficients (sums over a fine grid)."""
    x = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    p, q = (-0.5 * x**2).exp(), (-0.5 * (x - mean) ** 2).exp()
    p, q = p / p.sum(), q / q.sum()
    for name in ("log", "brier", "js", "hellinger", "alpha", "kliep", "relativistic", "donsker-varadhan"):
        loss = ratio_loss(name) if name != "donsker-varadhan" else DonskerVaradhanLoss(momentum=0, drift=0)
        weights = torch.tensor([0.5 * mean**2, -mean], dtype=torch.float64, requires_grad=True)
        output = weights[0] + weights[1] * x
        if name == "kliep":
            output = unlinked(output)
        chosen = slice(None) if name != "relativistic" else slice(None, None, 10)
        value = loss.loss(output[chosen], output[chosen], p[chosen], q[chosen])
        (slope,) = torch.autograd.grad(value, weights)
        assert slope.abs().max() < 1e-6


def test_the_brier_loss_at_its_optimum(line) -> None:
    harmonic = line.expect_q(lambda x: line.log_ratio(x).sigmoid())  # the integral of p q / (p + q)
    assert by_quadrature(BrierLoss(), line, line.log_ratio) == pytest.approx(harmonic)


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "tv"])
def test_a_bound_at_its_optimum_is_minus_the_divergence(name: str, line) -> None:
    loss = FDivergenceLoss(divergence=name)
    if line.is_infinite(name):
        return  # there is no least value
    assert by_quadrature(loss, line, line.log_ratio) == pytest.approx(-line.divergence(name), rel=1e-8)


def test_total_variation_is_approached_as_the_output_grows(line) -> None:
    loss = FDivergenceLoss(divergence="tv")
    gaps = [
        by_quadrature(loss, line, lambda x, k=k: k * line.log_ratio(x)) + line.divergence("tv") for k in (1, 10, 1e3)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] == pytest.approx(0, abs=1e-3)


def weighted(loss: RatioLoss, line, output, points: int = 2001) -> torch.Tensor:
    """The loss in expectation where it is no sum over samples: a grid with the densities as weights."""
    x = torch.linspace(-12, 12, points, dtype=torch.float64)
    p, q = (side.log_prob(x).exp() for side in (line.p, line.q))
    return loss.loss(output(x), output(x), p, q)


def test_kliep_at_its_optimum_is_minus_kl(line) -> None:
    """Through r = softplus(v), up to any factor of r."""
    least = -line.divergence("kl")
    for constant in (0.0, -2.0):
        found = float(weighted(KLIEPLoss(), line, lambda x, c=constant: unlinked(line.log_ratio(x) + c)))
        assert found == pytest.approx(least, abs=1e-6)
    assert float(weighted(KLIEPLoss(), line, lambda x: x)) > least + 1e-3


def test_kliep_finds_the_factor(line) -> None:
    """Within four standard errors of Bennett's estimate, at most sqrt(8 / n) for these pairs."""
    n, draw = 4000, torch.Generator().manual_seed(0)
    p = torch.randn(n, generator=draw, dtype=torch.float64)
    q = line.mean + line.sd * torch.randn(n, generator=draw, dtype=torch.float64)
    at_p, at_q = (unlinked(line.log_ratio(x) + math.log(3)) for x in (p, q))
    assert KLIEPLoss().log_normaliser(at_p, at_q) == pytest.approx(math.log(3), abs=4 * math.sqrt(8 / n))


def test_kliep_is_donsker_and_varadhan_s_bound_of_another_model() -> None:
    v = torch.linspace(-3, 9, 50, dtype=torch.float64)
    p, q = v[::2], v[1::2]
    other = DonskerVaradhanLoss(momentum=0, drift=0)
    assert torch.allclose(KLIEPLoss().loss(p, q), other.loss(*(torch.log(torch.log1p(x.exp())) for x in (p, q))))
    big = torch.tensor([0.0, 60.0], requires_grad=True)
    for loss, most in ((KLIEPLoss(), 0.02), (other, 0.99)):  # no single draw takes all of the gradient
        (slope,) = torch.autograd.grad(loss.loss(torch.zeros(3), big), big)
        assert (float(slope[1]) > most) == (loss is other)


def test_the_relativistic_loss_at_its_optimum(line) -> None:
    """log 2 - JS of the pairs (x, y) and (y, x), whose log-ratio is s(x) - s(y); a constant does not matter."""
    x = torch.linspace(-12, 12, 801, dtype=torch.float64)
    p, q = (side.log_prob(x).exp() for side in (line.p, line.q))
    p, q = p / p.sum(), q / q.sum()
    pair, turned = p[:, None] * q, q[:, None] * p
    middle = 0.5 * (pair + turned)
    js = sum(0.5 * torch.xlogy(law, law / middle).nan_to_num().sum() for law in (pair, turned))
    found = RelativisticLoss().loss(line.log_ratio(x) + 3, line.log_ratio(x) + 3, p, q)
    assert float(found) == pytest.approx(math.log(2) - float(js), abs=1e-8)


def test_the_relativistic_loss_is_symmetric_in_its_two_sides() -> None:
    """A critic with its sign turned tells draws from data as well as the other told data from draws."""
    draw = torch.Generator().manual_seed(0)
    p, q = (torch.randn(n, generator=draw, dtype=torch.float64) for n in (30, 20))
    for name in ("relativistic", "relativistic-average"):
        loss = ratio_loss(name)
        assert torch.allclose(loss.loss(p, q), loss.loss(-q, -p))
        assert torch.allclose(loss.loss(p, q), loss.loss(p + 7, q + 7))


def test_the_hinge_loss_at_its_optimum_is_2_less_twice_total_variation(line) -> None:
    """The sign of log r; 4e-4 covers its jumps on the grid."""
    assert by_quadrature(HingeLoss(), line, lambda x: line.log_ratio(x).sign()) == pytest.approx(
        2 - 2 * line.divergence("tv"), abs=4e-4
    )
    output = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    for term, slopes in ((HingeLoss().at_p, [-1, -1, -1, 0]), (HingeLoss().at_q, [0, 1, 1, 1])):
        assert torch.autograd.grad(term(output).sum(), output)[0].tolist() == slopes


@pytest.mark.parametrize(("real", "fake"), [(1.0, 0.0), (1.0, -1.0)])
def test_the_lsgan_loss_at_its_optimum(real: float, fake: float, line) -> None:
    def best(x: torch.Tensor) -> torch.Tensor:
        return fake + (real - fake) * line.log_ratio(x).sigmoid()

    loss = LSGANLoss(real=real, fake=fake)
    harmonic = line.expect_q(lambda x: line.log_ratio(x).sigmoid())  # the integral of p q / (p + q)
    least = by_quadrature(loss, line, best)
    assert least == pytest.approx(0.5 * (real - fake) ** 2 * harmonic)
    assert by_quadrature(loss, line, lambda x: best(x) + 0.05) > least + 1e-4


@pytest.mark.parametrize("mean", [-0.7, 3.0])
def test_the_wasserstein_loss_of_a_critic_of_slope_one_is_minus_the_distance(mean: float) -> None:
    """Between N(0, 1) and N(mean, 1) it is linear, and W1 = |mean|; within four standard errors of the draws."""
    n, draw = 20_000, torch.Generator().manual_seed(0)
    p, q = torch.randn(n, generator=draw), mean + torch.randn(n, generator=draw)
    sign = -math.copysign(1, mean)
    assert float(WassersteinLoss().loss(sign * p, sign * q)) == pytest.approx(-abs(mean), abs=4 * math.sqrt(2 / n))


def test_the_fisher_loss_settles_at_its_optimum(line) -> None:
    """c = (p - q) / (lambda (p + q)): gradient 0, moment 1, and a difference of means of 2 lambda."""
    x = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    p, q = (side.log_prob(x).exp() for side in (line.p, line.q))
    contrast = torch.tanh(0.5 * line.log_ratio(x))  # (p - q) / (p + q)
    squares = 0.5 * ((p / p.sum() + q / q.sum()) * contrast.square()).sum()
    multiplier = squares.sqrt()
    output = (contrast / multiplier).requires_grad_()
    loss = FisherLoss()
    loss.load_state_dict({"multiplier": multiplier})
    value = loss.loss(output, output, p, q)
    (slope,) = torch.autograd.grad(value, output)
    assert slope.abs().max() < 1e-10
    assert torch.allclose(value, -2 * multiplier, atol=1e-9)
    assert torch.allclose(loss.state_dict()["multiplier"], multiplier, atol=1e-9)  # and stays


def test_the_multiplier_of_the_fisher_loss_follows_the_moment() -> None:
    loss = FisherLoss(rho=0.5)
    big = torch.full((4,), 2.0, requires_grad=True)  # a second moment of 4
    assert float(loss.loss(big, big).detach()) == pytest.approx(0.25 * 9)
    assert float(loss.state_dict()["multiplier"]) == pytest.approx(0.5 * 3)
    assert float(loss.loss(big, big).detach()) == pytest.approx(1.5 * 3 + 0.25 * 9)
    with torch.no_grad():
        loss.loss(big, big)
    assert float(loss.state_dict()["multiplier"]) == pytest.approx(3)  # what is validated does not move it
    fresh = replace(loss)
    assert fresh.state_dict() == {}
    fresh.load_state_dict(loss.state_dict())
    assert fresh.state_dict() == loss.state_dict()
    fresh.load_state_dict({})
    assert fresh.state_dict() == {}


@pytest.mark.parametrize("prior", [0.5, 0.2])
@pytest.mark.parametrize("label", [0.9, 0.7])
def test_smoothed_labels_tell_the_same_ratio(label: float, prior: float, line) -> None:
    """D* = a p / (p + q) with the classes' weights in p and q, and log D - log(a - D) is the ratio, not the logit."""
    loss = LogLoss(prior, label=label)
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    x = x[line.log_ratio(x) < 3]
    odds = line.log_ratio(x) + math.log(prior / (1 - prior))
    output = torch.logit(label * odds.sigmoid()).requires_grad_()
    assert torch.allclose(loss.log_ratio(output), line.log_ratio(x), atol=1e-9)
    p, q = prior * line.p.log_prob(x).exp(), (1 - prior) * line.q.log_prob(x).exp()
    (slope,) = torch.autograd.grad((p * loss.at_p(output) + q * loss.at_q(output)).sum(), output)
    assert slope.abs().max() < 1e-12


def test_the_log_ratio_of_smoothed_labels_goes_on_beyond_its_pole() -> None:
    output = torch.linspace(-90, 90, 1801, requires_grad=True)
    log_ratio = LogLoss(label=0.9).log_ratio(output)
    (slope,) = torch.autograd.grad(log_ratio.sum(), output)
    assert torch.isfinite(log_ratio).all()
    assert (slope >= 1 - 1e-6).all()
    assert slope.max() < 101
    pole = torch.tensor([math.log(9) - 1e-2 - 1e-4, math.log(9) - 1e-2 + 1e-4], dtype=torch.float64)
    assert float(LogLoss(label=0.9).log_ratio(pole).diff()) == pytest.approx(2e-4 / 0.00995, rel=0.02)


def test_a_smoothed_critic_is_charged_for_being_sure() -> None:
    output = torch.tensor([80.0], requires_grad=True)
    (slope,) = torch.autograd.grad(LogLoss(label=0.9).at_p(output).sum(), output)
    assert float(slope) == pytest.approx(0.1)


@pytest.mark.parametrize("name", CRITIC_LOSSES)
def test_losses_that_tell_no_ratio_say_so(name: str) -> None:
    loss, output = ratio_loss(name), torch.linspace(-3, 3, 5)
    assert not loss.tells_ratio
    assert loss.log_ratio(output) is output
    with pytest.raises(ValueError, match=f"the critic of '{name}' does not tell the ratio"):
        loss.check_tells_ratio()


@pytest.mark.parametrize("size", [80.0, -80.0])
@pytest.mark.parametrize("name", [*CRITIC_LOSSES, "smoothed"])
def test_critics_that_are_far_off_are_pushed_back_in_float32(name: str, size: float) -> None:
    loss = ratio_loss(name)
    p, q = (torch.full((256,), size * sign, requires_grad=True) for sign in (1, -1))
    value = loss.loss(p, q)
    slope_p, slope_q = torch.autograd.grad(value, (p, q))
    assert torch.isfinite(value)
    assert torch.isfinite(slope_p).all()
    assert torch.isfinite(slope_q).all()
    if size < 0:  # on the wrong side
        assert (slope_p < 0).all()
        assert (slope_q > 0).all()


@pytest.mark.parametrize("name", ["log", "js"])
def test_the_log_loss_is_the_jensen_shannon_bound(name: str) -> None:
    """log 4 - 2 bound, for any outputs: a GAN's discriminator."""
    p, q = torch.randn(50, dtype=torch.float64), torch.randn(70, dtype=torch.float64)
    bound = DIVERGENCES["js"].bound(p, q)
    expected = math.log(4) - 2 * bound if name == "log" else -bound
    assert torch.allclose(ratio_loss(name).loss(p, q), expected)


@additive
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


@pytest.mark.parametrize("size", [80.0, -80.0])
@pytest.mark.parametrize("name", [name for name in RATIO_LOSSES if name != "smoothed"])
def test_80_nats_in_float32_give_a_finite_loss_and_a_gradient_of_the_right_sign(name: str, size: float) -> None:
    """At outputs of +-80 on both sides, which is also the loss of a batch; the links reach 80 nats."""
    loss = DonskerVaradhanLoss(drift=0) if name == "donsker-varadhan" else ratio_loss(name)  # drift moves all to 0
    p, q = (torch.full((256,), size, requires_grad=True) for _ in range(2))
    value = loss.loss(p, q)
    slope_p, slope_q = torch.autograd.grad(value, (p, q))
    assert torch.isfinite(value)
    assert torch.isfinite(slope_p).all()
    assert torch.isfinite(slope_q).all()
    # 0 is what float32 has for slopes below 1e-45: where the sample is already far on its right side
    assert (slope_p < 0).all() or (size > 0 and (slope_p == 0).all())
    assert (slope_q > 0).all() or (size < 0 and (slope_q == 0).all())


def test_least_squares_reach_80_nats() -> None:
    loss = LeastSquaresLoss()
    output = torch.tensor([math.exp(80.0), -80.0, -100.0, 3.0], requires_grad=True)
    log_ratio = loss.log_ratio(output)
    assert torch.allclose(log_ratio, torch.tensor([80.0, -80.0, -100.0, math.log(math.log1p(math.exp(3.0)))]))
    for value, sign in ((loss.at_p(output), -1), (loss.at_q(output), 1), (log_ratio, 1)):
        (slope,) = torch.autograd.grad(value.sum(), output, retain_graph=True)
        assert torch.isfinite(value).all()
        assert torch.isfinite(slope).all()
        assert (sign * slope >= 0).all()


@pytest.mark.parametrize("name", sorted(OTHER_LINK))
def test_the_gradient_is_zero_where_the_link_gives_the_true_ratio(name: str, line) -> None:
    loss = ratio_loss(name)
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    x = x[line.log_ratio(x) < 6]  # where r can be taken an exponential of
    truth = line.log_ratio(x)
    links = {
        "lsif": lambda s: torch.expm1(s.exp()).log(),
        "relative": lambda s: s + math.log(0.1 / 0.9),
        "smoothed": lambda s: torch.logit(0.9 * s.sigmoid()),
    }
    output = links[name](truth)
    output.requires_grad_()
    assert torch.allclose(loss.log_ratio(output), truth, atol=1e-9)
    p, q = (side.log_prob(x).exp() for side in (line.p, line.q))
    terms = 2 * loss.prior * p * loss.at_p(output), 2 * (1 - loss.prior) * q * loss.at_q(output)
    (slope,) = torch.autograd.grad(sum(term.sum() for term in terms), output, retain_graph=True)
    (size,) = torch.autograd.grad(terms[0].sum(), output)
    assert (slope.abs() <= 1e-9 * (size.abs() + 1e-3)).all()


@given(
    st.lists(st.floats(-20, 20), min_size=1, max_size=8),
    st.lists(st.floats(-20, 20), min_size=1, max_size=8),
    st.floats(0.02, 0.98),
)
def test_names_for_the_same_loss(at_p: list[float], at_q: list[float], alpha: float) -> None:
    """The identities that the module claims, for any outputs."""
    p, q = (torch.tensor(v, dtype=torch.float64) for v in (at_p, at_q))
    boosting = (-p / 2).exp().mean() + (q / 2).exp().mean()
    assert torch.allclose(2 + 2 * ratio_loss("exponential").loss(p, q), boosting)
    assert torch.allclose(ratio_loss("nwj").loss(p, q), q.exp().mean() - p.mean() - 1)
    assert torch.allclose(ratio_loss("itakura-saito").loss(p, q), (-p).exp().mean() + q.mean() - 1)
    relative_p, relative_q = p.sigmoid() / alpha, q.sigmoid() / alpha
    rulsif = 0.5 * (alpha * relative_p.square().mean() + (1 - alpha) * relative_q.square().mean()) - relative_p.mean()
    brier = BrierLoss(alpha).loss(p, q) / 2
    assert torch.allclose(rulsif, brier / (2 * alpha**2) - 1 / (2 * alpha), rtol=1e-8, atol=1e-8 / alpha**2)
    assert torch.allclose(4 * ratio_loss("hellinger").loss(p, q), AlphaLoss(alpha=0.5).loss(p, q))


def test_aliases_are_equal_objects() -> None:
    assert all(ratio_loss(alias) == ratio_loss(name) for alias, name in ALIASES.items())
    assert ratio_loss("relative") == BrierLoss(0.1)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_the_alpha_loss_at_its_optimum(alpha: float, line) -> None:
    affinity = line.expect_q(lambda x: (alpha * line.log_ratio(x)).exp())
    loss = AlphaLoss(alpha=alpha)
    assert by_quadrature(loss, line, line.log_ratio) == pytest.approx(-(1 - affinity) / (alpha * (1 - alpha)))
    assert by_quadrature(loss, line, lambda x: line.log_ratio(x) + 0.3) > by_quadrature(loss, line, line.log_ratio)


@pytest.mark.parametrize("name", ["donsker-varadhan", "smile"])
def test_values_of_the_losses_that_are_no_sums(name: str) -> None:
    p, q = torch.tensor([1.0, 3.0], dtype=torch.float64), torch.tensor([-7.0, 9.0], dtype=torch.float64)
    if name == "smile":
        expected = math.log((math.exp(-5) + math.exp(5)) / 2) - 2
        assert float(SmileLoss().log_normaliser(p, q)) == pytest.approx(expected + 2)
    else:
        log_mean = math.log((math.exp(-7) + math.exp(9)) / 2)
        expected = log_mean - 2 + 0.1 * log_mean**2
    assert float(ratio_loss(name).loss(p, q)) == pytest.approx(expected)


def test_smile_learns_by_the_log_score() -> None:
    slopes = []
    for loss in (SmileLoss(), LogLoss()):
        p, q = (torch.linspace(-9, 9, 7).add(shift).requires_grad_() for shift in (0.0, 1.0))
        slopes.append(torch.cat(torch.autograd.grad(loss.loss(p, q), (p, q))))
    assert torch.equal(*slopes)


def test_the_moving_average_takes_the_bias_off_the_gradient() -> None:
    """A batch of one q gives slope 1 whatever its output; against the average, e^T over its mean, as the bound's."""
    draw = torch.Generator().manual_seed(0)
    batches = torch.randn(2000, 1, generator=draw, dtype=torch.float64)
    for momentum, expected in ((0.0, 1.0), (0.999, None)):
        loss, slopes = DonskerVaradhanLoss(momentum=momentum, drift=0), []
        for batch in batches if expected is None else batches[:50]:
            q = batch.clone().requires_grad_()
            slopes.append(float(torch.autograd.grad(loss.loss(torch.zeros(1, dtype=torch.float64), q), q)[0]))
        if expected is not None:
            assert slopes == pytest.approx([expected] * len(slopes))
        else:  # the average of 1000 batches varies by 1.3 / sqrt(1000), and that of the first is one batch
            late, target = torch.tensor(slopes[1000:]), (batches[1000:, 0] - 0.5).exp()
            assert float((late / target).mean()) == pytest.approx(1, abs=4 * 1.3 / math.sqrt(1000) + 0.15)
    assert replace(loss)._log_average == []
    with torch.no_grad():
        loss.loss(torch.zeros(1), torch.full((1,), 60.0))
    assert float(loss._log_average[0]) < 3  # what is validated is not remembered


def test_the_normaliser_of_donsker_and_varadhan(line) -> None:
    """Any constant is found; within four standard errors of Bennett's estimate, at most sqrt(8 / n) for these pairs."""
    n = 4000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        p, q = line.p.sample((n,)), line.q.sample((n,))
    for constant in (0.0, -300.0, 7.0):
        found = DonskerVaradhanLoss().log_normaliser(line.log_ratio(p) + constant, line.log_ratio(q) + constant)
        assert found == pytest.approx(constant, abs=4 * math.sqrt(8 / n))
    assert LogLoss().log_normaliser(p, q) == 0


@every
def test_weights_count_as_repetitions(name: str) -> None:
    loss = ratio_loss(name)
    p, q = torch.tensor([0.3, -0.7, 1.1]), torch.tensor([0.2, -0.4])
    with torch.no_grad():  # without gradients no loss remembers its batches
        weighted = loss.loss(p, q, torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 4.0]))
        repeated = loss.loss(p[[0, 0, 1, 2, 2, 2]], q[[0, 1, 1, 1, 1]])
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-6)


@every
def test_empty_sets_are_refused(name: str) -> None:
    some, none = torch.zeros(3), torch.zeros(0)
    for p, q, side in ((none, some, "p"), (some, none, "q")):
        with pytest.raises(ValueError, match=f"output_{side}: expected outputs of at least one sample"):
            ratio_loss(name).loss(p, q)
    with pytest.raises(ValueError, match=r"weights_q: expected shape \(3,\); got \(2,\)"):
        ratio_loss(name).loss(some, some, None, torch.ones(2))


@every
def test_the_order_of_samples_does_not_matter(name: str) -> None:
    loss, draw = ratio_loss(name), torch.Generator().manual_seed(0)
    p, q = (torch.randn(n, generator=draw, dtype=torch.float64) for n in (40, 30))
    with torch.no_grad():
        assert torch.allclose(loss.loss(p, q), loss.loss(p.flip(0), q.roll(7)))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"loss: expected one of log, brier, .*; got 'hinges' \(did you mean 'hinge'\?\)"
    ):
        ratio_loss("hinges")
    with pytest.raises(ValueError, match=r"prior: expected a number inside \(0, 1\); got 1"):
        LogLoss(1)
    with pytest.raises(ValueError, match="prior: the loss 'f-divergence' weighs p and q evenly"):
        FDivergenceLoss(0.3, "kl")
    with pytest.raises(ValueError, match="divergence: expected one of"):
        FDivergenceLoss(divergence="log")
    with pytest.raises(ValueError, match="tells where p > q, not the ratio"):
        ratio_loss("tv").check_tells_ratio()
    for bad, message in [
        (lambda: LeastSquaresLoss(0.3), "prior: the loss 'lsif' weighs p and q evenly"),
        (lambda: AlphaLoss(alpha=1.0), r"alpha: expected a number inside \(0, 1\); got 1.0"),
        (lambda: AlphaLoss(0.3), "prior: the loss 'alpha' weighs p and q evenly"),
        (lambda: DonskerVaradhanLoss(momentum=1.0), r"momentum: expected a number in \[0, 1\); got 1.0"),
        (lambda: DonskerVaradhanLoss(drift=-1.0), "drift: expected a number not below 0; got -1.0"),
        (lambda: SmileLoss(tau=0.0), "tau: expected a positive number; got 0.0"),
        (lambda: SmileLoss().loss(torch.zeros(3), torch.zeros(0)), "output_q: expected outputs of at least one"),
    ]:
        with pytest.raises(ValueError, match=message):
            bad()
    for bad, message in [
        (lambda: LogLoss(label=0.5), r"label: expected a number in \(0.5, 1\]; got 0.5"),
        (lambda: LSGANLoss(real=1.0, fake=1.0), "real, fake: expected two labels; got 1.0 for both"),
        (lambda: FisherLoss(rho=0.0), "rho: expected a positive number; got 0.0"),
        (lambda: HingeLoss(0.3), "prior: the loss 'hinge' weighs p and q evenly"),
    ]:
        with pytest.raises(ValueError, match=message):
            bad()
    with pytest.raises(ValueError, match="output_q: expected outputs of at least one sample"):
        LogLoss().loss(torch.zeros(3), torch.zeros(0))
    with pytest.raises(ValueError, match=r"weights_p: expected shape \(3,\); got \(2,\)"):
        LogLoss().loss(torch.zeros(3), torch.zeros(3), torch.ones(2))
    mine = BrierLoss(0.2)
    assert ratio_loss(mine) is mine
