"""Embeddings: one contract for all, and what each promises: causality, permutation invariance, absent points."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from implicit_estimators.seeds import forked
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.embeddings import (
    EMBEDDINGS,
    EmbeddedSummaries,
    SetEmbedding,
    kind_for,
    make_embedding,
    rebuild_embedding,
)
from implicit_infer.posteriors.embeddings.series import CausalLayer
from implicit_simulators import FunctionSimulator, LotkaVolterra
from implicit_simulators.benchmark import SLCP, GaussianLinear

SHAPES = [
    ("mlp", (5,)),
    ("mlp", ()),
    ("series", (1,)),
    ("series", (17, 2)),
    ("series", (301,)),
    ("series", (9, 2, 2)),
    ("image", (8, 9)),
    ("image", (3, 16, 17)),
    ("image", (9, 8, 2)),
    ("image", (2, 5, 4, 2)),
    ("set", (6, 2)),
    ("set", (6, 2, 2)),
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=str)
def test_the_contract(name: str, shape: tuple[int, ...]) -> None:
    before = torch.random.get_rng_state()
    made = make_embedding(name, shape, seed=3, outputs=4)
    again, other = (make_embedding(name, shape, seed=seed, outputs=4) for seed in (3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    x = 100 + 7 * normal(12, *shape)
    made.fit(x)
    again.fit(x)
    other.fit(x)
    found = made(x)
    assert found.shape == (12, 4)
    torch.testing.assert_close(found, again(x), rtol=0, atol=0)
    assert not torch.allclose(found, other(x))
    # standardised, so that initial weights make something of order one of it, and something else of every row
    assert 1e-3 < found.std(0).mean() < 10
    found.square().sum().backward()
    untouched = [at for at, weight in made.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not untouched
    rebuilt = rebuild_embedding(made.config)
    rebuilt.load_state_dict(made.state_dict())
    torch.testing.assert_close(rebuilt(x), found, rtol=0, atol=0)


def test_every_embedding_is_under_contract() -> None:
    assert {name for name, _ in SHAPES} == set(EMBEDDINGS)


@pytest.mark.parametrize(("name", "shape"), [("mlp", (3,)), ("series", (20,)), ("image", (6, 6)), ("set", (5, 1))])
def test_values_far_out_are_squashed(name: str, shape: tuple[int, ...]) -> None:
    x = normal(200, *shape)
    x[0] *= 1e6
    made = make_embedding(name, shape, seed=0)
    made.fit(x)
    assert made.config["squash"]
    assert made(x)[0].abs().max() < 100


@settings(max_examples=20, deadline=None)
@given(now=st.integers(0, 19), dilation=st.sampled_from([1, 2, 8]), kernel=st.integers(2, 4))
def test_no_state_sees_a_later_time_nor_one_beyond_its_reach(now: int, dilation: int, kernel: int) -> None:
    with forked(0):
        layer = CausalLayer(3, kernel, dilation)
    h = normal(1, 20, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(h)[0, now].sum(), h)
    seen = gradient[0].abs().sum(1) > 0
    expected = [now - j * dilation for j in range(kernel) if now >= j * dilation]
    assert sorted(seen.nonzero()[:, 0].tolist()) == sorted(expected)


@pytest.mark.parametrize("times", [1, 2, 50, 300])
def test_the_last_state_has_seen_the_whole_series(times: int) -> None:
    made = make_embedding("series", (times,), seed=0)
    x = normal(4, times).requires_grad_()
    (gradient,) = torch.autograd.grad(made(x).sum(), x)
    assert (gradient != 0).any(0).all()


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(6)), pooling=st.sampled_from(["mean", "max", "attention"]))
def test_a_set_has_no_order(order: list[int], pooling: str) -> None:
    made = make_embedding("set", (6, 3), seed=0, pooling=pooling)
    x = normal(4, 6, 3)
    torch.testing.assert_close(made(x[:, order]), made(x), rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 6), pooling=st.sampled_from(["mean", "max", "attention"]))
def test_absent_points_have_no_say_and_their_number_has(count: int, pooling: str) -> None:
    made = make_embedding("set", (6, 3), seed=0, pooling=pooling, masked=True)
    x = normal(4, 6, 3)
    x[..., -1] = (torch.arange(6) < count).float()
    found = made(x)
    moved = x.clone()
    moved[:, count:, :-1] = 1e3
    torch.testing.assert_close(made(moved), found)
    if count == 3:  # the same points twice are another data set: the posterior given them is narrower
        x[:, 3:, :-1] = x[:, :3, :-1]
        twice = torch.cat((x[..., :-1], torch.ones(4, 6, 1)), 2)
        assert (made(twice) - found).abs().max() > 1e-3
    x[..., -1] = 0
    assert made(x).isfinite().all()


def test_a_masked_set_is_scaled_by_the_points_that_are_there() -> None:
    x = torch.cat((50 + normal(100, 6, 1), torch.ones(100, 6, 1)), 2)
    x[:, 2:] = 0
    made = make_embedding("set", (6, 2), seed=0, masked=True)
    made.fit(x)
    assert abs(float(made.standardise.location) - 50) < 0.3
    assert abs(float(made.standardise.scale) - 1) < 0.3


def test_ones_own_network_is_copied_and_called_with_x_as_it_is() -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    made = make_embedding(own, (2, 3))
    x = 5 + normal(4, 2, 3)
    assert made.outputs == 3
    torch.testing.assert_close(made(x), own(x))
    with torch.no_grad():
        next(made.module.parameters()).zero_()
    assert next(own.parameters()).abs().sum() > 0
    pairs = make_embedding(nn.Unflatten(1, (3, 2)), (6,))
    assert pairs.outputs == 6
    assert pairs(normal(4, 6)).shape == (4, 6)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "embedding: expected one of mlp, .* got 'lstm'", lambda: make_embedding("lstm", (3,))),
        (TypeError, "embedding: expected a name, .* got int", lambda: make_embedding(3, (3,))),
        (TypeError, "settings: expected none beside a module", lambda: make_embedding(nn.Identity(), (3,), width=3)),
        (ValueError, "expected 2 rows", lambda: make_embedding(nn.Flatten(0), (3,))),
        (TypeError, "expected a module that gives a tensor", lambda: make_embedding(nn.LSTM(3, 2), (3,))),
        (ValueError, r"event_shape: expected \(H, W\)", lambda: make_embedding("image", (9,))),
        (ValueError, r"event_shape: expected \(T,\)", lambda: make_embedding("series", ())),
        (ValueError, "points: expected a number that divides the 8", lambda: make_embedding("set", (8,), points=3)),
        (ValueError, "pooling: expected some of", lambda: make_embedding("set", (8, 1), pooling="sum")),
        (ValueError, "outputs: expected a positive int", lambda: make_embedding("mlp", (8,), outputs=0)),
        (ValueError, "channels, kernel", lambda: make_embedding("series", (8,), kernel=1)),
        (ValueError, "channels: expected", lambda: make_embedding("image", (8, 8), channels=0)),
        (ValueError, "width: expected", lambda: make_embedding("set", (8, 1), width=0)),
    ],
)
def test_what_cannot_be_is_refused(error: type[Exception], message: str, call: Any) -> None:
    with pytest.raises(error, match=message):
        call()


def test_the_kind_that_the_data_call_for() -> None:
    def shaped(*shape: int) -> FunctionSimulator:
        return FunctionSimulator(lambda theta: theta, ([0.0], [1.0]), event_shape=shape, array="torch")

    assert kind_for(SLCP()) == "set"
    assert kind_for(LotkaVolterra()) == "series"
    assert [kind_for(shaped(*shape)) for shape in ((4,), (4, 2), (9, 9), (3, 9, 9))] == [
        "mlp",
        "series",
        "image",
        "image",
    ]


def _simulations(simulator: GaussianLinear | SLCP) -> tuple[Tensor, Tensor]:
    theta = simulator.sample_prior(200, seed=0)
    return theta, simulator.simulate(theta, seed=0)


def test_without_an_embedding_the_view_is_the_linear_summaries() -> None:
    simulator = GaussianLinear(3)
    theta, x = _simulations(simulator)
    coordinates = Coordinates(simulator, theta, x)
    view = EmbeddedSummaries(coordinates, None, x, seed=0)
    held = view.given(x)
    assert view.width == view.given_width == 3
    for found in (held, view.linear(held), view(held)):
        torch.testing.assert_close(found, coordinates.summaries(x), rtol=0, atol=0)
    assert not list(view.parameters())


@pytest.mark.parametrize("embedding", ["auto", {"name": "set", "outputs": 5}, nn.Linear(8, 5)])
def test_the_view_holds_linear_summaries_and_the_embedding_of_x(embedding: object) -> None:
    simulator = SLCP()
    theta, x = _simulations(simulator)
    coordinates = Coordinates(simulator, theta, x)
    view = EmbeddedSummaries(coordinates, embedding, x, seed=0)
    held = view.given(x)
    assert held.shape == (200, view.given_width)
    s = coordinates.summaries(x)
    torch.testing.assert_close(view.linear(held), s, rtol=0, atol=0)
    seen = view(held)
    assert seen.shape == (200, view.width)
    torch.testing.assert_close(seen, torch.cat((s, view.embedding(x)), 1), rtol=0, atol=0)
    seen.sum().backward()
    assert all(weight.grad is not None for weight in view.parameters())
    if embedding == "auto":  # the simulator says that its eight numbers are four points
        assert isinstance(view.embedding, SetEmbedding)
        assert view.embedding.points == 4


def test_many_linear_summaries_are_handed_on_as_the_regression_of_them() -> None:
    simulator = GaussianLinear(70)
    theta, x = _simulations(simulator)
    coordinates = Coordinates(simulator, theta, x, ridge=1.0)
    view = EmbeddedSummaries.of(coordinates, make_embedding("mlp", (70,), seed=0, outputs=5))
    seen = view(view.given(x))
    assert seen.shape == (200, view.width) == (200, 75)
    u = coordinates.transform.inv(theta)
    moved = coordinates.free(u, coordinates.summaries(x)) + seen[:, :70]
    expected = (u - coordinates.intercept) @ coordinates.whiten.T
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-3)
