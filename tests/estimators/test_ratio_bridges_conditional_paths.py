"""Conditional paths: targets whose expectation is the time score, time scores whose integral is the log-ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from implicit_estimators.ratio.bridges.conditional_paths import (
    PATHS,
    ConditionalPathRatio,
    Marginals,
    bridge,
    conditional_time_score,
    gaussian,
)
from implicit_estimators.ratio.bridges.time_network import TimeNetwork

QUICK = {"hidden": (16,), "steps": 20, "batch_size": 128}
STEPS = {"bridge": bridge, "gaussian": gaussian}
P, Q = (0.7, 0.5), (-0.4, 1.2)
"""Means and standard deviations of two normals."""


def odds_of(*times: float) -> Tensor:
    return torch.tensor(times, dtype=torch.float64).logit()[:, None]


def moments(*columns: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    rows = [[mean_p, sd_p**2, mean_q, sd_q**2] for (mean_p, sd_p), (mean_q, sd_q) in columns]
    return torch.tensor(rows, dtype=torch.float64).T


def exact_time_score(marginals: Marginals, x: Tensor, odds: Tensor) -> Tensor:
    """The time score of a path between normals with independent columns, whose moments are the path's."""
    mean, variance, slope, growth = marginals.at(marginals.path(odds, marginals.sigma))
    deviation = x - mean
    return (-growth / 2 / variance + deviation * slope / variance + growth * deviation**2 / 2 / variance**2).sum(1)


def normal_log_ratio(x: Tensor, p: tuple[float, float] = P, q: tuple[float, float] = Q) -> Tensor:
    (mean_p, sd_p), (mean_q, sd_q) = p, q
    return (((x - mean_q) / sd_q) ** 2 - ((x - mean_p) / sd_p) ** 2).sum(1) / 2 + x.shape[1] * math.log(sd_q / sd_p)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sigma", [0.5, 1.3])
def test_derivatives_of_the_paths_are_those_of_autograd(path: str, sigma: float) -> None:
    odds = odds_of(1e-6, 0.1, 0.4, 0.6, 0.9, 1 - 1e-6).requires_grad_()
    step = STEPS[path](odds, sigma)
    dt = (odds.sigmoid() * (-odds).sigmoid()).detach()
    for value, derivative in ((step.a, step.da), (step.b, step.db), (step.k, step.dk)):
        (slope,) = torch.autograd.grad(value.sum(), odds, retain_graph=True)
        assert torch.allclose(slope / dt, derivative, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_paths_run_from_q_to_p(path: str) -> None:
    start, end = (STEPS[path](torch.tensor([[odds]], dtype=torch.float64), 1.0) for odds in (-40.0, 40.0))
    assert start.b.item() == pytest.approx(1)
    assert abs(end.a.item()) == pytest.approx(1)
    for nothing in (start.a, start.k, end.b, end.k):
        assert nothing.item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("time", [0.15, 0.5, 0.8])
def test_the_target_has_the_time_score_as_its_expectation(path: str, time: float) -> None:
    """E[target f(x)] = E[time score f(x)] for several f: what conditional expectation means; 4 standard errors."""
    draw = torch.Generator().manual_seed(0)
    n = 200_000
    z = torch.randn(3, n, 2, generator=draw, dtype=torch.float64)
    p, q, noise = P[0] + P[1] * z[0], Q[0] + Q[1] * z[1], z[2]
    marginals = Marginals(moments((P, Q), (P, Q)), path, 0.8)
    odds = odds_of(time)
    step = marginals.path(odds, 0.8)
    velocity = step.da * p + step.db * q + step.dk / (2 * step.k.sqrt()) * noise
    target = conditional_time_score(step, noise, velocity).sum(1)
    x = step.a * p + step.b * q + step.k.sqrt() * noise
    score = exact_time_score(marginals, x, odds)
    for f in (torch.ones(n, dtype=torch.float64), x[:, 0], x[:, 0] * x[:, 1], (x**2).sum(1), torch.cos(x.sum(1))):
        gap = (target - score) * f
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(n)
    assert float(score.std()) > 0.1


@pytest.mark.parametrize("path", PATHS)
def test_the_target_is_the_derivative_of_the_conditional_density(path: str) -> None:
    """At a fixed x, given one pair, against autograd of log N(x; mu_t, k_t)."""
    odds = odds_of(0.1, 0.3, 0.6, 0.95).requires_grad_()
    p, q, x = (torch.tensor([[value]], dtype=torch.float64) for value in (0.4, -1.0, 0.2))
    step = STEPS[path](odds, 0.7)
    log_density = -0.5 * ((x - step.a * p - step.b * q) ** 2 / step.k + step.k.log())
    (slope,) = torch.autograd.grad(log_density.sum(), odds)
    expected = slope / (odds.sigmoid() * (-odds).sigmoid())
    noise = (x - step.a * p - step.b * q) / step.k.sqrt()
    velocity = step.da * p + step.db * q + step.dk / (2 * step.k.sqrt()) * noise
    assert torch.allclose(conditional_time_score(step, noise, velocity), expected, rtol=1e-9)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("p", [P, (0.0, 1.0), (0.1, 1e-3), (2.0, 0.5)])
def test_the_integral_of_the_exact_time_score_is_the_log_ratio(path: str, p: tuple[float, float]) -> None:
    """The nodes that the estimator uses, in one and in two columns; the narrow p lies 1000 times closer to its end.

    What the noise at the last instant blurs is 1e-4 of a variance, or at most 1e-3 nats at 4 deviations.
    """
    marginals = Marginals(moments((p, Q), (Q, Q)), path, 1.0)
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]
    x = torch.cat([p[0] + p[1] * x, Q[0] + Q[1] * x.flip(0)], 1)
    total = torch.zeros(25, dtype=torch.float64)
    for place, weight in marginals.quadrature():
        odds, rate = marginals.time(torch.tensor([[place]], dtype=torch.float64))
        total += weight * rate[0, 0] * exact_time_score(marginals, x, odds)
    assert torch.allclose(total, normal_log_ratio(x[:, :1], p), atol=0.02)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("vector", "fields"), [(True, 0.0), (False, 0.0), (True, 1.0)])
def test_the_loss_is_least_at_the_truth(path: str, vector: bool, fields: float, monkeypatch) -> None:
    """With the exact fields of two normals in place of the network, times a factor: a parabola with its vertex at 1.

    The standard error of the vertex is measured on ten independent sets of draws; 4 of it are allowed.
    """
    ratio = ConditionalPathRatio(path, 0.8, vector=vector, fields=fields)
    ratio._marginals = Marginals(moments((P, Q), ((0.2, 0.4), (0.1, 0.9))), path, 0.8)
    means, variances = ratio._marginals.moments[[0, 2]], ratio._marginals.moments[[1, 3]]

    def exact(x: Tensor, clock: Tensor, factor: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, slope, growth = ratio._marginals.at(ratio._marginals.path(ratio._marginals.time(clock)[0], 0.8))
        g, v = (x - mean) / variance, slope + growth / 2 / variance * (x - mean)
        return factor * (g * v - growth / 2 / variance), factor * g, factor * v

    vertices = []
    for seed in range(10):
        draw = torch.Generator().manual_seed(seed)
        p, q = (
            (mean + variance.sqrt() * torch.randn(4000, 2, generator=draw, dtype=torch.float64)).float()
            for mean, variance in zip(means, variances, strict=True)
        )
        losses = []
        for factor in (0.0, 1.0, 2.0):
            monkeypatch.setattr(ratio, "_time_score", lambda x, clock, _, factor=factor: exact(x, clock, factor))
            losses.append(float(ratio._loss(p, q, torch.Generator().manual_seed(100 + seed))))
        low, middle, high = losses
        assert middle < min(low, high)
        vertices.append(1 + (low - high) / 2 / (low - 2 * middle + high))
    assert abs(np.mean(vertices) - 1) < 4 * np.std(vertices, ddof=1) / math.sqrt(10)
    assert np.std(vertices) < 0.2


def test_the_clock_is_increasing_and_its_rate_is_its_derivative() -> None:
    for path in PATHS:
        marginals = Marginals(moments((P, Q), ((0.0, 1e-5), Q)), path, 1.0)
        clock = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
        odds, rate = marginals.time(clock)
        assert (odds.diff(dim=0) > 0).all()
        t = odds.sigmoid()
        # half of the way in t takes place between the ends, wherever the clock spends its time
        assert float(torch.trapezoid(rate[:, 0], clock[:, 0])) == pytest.approx(float(t[-1] - t[0]), rel=0.02)


@pytest.mark.parametrize("settings", [{}, {"path": "gaussian"}, {"vector": False}, {"fields": 0.0}])
def test_it_finds_the_ratio_of_gaussians(plane, settings: dict) -> None:
    """After few steps the mean absolute error on fresh samples is a share of that of r = 1."""
    p, q = plane.samples(1000, 1000, 0)
    ratio = ConditionalPathRatio(hidden=(32,), steps=120, learning_rate=2e-2, **settings).fit(p, q, seed=0)
    for side in plane.samples(1000, 1000, 1):
        truth = plane.log_ratio(side)
        share = float((ratio.log_ratio(side) - truth).abs().mean()) / float(truth.abs().mean())
        assert share < (0.5 if ratio.fields else 0.8)  # the time score alone takes longer


def test_a_narrow_peak_that_a_classifier_cannot_see() -> None:
    """N(0, 1e-3^2) against N(0, 1): 6.4 nats, of which a few steps find all but one."""
    draw = torch.Generator().manual_seed(0)
    p, q = 1e-3 * torch.randn(1000, 1, generator=draw), torch.randn(1000, 1, generator=draw)
    ratio = ConditionalPathRatio(hidden=(32,), steps=200, learning_rate=2e-2).fit(p, q, seed=0)
    x = 1e-3 * torch.randn(1000, 1, generator=draw)
    truth = normal_log_ratio(x.double(), (0.0, 1e-3), (0.0, 1.0))
    assert float((ratio.log_ratio(x) - truth).abs().mean()) < 1


@pytest.mark.slow
def test_ten_nats_in_forty_dimensions() -> None:
    """Twenty correlated pairs against independent normals, n = 10,000; telescoping ratios were measured at 1.0/1.8."""
    draw = torch.Generator().manual_seed(0)
    rho = math.sqrt(1 - math.exp(-1))

    def pairs(n: int) -> Tensor:
        z = torch.randn(n, 20, 2, generator=draw)
        return torch.stack([z[..., 0], rho * z[..., 0] + math.sqrt(1 - rho**2) * z[..., 1]], -1).flatten(1)

    def truth(x: Tensor) -> Tensor:
        a, b = x[:, ::2], x[:, 1::2]
        inner = (a**2 - 2 * rho * a * b + b**2) / (1 - rho**2) - a**2 - b**2
        return -0.5 * (inner + math.log(1 - rho**2)).sum(1)

    ratio = ConditionalPathRatio().fit(pairs(10_000), torch.randn(10_000, 40, generator=draw), seed=0)
    for side, most in ((pairs(5000), 1.0), (torch.randn(5000, 40, generator=draw), 3.0)):
        assert float((ratio.log_ratio(side) - truth(side)).abs().mean()) < most


def test_sets_of_different_size_and_scale() -> None:
    """A shift of one deviation, the units of one column a million times those of the other."""
    draw = torch.Generator().manual_seed(0)
    unit = torch.tensor([1e3, 1e-3])
    p, q = unit * torch.randn(300, 2, generator=draw), unit * (1 + torch.randn(1500, 2, generator=draw))
    ratio = ConditionalPathRatio(hidden=(32,), steps=120, learning_rate=2e-2).fit(p, q, seed=0)
    x = torch.randn(1000, 2, generator=draw)
    error = ratio.log_ratio(unit * x) - (1 - x.sum(1))
    # without care for the sizes all ratios would be off by log 5 = 1.6
    assert abs(float(error.mean())) < 0.6
    assert float(error.abs().mean()) < 0.8


def test_points_beyond_all_samples_have_finite_ratios() -> None:
    draw = torch.Generator().manual_seed(0)
    ratio = ConditionalPathRatio(**QUICK).fit(torch.randn(200, 3, generator=draw), torch.zeros(200, 3), seed=0)
    assert torch.isfinite(ratio.log_ratio(torch.tensor([[3e38, -3e38, 0.0]]))).all()


@pytest.mark.parametrize("path", PATHS)
def test_files(path: str, tmp_path) -> None:
    draw = torch.Generator().manual_seed(0)
    p, q = torch.randn(100, 2, generator=draw), torch.randn(100, 2, generator=draw)
    ratio = ConditionalPathRatio(path, 0.7, standardise="robust", **QUICK).fit(p, q, seed=0)
    ratio.save(tmp_path / "ratio.safetensors")
    again = ConditionalPathRatio.load(tmp_path / "ratio.safetensors")
    assert torch.equal(again.log_ratio(p), ratio.log_ratio(p))


def test_bad_settings_are_named() -> None:
    for settings, message in [
        ({"path": "straight"}, "path: expected one of bridge, gaussian; got 'straight'"),
        ({"sigma": 0.0}, "sigma: expected a positive number"),
        ({"fields": -1.0}, "fields: expected a number of at least 0"),
        ({"standardise": "z"}, "standardise: expected one of moments, robust"),
        ({"steps": 0}, "steps, batch_size: expected positive ints"),
        ({"validation": 1.0}, r"validation: expected a share inside \(0, 1\)"),
        ({"hidden": ()}, "hidden: expected one or more positive widths"),
    ]:
        with pytest.raises(ValueError, match=message):
            ConditionalPathRatio(**settings)


def test_the_time_network_tells_times_apart_and_leaves_the_global_state() -> None:
    before = torch.get_rng_state()
    network = TimeNetwork(2, 3, (8, 8), seed=0)
    assert torch.equal(before, torch.get_rng_state())
    x = torch.randn(5, 2)
    early, late = (network(x, torch.full((5, 1), t)) for t in (0.1, 0.9))
    assert early.shape == (5, 3)
    assert not torch.allclose(early, late)
    assert torch.allclose(network(x, torch.tensor([[0.1]])), early)
