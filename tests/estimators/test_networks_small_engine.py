"""Gradients by hand: autograd's at every shape, and trainings that do not tell which of the two they were given."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from implicit_estimators.networks.candidate_losses import (
    BalancedLoss,
    BinaryLoss,
    CandidateLoss,
    ContrastiveLoss,
    SoftmaxLoss,
)
from implicit_estimators.networks.ratio_network import RatioNetwork
from implicit_estimators.networks.small_engine import SmallEngine
from implicit_estimators.networks.train_ratio import RatioTraining, train_ratio

LOSSES: dict[str, CandidateLoss] = {
    "binary": BinaryLoss(),
    "balanced": BalancedLoss(),
    "softmax": SoftmaxLoss(5),
    "contrastive": ContrastiveLoss(4, 2.0),
}


def data(members: int, rows: int, d: int, k: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((members, rows, d), (members, rows, k))
    theta, s = (torch.randn(shape, generator=draw, dtype=dtype) for shape in shapes)
    return theta, s


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=8, deadline=None)
@given(
    members=st.integers(1, 3),
    d=st.integers(1, 3),
    k=st.integers(1, 4),
    hidden=st.lists(st.integers(2, 9), min_size=1, max_size=3),
    activation=st.sampled_from(["silu", "relu"]),
    layer_norm=st.booleans(),
)
def test_values_and_gradients_are_those_of_autograd(name, members, d, k, hidden, activation, layer_norm) -> None:
    loss, rows = LOSSES[name], 12
    network = RatioNetwork(
        members, d, k, hidden, activation=activation, layer_norm=layer_norm, seed=1, dtype=torch.float64
    )
    theta, s = data(members, rows, d, k)
    offsets = [0, 3, 11, 1, 7][: loss.candidates]
    expected = network.candidates(theta, s, offsets)
    (slope,) = torch.autograd.grad(loss.value(expected).sum(), [network.weights])
    engine = SmallEngine(network, rows, len(offsets))
    for _ in range(2):  # buffers are written to again
        found = engine.forward(theta, s, offsets)
        torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-12)
        gradient = engine.backward(theta, s, offsets, loss.gradient(found))
        torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_in_single_precision_are_right_to_1e_5(name: str) -> None:
    """Relative to the largest slope of the weights, at the benchmark's shape."""
    loss = LOSSES[name]
    network = RatioNetwork(2, 5, 5, (64, 64), seed=0)
    theta, s = data(2, 200, 5, 5, torch.float32)
    offsets = list(range(loss.candidates))
    double = RatioNetwork(2, 5, 5, (64, 64), seed=0).double()
    (slope,) = torch.autograd.grad(
        loss.value(double.candidates(theta.double(), s.double(), offsets)).sum(), [double.weights]
    )
    engine = SmallEngine(network, 200, len(offsets))
    gradient = engine.backward(theta, s, offsets, loss.gradient(engine.forward(theta, s, offsets)))
    assert float((gradient - slope).abs().max()) < 1e-5 * float(slope.abs().max())


def test_a_candidate_is_the_pair_that_its_offset_says() -> None:
    network = RatioNetwork(2, 2, 3, (8,), seed=0)
    theta, s = data(2, 5, 2, 3, torch.float32)
    values = network.candidates(theta, s, [0, 2])
    shifted = theta[:, [2, 3, 4, 0, 1]]
    pairs = [network(part[:, :, None], s[0])[0, :, 0] for part in (theta, shifted)]
    torch.testing.assert_close(values[0], torch.stack(pairs))


def linear_gaussian(n: int = 400) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    theta = torch.randn(n, 2, generator=draw)
    return theta, theta + torch.randn(n, 2, generator=draw), torch.arange(0, n - 80), torch.arange(n - 80, n)


@pytest.mark.parametrize("name", LOSSES)
def test_both_ways_to_a_gradient_train_alike(name: str) -> None:
    """Weights in double precision to 1e-8; held-out losses in single precision to 1e-4, after 20 steps of size 1e-3."""
    theta, s, learn, held_out = linear_gaussian()
    for dtype in (torch.float64, torch.float32):
        weights, losses = [], []
        for by_hand in (True, False):
            network = RatioNetwork(2, 2, 2, (16, 16), layer_norm=True, seed=0, dtype=dtype)
            training = RatioTraining(epochs=4, batch_size=64, weight_decay=1e-2, by_hand=by_hand)
            found = train_ratio(network, LOSSES[name], theta.to(dtype), s.to(dtype), learn, held_out, training, seed=3)
            weights.append(network.weights.detach())
            losses.append([history.validation for history in found])
        if dtype == torch.float64:  # what has no gradient (the softmax's last bias), AdamW moves by rounding
            torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-8)
        torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-4, atol=0)


def test_adamw_is_that_of_torch() -> None:
    """One batch an epoch, so that the order of rows is all that is drawn: its loss does not tell it."""
    theta, s, learn, held_out = linear_gaussian()
    network, other = (RatioNetwork(1, 2, 2, (8,), seed=0, dtype=torch.float64) for _ in range(2))
    theta, s = theta.double(), s.double()
    training = RatioTraining(epochs=3, batch_size=1000, learning_rate=1e-2, weight_decay=0.1, patience=None, clip=1e-3)

    class Same(BinaryLoss):
        """Of the pairs that belong together only: no rivals, nothing to draw."""

        def value(self, h: Tensor) -> Tensor:
            return h[:, 0].square().mean(1)

        def gradient(self, h: Tensor) -> Tensor:
            gradient = torch.zeros_like(h)
            gradient[:, 0] = 2 * h[:, 0] / h.shape[2]
            return gradient

    train_ratio(network, Same(), theta, s, learn, held_out, training, seed=0)
    optimiser = torch.optim.AdamW(other.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(3):
        optimiser.param_groups[0]["lr"] = 1e-2 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / 3)).item())
        Same().value(other.candidates(theta[learn][None], s[learn][None], [0])).sum().backward()
        torch.nn.utils.clip_grad_norm_(other.parameters(), 1e-3)
        optimiser.step()
        optimiser.zero_grad()
    torch.testing.assert_close(network.weights, other.weights, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("patience", [None, 2])
def test_an_ensemble_is_its_members_trained_alone(patience: int | None) -> None:
    """Early stopping takes members out of the program; the others do not notice."""
    training = RatioTraining(epochs=15, batch_size=64, learning_rate=2e-2, patience=patience)
    together = RatioNetwork(3, 2, 2, (16,), seed=5)
    histories = train_ratio(together, BinaryLoss(), *linear_gaussian(), training, seed=7)
    for member in range(3):
        alone = RatioNetwork(1, 2, 2, (16,), seed=5, first=member)
        (history,) = train_ratio(alone, BinaryLoss(), *linear_gaussian(), training, seed=7)
        torch.testing.assert_close(together.weights[member], alone.weights[0], rtol=0, atol=1e-4)
        assert history.best == pytest.approx(histories[member].best, abs=1e-5)
        assert history.epochs == histories[member].epochs
    if patience:
        assert min(history.epochs for history in histories) < 15
    assert len({round(history.best, 6) for history in histories}) == 3


def test_the_best_weights_come_back_and_repeat() -> None:
    before = torch.get_rng_state()
    theta, s, learn, held_out = linear_gaussian()
    found = []
    for seed in (0, 0, 1):
        network = RatioNetwork(1, 2, 2, (16,), seed=0)
        (history,) = train_ratio(network, BinaryLoss(), theta, s, learn, held_out, RatioTraining(epochs=5), seed=seed)
        assert history.best == min(history.validation)
        found.append(network.weights.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_is_refused() -> None:
    theta, s, learn, held_out = linear_gaussian()
    with pytest.raises(ValueError, match="at least one hidden layer"):
        RatioNetwork(1, 2, 2, ())
    with pytest.raises(ValueError, match="activation: expected"):
        RatioNetwork(1, 2, 2, activation="tanh")
    with pytest.raises(ValueError, match="members: expected"):
        RatioNetwork(0, 2, 2)
    with pytest.raises(ValueError, match="at least 2 rows"):
        train_ratio(RatioNetwork(1, 2, 2), BinaryLoss(), theta, s, learn[:1], held_out)
    with pytest.raises(ValueError, match="theta, s: expected 3 and 2 columns; got 2 and 2"):
        train_ratio(RatioNetwork(1, 3, 2), BinaryLoss(), theta, s, learn, held_out)
    for wrong in ({"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"clip": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RatioTraining(**wrong)
