"""The conditional critic: shapes, gradients, spectral norm, and the conditional log-ratio as its optimum."""

from __future__ import annotations

import pytest
import torch

from implicit_estimators.critics import ConditionalCritic
from implicit_estimators.networks.train import evaluate, train
from implicit_estimators.penalties import slopes
from implicit_estimators.ratio_losses import LogLoss

SETTINGS = [
    {},
    {"layer_norm": True},
    {"residual": True},
    {"spectral_norm": True},
    {"hidden": (8,), "activation": "tanh"},
]
every = pytest.mark.parametrize("settings", SETTINGS, ids=str)


@every
def test_shapes_and_gradients(settings: dict) -> None:
    critic = ConditionalCritic(3, 2, seed=0, **settings)
    x, y = torch.randn(6, 3, requires_grad=True), torch.randn(6, 2, requires_grad=True)
    logits = critic(x, y)
    assert logits.shape == (6,)
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in critic.parameters())
    assert x.grad is not None
    assert y.grad is not None


@every
def test_one_condition_meets_many_samples(settings: dict) -> None:
    critic = ConditionalCritic(3, 2, seed=0, **settings).eval()
    x, y = torch.randn(4, 5, 3), torch.randn(4, 1, 2)
    together = critic(x, y)
    assert together.shape == (4, 5)
    assert torch.allclose(together[1, 2], critic(x[1, 2], y[1, 0]), atol=1e-6)


@every
def test_seed_and_config_make_it_again(settings: dict) -> None:
    before = torch.get_rng_state()
    critic = ConditionalCritic(3, 2, seed=0, **settings).eval()
    assert torch.equal(before, torch.get_rng_state())
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    assert torch.equal(critic(x, y), ConditionalCritic(3, 2, seed=0, **settings).eval()(x, y))
    again = ConditionalCritic(**critic.config)
    again.load_state_dict(critic.state_dict())
    assert torch.equal(critic(x, y), again.eval()(x, y))


def test_without_a_condition() -> None:
    assert ConditionalCritic(3, 0, seed=0)(torch.randn(5, 3)).shape == (5,)


def test_spectral_norm_bounds_the_slope() -> None:
    """Layers of norm 1 and ReLU: slope at most 1, up to the power iteration's error; far more without."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 3, generator=draw), torch.randn(200, 2, generator=draw)
    greatest = {}
    for spectral_norm in (True, False):
        critic = ConditionalCritic(3, 2, activation="relu", spectral_norm=spectral_norm, seed=0)
        with torch.no_grad():
            for name, parameter in critic.named_parameters():
                if "weight" in name:
                    parameter.mul_(10)
            for _ in range(50):
                critic(x, y)  # each pass in training mode is a step of the power iteration
        greatest[spectral_norm] = float(slopes(critic, x, y).max().detach())
    assert greatest[True] <= 1.01
    assert greatest[False] > 10


def test_it_learns_the_conditional_ratio() -> None:
    """p: x = 0.7 y + e, q: x = -0.7 y + e, e ~ N(0, 1): log p/q = 1.4 x y, here to a tenth of its spread."""
    draw = torch.Generator().manual_seed(0)

    def simulate(n: int, sign: float) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.randn(n, 1, generator=draw)
        return 0.7 * sign * y + torch.randn(n, 1, generator=draw), y

    critic = ConditionalCritic(1, 1, seed=0)

    def loss(
        p: torch.Tensor, y: torch.Tensor, q: torch.Tensor, z: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        return LogLoss().loss(critic(p, y), critic(q, z))

    train(critic, loss, [simulate(8000, 1), simulate(8000, -1)], epochs=20, learning_rate=2e-3, average=0.99, seed=0)
    x, y = simulate(2000, 1)
    truth = 1.4 * (x * y)[:, 0]
    with torch.no_grad():
        error = (critic(x, y) - truth).abs().mean()
    assert float(error) < 0.1 * float(truth.std())


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_critic_with_spectral_norm_is_trained_and_its_best_weights_kept(average: float) -> None:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 1, generator=draw), torch.randn(200, 1, generator=draw)
    critic = ConditionalCritic(1, 1, spectral_norm=True, seed=0)

    def loss(x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (critic(x, y) - x[:, 0]).square().mean()

    history = train(critic, loss, [(x, y)], epochs=5, validation=[(x, y)], average=average, seed=0)
    assert history.validation[-1] < history.validation[0]
    assert evaluate(critic, loss, [(x, y)]) == pytest.approx(history.best, rel=1e-5)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="conditions: expected a width of 0 or more; got -1"):
        ConditionalCritic(3, -1)
    with pytest.raises(ValueError, match="activation: expected one of"):
        ConditionalCritic(3, 1, activation="swish")
