"""What every critic has in common: shapes, gradients, a config that makes it again, rows that do not mix, float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from implicit_estimators.critics import ConditionalCritic, ConvCritic, LogitAndFeatures, MinibatchCritic

IMAGE = (2, 8, 16)
CRITICS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...], int]] = {
    "vector": (lambda **s: ConditionalCritic(3, 2, (16, 16), **s), (3,), 1),
    "maxout": (lambda **s: ConditionalCritic(3, 2, (8, 8), activation="maxout", **s), (3,), 1),
    "vector-features": (lambda **s: ConditionalCritic(3, 2, (16,), outputs=5, **s), (3,), 5),
    "vector-spectral": (lambda **s: ConditionalCritic(3, 2, (16,), spectral_norm=True, **s), (3,), 1),
    "minibatch": (lambda **s: MinibatchCritic(3, 2, (16,), kernels=4, width=3, **s), (3,), 1),
    "image": (lambda **s: ConvCritic(IMAGE, 2, 4, **s), IMAGE, 1),
    "image-projection": (lambda **s: ConvCritic(IMAGE, 2, 4, condition_by="projection", **s), IMAGE, 1),
    "image-features": (lambda **s: ConvCritic(IMAGE, 2, 4, outputs=5, condition_by="projection", **s), IMAGE, 5),
    "image-spectral": (lambda **s: ConvCritic(IMAGE, 2, 4, spectral_norm=True, **s), IMAGE, 1),
}
every = pytest.mark.parametrize("name", CRITICS)


def batch(shape: tuple[int, ...], n: int = 6, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(n, *shape, generator=draw, dtype=dtype), torch.randn(n, 2, generator=draw, dtype=dtype)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_gradients(name, dtype):
    make, shape, outputs = CRITICS[name]
    critic = make(seed=0, dtype=dtype)
    x, y = (rows.requires_grad_() for rows in batch(shape, dtype=dtype))
    values = critic(x, y)
    assert values.shape == ((6,) if outputs == 1 else (6, outputs))
    assert values.dtype == dtype
    values.square().sum().backward()
    grads = [p.grad for p in critic.parameters()]
    assert all(g is not None and torch.isfinite(g).all() and g.abs().max() > 0 for g in grads)
    assert x.grad.abs().amax(tuple(range(1, x.ndim))).min() > 0
    assert y.grad.abs().amax(1).min() > 0
    logits, features = critic.both(x, y)
    # a pass in training mode is a step of the power iteration
    assert torch.allclose(logits, values, atol=1e-2 if "spectral" in name else 0)
    assert torch.equal(features, critic.eval().features(x, y)) or "spectral" in name
    assert features.shape[0] == 6


@every
def test_seed_and_config_make_it_again(name: str) -> None:
    make, shape, _ = CRITICS[name]
    before = torch.get_rng_state()
    critic = make(seed=0).eval()
    assert torch.equal(before, torch.get_rng_state())
    x, y = batch(shape)
    assert torch.equal(critic(x, y), make(seed=0).eval()(x, y))
    assert not torch.equal(critic(x, y), make(seed=1).eval()(x, y))
    again = type(critic)(**critic.config, seed=2)
    again.load_state_dict(critic.state_dict())
    assert torch.equal(critic(x, y), again.eval()(x, y))


@every
def test_rows_are_independent_but_where_that_is_the_point(name: str) -> None:
    make, shape, _ = CRITICS[name]
    critic = make(seed=0, dtype=torch.float64).eval()
    x, y = batch(shape, dtype=torch.float64)
    together, alone = critic(x, y)[:2], critic(x[:2], y[:2])
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-12) == (name != "minibatch")


@every
def test_logit_and_features_side_by_side(name):
    make, shape, outputs = CRITICS[name]
    if outputs == 1:
        critic = make(seed=0).eval()
        x, y = batch(shape)
        both = LogitAndFeatures(critic)(x, y)
        assert torch.equal(both[:, 0], critic(x, y))
        assert torch.equal(both[:, 1:], critic.features(x, y))


def test_features_are_the_last_hidden_layer():
    critic = ConditionalCritic(3, 0, (16, 7), seed=0)
    x, _ = batch((3,))
    features = critic.features(x)
    assert features.shape == (6, 7)
    head = critic.network.layers[-1]
    assert torch.equal(critic(x), (features @ head.weight.T + head.bias)[:, 0])


def test_only_critics_with_features_have_them() -> None:
    with pytest.raises(TypeError, match=r"critic: expected one with a method both\(samples\); got Linear"):
        LogitAndFeatures(nn.Linear(2, 1))
