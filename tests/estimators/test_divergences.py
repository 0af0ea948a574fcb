"""Every divergence: convex duality to rounding, closed forms between Gaussians, and finite at |log r| = 100."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_estimators.divergences import DIVERGENCES, KL, Alpha, Divergence, divergence, exp_minus_one, softplus

NAMES = list(DIVERGENCES)
log_ratios = st.floats(-12, 12)
SQUARED = {("pearson", True, False), ("neyman", False, True)}
"""Where a square makes the taming begin at half of the limit."""
every = pytest.mark.parametrize("name", NAMES)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@every
def test_is_zero_where_the_ratio_is_one(name: str) -> None:
    chosen, one = DIVERGENCES[name], double(0.0)
    assert chosen.f(one) == 0
    assert chosen.critic(one) == 0  # centred
    assert chosen.conjugate_of_critic(one) == 0
    assert chosen.value(torch.zeros(5)) == 0
    assert chosen.bound(torch.zeros(5), torch.zeros(3)) == 0


@every
@settings(max_examples=40)
@given(log_r=log_ratios)
def test_fenchels_equality_holds_at_the_critic(name: str, log_r: float) -> None:
    """f(u) + f*(f'(u)) = u f'(u), relative to the size of the terms."""
    chosen, s = DIVERGENCES[name], double(log_r)
    if name == "tv" and log_r == 0:
        return  # the kink: any t in [-1/2, 1/2] is a slope there
    f, product = chosen.f(s), s.exp() * chosen.critic(s)
    for conjugate in (chosen.conjugate(chosen.critic(s)), chosen.conjugate_of_critic(s)):
        scale = max(1.0, float(f.abs() + conjugate.abs() + product.abs()))
        assert float((f + conjugate - product).abs()) <= 1e-12 * scale


@every
@settings(max_examples=40)
@given(log_r=st.floats(-4, 4), u=st.floats(1e-6, 60))
def test_fenchels_inequality_holds_everywhere_else(name: str, log_r: float, u: float) -> None:
    chosen = DIVERGENCES[name]
    t, other = chosen.critic(double(log_r)), double(math.log(u))
    assert float(chosen.conjugate(t) - (u * t - chosen.f(other))) >= -1e-9 * (1 + u**2)


@every
def test_the_conjugate_is_the_supremum(name: str) -> None:
    """Against a grid over u; the grid's error is f''(u) u^2 step^2 / 8, here below 2e-5 of 1 + |f*|."""
    chosen = DIVERGENCES[name]
    grid = torch.linspace(-30, 12, 210_001, dtype=torch.float64)  # 0, the kink of total variation, is on it
    low, high = chosen.critic(double(-2.5, 2.0)).tolist()
    for t in torch.linspace(low, high, 9, dtype=torch.float64):
        supremum = (grid.exp() * t - chosen.f(grid)).max()
        assert float(chosen.conjugate(t)) == pytest.approx(float(supremum), rel=2e-5, abs=2e-5)


def test_conjugates_below_the_range_of_slopes_are_suprema_at_zero() -> None:
    """Sup over u >= 0 of u t - f(u) is -f(0) for slopes that f does not reach."""
    assert DIVERGENCES["pearson"].conjugate(double(-3.0, -50.0)).tolist() == [-1, -1]
    assert DIVERGENCES["tv"].conjugate(double(-0.6, -50.0)).tolist() == [-0.5, -0.5]


@pytest.mark.parametrize(
    ("name", "end"),
    [("reverse-kl", 1.0), ("js", 0.5 * math.log(2)), ("hellinger", 0.5), ("neyman", 1.0), ("alpha", 1 / 0.75)],
)
def test_the_conjugate_is_infinite_beyond_its_domain(name: str, end: float) -> None:
    chosen = DIVERGENCES[name]
    assert chosen.domain[1] == end
    assert float(chosen.conjugate(double(end + 1e-6))) == math.inf
    assert math.isfinite(float(chosen.conjugate(double(end - 1e-6))))


def test_total_variation_is_finite_at_the_end_of_its_domain() -> None:
    chosen = DIVERGENCES["tv"]
    assert float(chosen.conjugate(double(0.5))) == 0.5
    assert float(chosen.conjugate(double(0.5001))) == math.inf


@every
@settings(max_examples=40)
@given(log_r=log_ratios)
def test_the_critic_is_the_derivative_of_f(name: str, log_r: float) -> None:
    if name == "tv" and log_r == 0:
        return
    chosen = DIVERGENCES[name]
    s = double(log_r).requires_grad_()
    (slope,) = torch.autograd.grad(chosen.f(s).sum(), s)  # df/ds = f'(r) r
    expected = float((chosen.critic(s) * s.exp()).detach())
    assert float(slope) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@every
@settings(max_examples=40)
@given(t=st.floats(0.01, 0.99))
def test_the_derivative_of_the_conjugate_inverts_the_critic(name: str, t: float) -> None:
    if name == "tv":
        return  # its critic is a step
    chosen = DIVERGENCES[name]
    s = double(8 * t - 4)
    slope = chosen.critic(s).detach().requires_grad_()
    (u,) = torch.autograd.grad(chosen.conjugate(slope).sum(), slope)
    assert float(u.detach().log()) == pytest.approx(8 * t - 4, abs=1e-7)


@every
@settings(max_examples=40)
@given(log_r=log_ratios)
def test_f_is_not_negative(name: str, log_r: float) -> None:
    assert float(DIVERGENCES[name].f(double(log_r))) >= -1e-15


@every
@settings(max_examples=40)
@given(u=st.floats(1e-5, 50), v=st.floats(1e-5, 50), share=st.floats(0, 1))
def test_f_is_convex(name: str, u: float, v: float, share: float) -> None:
    def f(value: float) -> float:
        return float(DIVERGENCES[name].f(double(math.log(value))))

    chord = share * f(u) + (1 - share) * f(v)
    assert f(share * u + (1 - share) * v) <= chord + 1e-12 * (1 + abs(chord))


@pytest.mark.parametrize(
    ("name", "dual"),
    [
        ("kl", "reverse-kl"),
        ("reverse-kl", "kl"),
        ("js", "js"),
        ("pearson", "neyman"),
        ("neyman", "pearson"),
        ("hellinger", "hellinger"),
        ("jeffreys", "jeffreys"),
        ("tv", "tv"),
    ],
)
@settings(max_examples=40)
@given(log_r=log_ratios)
def test_exchanging_p_and_q_gives_the_dual(name: str, dual: str, log_r: float) -> None:
    """u f(1/u) is the generator of D(q || p)."""
    s = double(log_r)
    exchanged = s.exp() * DIVERGENCES[name].f(-s)
    assert float(exchanged) == pytest.approx(float(DIVERGENCES[dual].f(s)), rel=1e-10, abs=1e-13)


@settings(max_examples=40)
@given(log_r=log_ratios, alpha=st.floats(0.02, 0.98))
def test_the_alpha_family_exchanges_alpha_and_its_complement(log_r: float, alpha: float) -> None:
    s = double(log_r)
    exchanged = float(s.exp() * Alpha(alpha).f(-s))
    assert exchanged == pytest.approx(float(Alpha(1 - alpha).f(s)), rel=1e-8, abs=1e-11)


@pytest.mark.parametrize(
    ("alpha", "name", "factor"), [(1e-6, "reverse-kl", 1), (1 - 1e-6, "kl", 1), (0.5, "hellinger", 4)]
)
def test_the_alpha_family_has_known_members(alpha: float, name: str, factor: float) -> None:
    """Its limits to first order in the distance of alpha from the end: a relative error of at most 12 alpha here."""
    s = torch.linspace(-4, 4, 21, dtype=torch.float64)
    for function in ("f", "critic", "conjugate_of_critic"):
        own, known = (getattr(chosen, function)(s) for chosen in (Alpha(alpha), DIVERGENCES[name]))
        assert torch.allclose(own, factor * known, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_the_alpha_family_between_gaussians(alpha: float, line) -> None:
    found = line.expect_q(lambda x: Alpha(alpha).f(line.log_ratio(x)))
    assert found == pytest.approx(line.alpha_divergence(alpha), abs=1e-9)


def test_alpha_divergences_are_equal_by_alpha() -> None:
    assert Alpha(0.3) == Alpha(0.3) != Alpha(0.4)
    assert len({Alpha(0.3), Alpha(0.3)}) == 1
    assert repr(Alpha(0.3)) == "Alpha(0.3)"
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"alpha: expected a number inside \(0, 1\)"):
            Alpha(alpha)


@given(log_r=log_ratios)
def test_the_table_s_gan_is_twice_jensen_shannon(log_r: float) -> None:
    """Less log 4, up to the multiple of u - 1 that centring takes off."""
    r = math.exp(log_r)
    table = r * log_r - (r + 1) * math.log(r + 1)
    expected = 2 * float(DIVERGENCES["js"].f(double(log_r))) - math.log(4) - math.log(2) * (r - 1)
    assert table == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_pearson_is_not_symmetric() -> None:
    s = double(1.0)
    pearson = DIVERGENCES["pearson"]
    assert float(s.exp() * pearson.f(-s)) != pytest.approx(float(pearson.f(s)), rel=0.1)


@every
def test_closed_forms_between_gaussians(name: str, line) -> None:
    """By quadrature with the true ratio, three ways; 2e-4 covers the jumps of total variation's critic on the grid."""
    chosen, expected = DIVERGENCES[name], line.divergence(name)
    if line.is_infinite(name):
        assert line.integrate(lambda x: line.q.log_prob(x).exp() * chosen.f(line.log_ratio(x))) > 1e9
        return
    direct = line.expect_q(lambda x: chosen.f(line.log_ratio(x)))
    bound = line.expect_p(lambda x: chosen.critic(line.log_ratio(x))) - line.expect_q(
        lambda x: chosen.conjugate_of_critic(line.log_ratio(x))
    )
    balanced = 0.5 * line.expect_p(lambda x: chosen.balanced_integrand(line.log_ratio(x))) + 0.5 * line.expect_q(
        lambda x: chosen.balanced_integrand(line.log_ratio(x))
    )
    tolerance = 2e-4 if name == "tv" else 1e-9
    assert [direct, bound, balanced] == pytest.approx([expected] * 3, abs=tolerance)


@every
def test_estimates_from_samples_are_within_five_standard_errors(name: str, line) -> None:
    chosen, expected, n = DIVERGENCES[name], line.divergence(name), 200_000
    if line.is_infinite(name):
        return  # no mean to be near to
    draw = torch.Generator().manual_seed(1)
    p = torch.randn(n, generator=draw, dtype=torch.float64)
    q = line.mean + line.sd * torch.randn(n, generator=draw, dtype=torch.float64)
    at_p, at_q = line.log_ratio(p), line.log_ratio(q)

    def error(values: torch.Tensor) -> float:
        return float(values.std() / math.sqrt(n))

    assert abs(float(chosen.value(at_q)) - expected) < 5 * error(chosen.f(at_q))
    spread = math.hypot(error(chosen.critic(at_p)), error(chosen.conjugate_of_critic(at_q)))
    assert abs(float(chosen.bound(at_p, at_q)) - expected) < 5 * spread


@every
@settings(max_examples=40)
@given(tilt=st.floats(0.3, 2.0), shift=st.floats(-1, 1))
def test_the_bound_is_below_the_divergence_for_every_other_ratio(name: str, tilt: float, shift: float) -> None:
    x = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    p, q = (-0.5 * x**2).exp(), (-0.5 * (x - 0.7) ** 2).exp()
    p, q = p / p.sum(), q / q.sum()  # two distributions on the grid, so sums are expectations
    chosen, truth = DIVERGENCES[name], p.log() - q.log()
    wrong = tilt * truth + shift
    bound = (p * chosen.critic(wrong)).sum() - (q * chosen.conjugate_of_critic(wrong)).sum()
    assert float(bound) <= float((q * chosen.f(truth)).sum()) + 1e-9


@every
@pytest.mark.parametrize("log_r", [-100.0, 100.0])
def test_nothing_overflows_at_a_log_ratio_of_100_in_float32(name: str, log_r: float) -> None:
    chosen = DIVERGENCES[name]
    s = torch.full((1_000,), log_r, requires_grad=True)
    for function in (
        chosen.f,
        chosen.critic,
        chosen.conjugate_of_critic,
        chosen.activation,
        chosen.generator_integrand,
    ):
        total = function(s).sum()
        slope = torch.autograd.grad(total, s)[0] if total.requires_grad else torch.zeros(1)
        assert torch.isfinite(total)
        assert torch.isfinite(slope).all()
    assert torch.isfinite(chosen.value(s))
    assert torch.isfinite(chosen.bound(s, s))
    assert torch.isfinite(chosen.balanced_integrand(s)).all()


@every
@pytest.mark.parametrize("log_r", [-80.0, -40.0, -20.0, 20.0, 40.0, 80.0, 100.0])
def test_slopes_are_alive_where_theory_says_so(name: str, log_r: float) -> None:
    """In float32 each slope agrees with float64's; where the exponential is tamed it keeps its sign."""
    chosen = DIVERGENCES[name]
    for function in (chosen.activation, chosen.generator_integrand):
        single = torch.tensor([log_r], requires_grad=True)
        exact = double(log_r).requires_grad_()
        (slope,) = torch.autograd.grad(function(single).sum(), single)
        (truth,) = torch.autograd.grad(function(exact).sum(), exact)
        assert torch.sign(slope) == torch.sign(truth) or abs(float(truth)) < 1e-44
        if 1e-37 < abs(float(truth)) < math.exp(59) and (name, log_r > 29, log_r < -29) not in SQUARED:
            assert float(slope) == pytest.approx(float(truth), rel=1e-4)


@settings(max_examples=40)
@given(x=st.floats(-50, 240))
@pytest.mark.parametrize("squared", [False, True])
def test_exp_minus_one_is_exact_below_its_limit(squared: bool, x: float) -> None:
    value = double(x).requires_grad_()
    result = exp_minus_one(value, squared)
    (slope,) = torch.autograd.grad(result.sum(), value)
    assert result.item() == pytest.approx(math.expm1(x), rel=1e-13)
    assert float(slope) == pytest.approx(math.exp(x), rel=1e-13)


def test_exp_minus_one_is_convex_and_increasing_across_its_limit() -> None:
    x = torch.linspace(55, 120, 1001, dtype=torch.float32, requires_grad=True)
    (slope,) = torch.autograd.grad(exp_minus_one(x).sum(), x)
    assert (slope > 0).all()
    assert (slope.diff() >= 0).all()


def test_tamed_bounds_are_bounds_with_another_link() -> None:
    """For Pearson, f* of the tamed critic is the tamed f*, at any log-ratio."""
    pearson = DIVERGENCES["pearson"]
    s = torch.tensor([-100.0, -5.0, 3.0, 29.0, 31.0, 45.0, 61.0, 100.0])
    assert torch.allclose(pearson.conjugate(pearson.critic(s)), pearson.conjugate_of_critic(s), rtol=1e-5)


@settings(max_examples=40)
@given(x=st.floats(-700, 700))
def test_softplus_is_exact(x: float) -> None:
    assert float(softplus(double(x))) == pytest.approx(max(x, 0) + math.log1p(math.exp(-abs(x))), rel=1e-14)


def test_names_are_the_objects_own() -> None:
    assert all(name == chosen.name for name, chosen in DIVERGENCES.items())
    assert divergence("kl") is DIVERGENCES["kl"]
    mine = KL()
    assert divergence(mine) is mine


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="divergence: expected one of kl, reverse-kl"):
        divergence("kullback")
    with pytest.raises(ValueError, match=r"log_r_at_q: .* at least one sample"):
        KL().value(torch.empty(0))
    with pytest.raises(ValueError, match="log_r_at_p"):
        KL().bound(torch.empty(0), torch.zeros(1))
    with pytest.raises(NotImplementedError, match=r"must write f\(log_r\)"):
        Divergence().f(torch.zeros(1))
