"""Regression adjustment gives exact laws where its model holds: each kind within its own, the neural one beyond."""

import math

import pytest
import torch

from implicit_infer.abc.adjustment import ADJUSTMENTS, Adjustment, LocalLinear, Neural, Ridge, resolve_adjustment
from implicit_infer.abc.adjustment.base import epanechnikov
from implicit_infer.abc.regression import Regression, Training, squashed, weighted_ridge

QUICK = Training(hidden=(16,), members=2, epochs=10)
KINDS = {
    "linear": LocalLinear(),
    "linear-heteroscedastic": LocalLinear(heteroscedastic=True),
    "ridge": Ridge(penalties=(1e-6,)),
    "ridge-heteroscedastic": Ridge(penalties=(1e-6,), heteroscedastic=True),
    "neural": Neural(training=QUICK),
}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def kind(request):
    return request.param


def weighted(phi, log_weights):
    weights = log_weights.softmax(0)
    mean = weights @ phi
    return mean, (weights @ (phi - mean).square()).sqrt(), float(1 / weights.square().sum())


def adjusted(kind, phi, features, observed, **options):
    distances = torch.linalg.vector_norm(features - observed, dim=1)
    return kind.adjust(phi, features, observed, distances, torch.zeros(len(phi)), **options)


def test_a_linear_law_is_found_at_any_tolerance(kind):
    s = normal(3000, 2)
    phi = 1 + s @ torch.tensor([[2.0, 0.0], [-1.0, 3.0]], dtype=torch.float64) + 0.5 * normal(3000, 2, seed=1)
    observed = torch.tensor([0.5, -0.5], dtype=torch.float64)
    mean, spread, ess = weighted(*adjusted(kind, phi, s, observed))
    expected = 1 + observed @ torch.tensor([[2.0, 0.0], [-1.0, 3.0]], dtype=torch.float64)
    # residuals have standard deviation 0.5; five standard errors, and twice as much for a fitted log variance
    assert ((mean - expected).abs() < 5 * 0.5 / math.sqrt(ess)).all()
    assert (
        (spread - 0.5).abs() < (10 if "Neural" in repr(kind) or kind.heteroscedastic else 5) * 0.5 / (2 * ess) ** 0.5
    ).all()


@pytest.mark.parametrize("name", ["linear-heteroscedastic", "ridge-heteroscedastic", "neural"])
def test_a_spread_that_changes_is_carried_to_the_observation(name):
    s = normal(4000, 1).clamp(-2.5, 2.5)
    phi = s + torch.exp(0.6 * s) * normal(4000, 1, seed=1)
    observed = torch.tensor([-1.0], dtype=torch.float64)
    exact = math.exp(-0.6)
    _, spread, ess = weighted(*adjusted(KINDS[name], phi, s, observed))
    plain = float(weighted(*adjusted(LocalLinear(), phi, s, observed))[1])
    # log squared residuals vary by pi / sqrt(2); their regression on as many draws as the ess gives the log spread to
    # half of that over its root: five standard errors, and as much again for a network's curve
    tolerance = 5 * math.pi / math.sqrt(2) / 2 / math.sqrt(ess) * (2 if name == "neural" else 1)
    assert abs(math.log(float(spread) / exact)) < tolerance
    assert math.log(plain / exact) > 2 * tolerance / (2 if name == "neural" else 1)


def test_networks_follow_a_curve():
    s = 2 * torch.rand(3000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    phi = 3 * (2 * s).sin().square() + 0.2 * normal(3000, 1, seed=1)
    observed = torch.tensor([0.0], dtype=torch.float64)
    neural = Neural(heteroscedastic=False, training=Training(hidden=(32, 32), members=1, epochs=15))
    _, spread, _ = weighted(*adjusted(neural, phi, s, observed))
    _, lines, _ = weighted(*adjusted(LocalLinear(), phi, s, observed))
    assert float(spread) < 0.3  # of 0.2
    assert float(lines) > 0.6  # what a line leaves of a curve


def test_ridge_averages_its_penalties_and_shrinks():
    s, phi = normal(200, 3), normal(200, 1, seed=1)
    phi = phi + s.sum(1, keepdim=True)
    observed = torch.zeros(3, dtype=torch.float64)
    several, one, other = (
        adjusted(Ridge(penalties), phi, s, observed)[0] for penalties in ((0.01, 1.0), (0.01,), (1.0,))
    )
    assert torch.allclose(several, (one + other) / 2)
    heavy = adjusted(Ridge((1e9,)), phi, s, observed)[0]
    # nothing is explained: only the weighted mean is put back, and it was never taken away
    assert torch.allclose(heavy, phi, atol=1e-6)
    light = adjusted(Ridge((0.0,)), phi, s, observed)[0]
    assert torch.allclose(light, adjusted(LocalLinear(), phi, s, observed)[0], atol=1e-8)


def test_ridge_takes_more_summaries_than_simulations_and_doubled_ones():
    s, phi = normal(30, 50), normal(30, 2, seed=1)
    observed = torch.zeros(50, dtype=torch.float64)
    assert torch.isfinite(adjusted(Ridge(), phi, s, observed)[0]).all()
    with pytest.raises(ValueError, match="linear adjustment on 50 summaries needs more than 52 accepted"):
        adjusted(LocalLinear(), phi, s, observed)
    twice = torch.cat([s[:, :2], s[:, :2]], 1)
    assert torch.isfinite(adjusted(LocalLinear(), phi, twice, observed[:4])[0]).all()


def test_weights_are_epanechnikov_times_what_they_were(kind):
    s, phi = normal(300, 1), normal(300, 1, seed=1)
    observed, before = torch.zeros(1, dtype=torch.float64), normal(300, seed=2)
    distances = s[:, 0].abs()
    _, log_weights = kind.adjust(phi, s, observed, distances, before)
    expected = before.softmax(0) * (1 - (distances / distances.max()) ** 2)
    assert torch.allclose(log_weights.exp(), expected)
    assert (epanechnikov(torch.tensor([-1.0, 0.0, 2.0]), torch.zeros(3)) * 3 == torch.tensor([1.0, 1.0, 0.0])).all()
    assert (epanechnikov(torch.zeros(3), torch.zeros(3)) * 3).allclose(torch.ones(3, dtype=torch.float64))


def test_units_of_summaries_do_not_matter(kind):
    s, phi = normal(300, 2), normal(300, 1, seed=1)
    observed, units = torch.tensor([0.2, 0.1], dtype=torch.float64), torch.tensor([1e-5, 1e5], dtype=torch.float64)
    distances = torch.linalg.vector_norm(s - observed, dim=1)
    plain = kind.adjust(phi, s, observed, distances, torch.zeros(300), seed=3)[0]
    scaled = kind.adjust(phi, s * units, observed * units, distances, torch.zeros(300), seed=3)[0]
    assert torch.allclose(plain, scaled, rtol=1e-4, atol=1e-4)


def test_seeds_repeat():
    s, phi = normal(300, 2), normal(300, 1, seed=1)
    first, again, other = (adjusted(Neural(training=QUICK), phi, s, s[0], seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_regression_is_no_worse_than_its_line_where_there_is_nothing_to_learn():
    inputs, targets = normal(60, 5), normal(60, 1, seed=1)
    fit = Regression(inputs, targets, training=Training(hidden=(64,), epochs=30))
    fresh, truth = normal(4000, 5, seed=2), normal(4000, 1, seed=3)
    line = Regression(inputs, targets)
    assert fit(fresh).shape == (4000, 1)
    # the truth is independent of the inputs: what is predicted only adds its own variance
    assert float(fit(fresh).var()) < 1.5 * float(line(fresh).var()) + 0.1
    assert abs(float((fit(fresh) * truth).mean())) < 5 * float(fit(fresh).std()) / math.sqrt(4000)


def test_regression_ignores_rows_without_weight_and_columns_that_do_not_vary():
    inputs, targets = normal(100, 2), normal(100, 1, seed=1)
    weights = torch.ones(100, dtype=torch.float64)
    weights[50:] = 0
    wild = targets.clone()
    wild[50:] = 1e6
    assert torch.allclose(Regression(inputs, wild, weights)(inputs), Regression(inputs, targets, weights)(inputs))
    constant = torch.cat([inputs, torch.full((100, 1), 7.0)], 1)
    assert torch.allclose(
        Regression(constant, targets)(constant + torch.tensor([0.0, 0.0, 9.0])),
        Regression(inputs, targets)(inputs),
        atol=1e-6,
    )


def test_weighted_ridge_is_its_normal_equations():
    terms, targets = normal(50, 3), normal(50, 2, seed=1)
    share = torch.rand(50, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    share = share / share.sum()
    slope, level = weighted_ridge(terms, targets, share, 0.1)
    residual = targets - level - terms @ slope
    variance = share @ (terms - share @ terms).square()
    # derivatives of the objective are zero: by the level, and by each slope
    assert torch.allclose(share @ residual, torch.zeros(2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose((terms * share[:, None]).T @ residual, 0.1 * variance[:, None] * slope, atol=1e-10)


def test_squashed_is_smooth_and_monotone():
    z = torch.linspace(-50, 50, 2001, dtype=torch.float64, requires_grad=True)
    out = squashed(z)
    (slope,) = torch.autograd.grad(out.sum(), z)
    assert (out.diff() > 0).all()
    assert (slope.diff().abs() < 0.06).all()  # the slope is 1 / (1 + excess): at most 0.05 per step of 0.05
    inside = z.detach().abs() <= 5
    assert torch.equal(out[inside], z[inside])


def test_what_adjust_takes():
    assert resolve_adjustment("none") is None
    assert {name: type(resolve_adjustment(name)) for name in ADJUSTMENTS} == ADJUSTMENTS
    mine = Ridge((1.0,))
    assert resolve_adjustment(mine) is mine
    with pytest.raises(ValueError, match="adjust: expected one of none, linear, ridge, neural; got 'cubic'"):
        resolve_adjustment("cubic")
    with pytest.raises(TypeError, match="adjust: expected a name or an Adjustment; got int"):
        resolve_adjustment(3)


def test_what_is_doubtful_is_said():
    assert "keep at least 15" in LocalLinear().doubts(14, 2)
    assert LocalLinear().doubts(15, 2) == ""
    assert "keep at least 200" in Neural().doubts(199, 2)
    assert Neural().doubts(200, 2) == Ridge().doubts(3, 50) == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ridge(()), r"penalties: expected non-negative numbers, at least one; got \(\)"),
        (lambda: Ridge((-1.0,)), "penalties: expected non-negative numbers"),
        (lambda: Training(members=0), "members: expected a positive int; got 0"),
        (lambda: Training(hidden=(0,)), r"hidden: expected positive widths; got \(0,\)"),
        (lambda: Training(learning_rate=0.0), "learning_rate, weight_decay: expected a positive and a non-negative"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_adjustment_must_say_how_it_adjusts():
    with pytest.raises(NotImplementedError, match="Adjustment must write adjust"):
        adjusted(Adjustment(), normal(9, 1), normal(9, 1), normal(1))
