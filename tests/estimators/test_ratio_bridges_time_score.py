"""DRE-infinity: an objective whose minimiser is the time score, and the ratio that its integral is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from implicit_estimators.ratio.bridges.time_score import (
    BINS,
    PATHS,
    WEIGHTINGS,
    InfinityRatio,
    LossHistory,
    shares,
    time_score_terms,
    weight,
)

P, Q = (0.6, 0.5), (-0.3, 1.2)
"""Means and standard deviations of two normals."""


def moments(t: Tensor, path: str) -> tuple[Tensor, Tensor]:
    """Mean and variance of a path between the two normals."""
    a, b = shares(t, path)
    return a * P[0] + b * Q[0], (a * P[1]) ** 2 + (b * Q[1]) ** 2


def log_density(x: Tensor, t: Tensor, path: str) -> Tensor:
    """Of a path between the two normals in each column, with shape (n,)."""
    mean, variance = moments(t, path)
    return (-0.5 * ((x - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi))).sum(1)


def exact_time_score(x: Tensor, t: Tensor, path: str) -> Tensor:
    t = t.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_density(x.detach(), t, path).sum(), t)
    return slope[:, 0]


def formula(x: Tensor, t: Tensor, path: str) -> tuple[Tensor, Tensor]:
    """The exact time score and data score, written out so that forward derivatives of them can be taken."""
    a, b = shares(t, path)
    fall = -t / b if path == "variance-preserving" else -torch.ones_like(t)
    mean, variance = moments(t, path)
    drift, growth = P[0] + fall * Q[0], 2 * a * P[1] ** 2 + 2 * b * fall * Q[1] ** 2
    z = x - mean
    score = -growth / 2 / variance + z * drift / variance + growth * z**2 / 2 / variance**2
    return score.sum(1), -z / variance


def draws(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(2, n, 2, generator=draw, dtype=torch.float64)
    t = (torch.randperm(n, generator=draw)[:, None] + torch.rand(n, 1, generator=draw, dtype=torch.float64)) / n
    return P[0] + P[1] * z[0], Q[0] + Q[1] * z[1], t.clamp(1e-6, 1 - 1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_the_integral_of_the_exact_time_score_is_the_log_ratio(path: str) -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    places, weights = np.polynomial.legendre.leggauss(64)
    total = sum(
        0.5 * share * exact_time_score(x, torch.full_like(x, 0.5 * (place + 1)), path)
        for place, share in zip(places, weights, strict=True)
    )
    ends = [torch.full_like(x, end) for end in (1.0, 0.0)]
    # the variance-preserving path of means starts with an infinite slope at t = 1, which the nodes find to 1 %
    truth = log_density(x, ends[0], path) - log_density(x, ends[1], path)
    assert torch.allclose(total, truth, atol=0.03 if path == "variance-preserving" else 1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_the_formula_of_the_tests_is_the_derivative(path: str) -> None:
    p, q, t = draws(50, 0)
    x = 0.5 * (p + q)
    t = 0.9 * t
    score, data = formula(x, t, path)
    assert torch.allclose(score, exact_time_score(x, t, path), rtol=1e-9)
    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_density(point, t, path).sum(), point)
    assert torch.allclose(data, slope)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(
    ("path", "weighting"),
    # with constant weights, the square of the slope of b(t) has no finite integral on the other path
    [
        (path, weighting)
        for path in PATHS
        for weighting in WEIGHTINGS
        if (path, weighting) != ("variance-preserving", "constant")
    ],
)
def test_the_objective_is_least_at_the_truth(path: str, weighting: str, joint: bool) -> None:
    """At factors times the exact scores: a parabola with its vertex at 1.

    Its linear term equals minus twice its quadratic one only if the integration by parts is right, boundaries included.
    The standard error of the vertex is measured on ten independent sets of draws; 4 of it are allowed.
    """
    vertices = []
    for seed in range(10):
        p, q, t = draws(4000, seed)
        u = 2.0 * torch.randint(0, 2, p.shape, generator=torch.Generator().manual_seed(seed)).double() - 1
        losses = []
        for factor in (0.0, 1.0, 2.0):

            def scaled(x: Tensor, time: Tensor, factor: float = factor) -> tuple[Tensor, Tensor]:
                score, data = formula(x, time.clamp(max=1 - 1e-9), path)
                return factor * score, factor * data

            boundary, terms = time_score_terms(
                scaled, p, q, t, path=path, weighting=weighting, directions=u if joint else None
            )
            losses.append((boundary + terms.mean()).item())
        low, middle, high = losses
        assert middle < min(low, high)
        vertices.append(1 + (low - high) / 2 / (low - 2 * middle + high))
    assert abs(np.mean(vertices) - 1) < 4 * np.std(vertices, ddof=1) / math.sqrt(10)
    assert np.std(vertices) < 0.2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_weights_are_one_at_q_and_their_slopes_are_derivatives(path: str, weighting: str) -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None].requires_grad_()
    value, change = weight(t, path, weighting)
    assert value[0].item() == 1
    assert value[-1].item() == (1 if weighting == "constant" else 0)
    if weighting == "variance":
        (slope,) = torch.autograd.grad(value.sum(), t)
        assert torch.allclose(slope, change)
    else:
        assert not change.any()


def test_times_follow_the_losses_and_their_weights_make_up_for_it() -> None:
    past = LossHistory()
    draw = torch.Generator().manual_seed(0)

    def f(t: Tensor) -> Tensor:
        return torch.where(t > 0.75, 10.0, 1.0)[:, 0] * (1 + t[:, 0])

    for _ in range(300):
        t, _ = past.draw(torch.rand(256, 1, generator=draw))
        past.update(t, f(t))
    assert past.density().mean() == pytest.approx(1)
    assert past.density()[-1] > 3 * past.density()[0]
    n = 100_000
    uniform = (torch.arange(n)[:, None] + 0.5) / n
    t, correction = past.draw(uniform)
    assert t.min() >= 0
    assert t.max() <= 1
    # integral of f: (0.75 + 0.75^2 / 2) + 10 (0.25 + (1 - 0.75^2) / 2)
    assert float((correction[:, 0] * f(t)).mean()) == pytest.approx(1.03125 + 4.6875, rel=1e-3)
    assert float((correction[:, 0] * f(t)).std()) < float(f(uniform).std())
    assert len(past.squares) == BINS


def test_losses_of_any_size_leave_the_history_finite() -> None:
    past = LossHistory()
    past.update(torch.tensor([[0.5]]), torch.tensor([3e38]))
    assert torch.isfinite(past.density()).all()


@pytest.mark.parametrize("settings", [{}, {"joint": True}])
def test_it_finds_the_ratio_of_two_normals(settings: dict) -> None:
    """A shift of one deviation, 1500 of each; log r = 1/2 - x has a mean size of 1 there, the errors one of .2."""
    draw = torch.Generator().manual_seed(0)
    p, q = torch.randn(1500, 1, generator=draw), 1 + torch.randn(1500, 1, generator=draw)
    ratio = InfinityRatio(hidden=(16,), steps=120, learning_rate=2e-2, **settings).fit(p, q, seed=0)
    x = torch.linspace(-1.5, 2.5, 50)
    assert float((ratio.log_ratio(x) - (0.5 - x)).abs().mean()) < 0.4


def test_files_keep_the_settings(tmp_path) -> None:
    draw = torch.Generator().manual_seed(0)
    p, q = torch.randn(60, 2, generator=draw), 1 + torch.randn(60, 2, generator=draw)
    quick = {"hidden": (8,), "steps": 20, "batch_size": 64}
    ratio = InfinityRatio("linear", joint=True, standardise="robust", importance=False, **quick).fit(p, q, seed=0)
    ratio.save(tmp_path / "ratio.safetensors")
    again = InfinityRatio.load(tmp_path / "ratio.safetensors")
    assert torch.equal(again.log_ratio(p), ratio.log_ratio(p))
    assert again.settings()["joint"] is True


def test_bad_settings_are_named() -> None:
    for settings, message in [
        ({"path": "bridge"}, "path: expected one of variance-preserving, linear; got 'bridge'"),
        ({"weighting": "likelihood"}, "weighting: expected one of variance, constant; got 'likelihood'"),
        ({"standardise": "z"}, "standardise: expected one of moments, robust"),
        ({"steps": 0}, "steps, batch_size: expected positive ints"),
        ({"validation": 0.0}, r"validation: expected a share inside \(0, 1\)"),
        ({"hidden": (0,)}, "hidden: expected one or more positive widths"),
    ]:
        with pytest.raises(ValueError, match=message):
            InfinityRatio(**settings)


def test_an_objective_that_is_infinite_is_refused() -> None:
    with pytest.raises(ValueError, match="weighting: 'constant' gives the variance-preserving path an infinite"):
        InfinityRatio(weighting="constant")
    assert InfinityRatio(path="linear", weighting="constant").weighting == "constant"
