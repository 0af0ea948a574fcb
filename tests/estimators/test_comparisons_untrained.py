"""Energy, transport and moments as losses: each a descent to the data, with fresh or remembered settings."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from implicit_estimators.comparisons import comparison
from implicit_estimators.discrepancies import EnergyDistance, MomentDistance, SinkhornDivergence

NAMES = ("energy", "sliced-wasserstein", "sinkhorn", "moments")


def normal(n: int, d: int, seed: int, shift: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype) + shift


@pytest.mark.parametrize("name", NAMES)
def test_a_shift_and_a_scale_are_learned(name: str) -> None:
    """60 steps on fresh batches of 128; the tolerance is four standard errors of a mean of 128, 4 sd / sqrt(128).

    That of the scale is the same: its standard error is smaller by a factor of sqrt(2).
    """
    chosen = comparison(name)
    assert not chosen.trained
    draw = torch.Generator().manual_seed(100)
    model = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    velocity = torch.zeros_like(model)
    for step in range(60):
        data = 2 + 0.5 * torch.randn(128, 2, generator=draw)
        leaf = model.clone().requires_grad_()
        fake = leaf[0] + leaf[1].exp() * torch.randn(128, 2, generator=draw)
        (slope,) = torch.autograd.grad(chosen.generator_objective(data, fake), leaf)
        velocity = 0.8 * velocity + slope / slope.norm().clamp(min=1)
        model = model - 0.2 * 0.95**step * velocity
    assert torch.allclose(model[0], torch.full((2,), 2.0), atol=4 * 0.5 / math.sqrt(128))
    assert torch.allclose(model[1].exp(), torch.full((2,), 0.5), atol=4 * 0.5 / math.sqrt(128))


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_draws_and_not_the_data_alone(name: str) -> None:
    """With frozen directions: finite differences of what the model minimises; sizes differ."""
    x, y = normal(7, 2, 100, dtype=torch.float64), normal(5, 2, 101, 1.0, torch.float64).requires_grad_()
    settings = {"iterations": 2000, "tolerance": 1e-9, "epsilon": 2.0} if name == "sinkhorn" else {}

    def loss(y: Tensor) -> Tensor:
        return comparison(name, **settings).generator_objective(x, y)

    assert torch.autograd.gradcheck(loss, (y,), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bad_batches_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="at_data, at_model: expected at least"):
        comparison(name).generator_objective(normal(5, 2, 100), normal(5, 3, 100))
    with pytest.raises(ValueError, match="at_data, at_model: expected at least"):
        comparison(name).generator_objective(normal(5, 2, 100), normal(0, 2, 100))


def test_they_are_the_discrepancies() -> None:
    x, y = normal(20, 3, 100), normal(30, 3, 101, 0.5)
    assert torch.equal(comparison("energy", beta=0.5).generator_objective(x, y), EnergyDistance(0.5).squared(y, x))
    assert torch.equal(comparison("moments").generator_objective(x, y), MomentDistance().squared(y, x))
    found = comparison("sinkhorn", epsilon=1.0, tolerance=1e-4).generator_objective(x, y)
    assert torch.equal(found, SinkhornDivergence(1.0, tolerance=1e-4).divergence(y, x))


def test_directions_are_fresh_and_their_stream_is_remembered() -> None:
    x, y = normal(20, 3, 100), normal(20, 3, 101, 0.5)
    first, twin = comparison("sliced-wasserstein"), comparison("sliced-wasserstein")
    assert first.state_dict() == {}
    values = [float(first.generator_objective(x, y)) for _ in range(2)]
    assert values[0] != values[1]
    twin.load_state_dict(first.state_dict())
    assert float(twin.generator_objective(x, y)) == float(first.generator_objective(x, y))
    twin.load_state_dict({})
    assert float(twin.generator_objective(x, y)) == values[0]
    assert float(comparison("sliced-wasserstein", seed=1).generator_objective(x, y)) != values[0]


def test_the_worst_direction_is_above_the_mean() -> None:
    x = normal(50, 5, 100)
    y = x + torch.tensor([2.0, 0, 0, 0, 0])
    worst = comparison("sliced-wasserstein", worst=True, ascent=20)
    assert 3.9 < float(worst.generator_objective(x, y)) <= 4 + 1e-4


def test_epsilon_is_placed_once_by_data_and_remembered() -> None:
    x, y = normal(100, 2, 100), normal(100, 2, 101, 1.0)
    first, twin = comparison("sinkhorn", share=0.1), comparison("sinkhorn", share=0.1)
    value = first.generator_objective(x, y)
    placed = float(first.state_dict()["epsilon"])
    assert placed == pytest.approx(0.1 * 4 * math.log(2), rel=0.3)  # the median of |x - x'|^2, of 100 points
    assert torch.equal(first.generator_objective(x, y), value)
    twin.load_state_dict(first.state_dict())
    assert torch.equal(twin.generator_objective(x, y), value)
    assert comparison("sinkhorn", epsilon=1.0).state_dict() == {}
    far = comparison("sinkhorn", share=0.1)
    far.generator_objective(x, 100 * y)  # a model in the wilderness does not blur the view
    assert far.state_dict() == first.state_dict()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("energy", {"beta": 2.0}, "beta: expected"),
        ("sliced-wasserstein", {"projections": 0}, "projections: expected"),
        ("sliced-wasserstein", {"p": 3}, "p: expected"),
        ("sinkhorn", {"epsilon": 0.0}, "epsilon: expected"),
        ("sinkhorn", {"share": 0.0}, "share: expected"),
        ("sinkhorn", {"power": 3}, "power: expected"),
        ("moments", {"features": 0}, "features: expected"),
        ("moments", {"weights": "best"}, "weights: expected"),
    ],
)
def test_bad_settings_are_named(name: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        comparison(name, **settings)
