"""Moment matching and MMD GAN: closed forms, a placed kernel that stays, the witness's slope, second derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from implicit_estimators.comparisons.mmd import MMDMatching
from implicit_estimators.comparisons.mmd_gan import MMDGAN, WitnessPenalty
from implicit_estimators.critics import make_critic
from implicit_estimators.kernels import Gaussian, Laplace, Polynomial, RationalQuadratic

LINEAR = Polynomial(1, 1.0, 0.0)


def normal(n: int, d: int, seed: int, shift: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    x[:, 0] += shift
    return x


def test_the_gradient_of_moment_matching_is_that_of_the_closed_form() -> None:
    """d/dm of 2 share (1 - exp(-m^2 / 2 c)) with c = l^2 + 2: 200 batches, four standard errors of their mean."""
    width, shift = 1.5, 1.0
    c = width**2 + 2
    expected = 2 * math.sqrt(width**2 / c) * shift / c * math.exp(-(shift**2) / (2 * c))
    found = []
    for seed in range(200):
        m = torch.tensor(shift, requires_grad=True)
        loss = MMDMatching(Gaussian((width,))).generator_objective(normal(64, 1, seed), normal(64, 1, 1000 + seed) + m)
        found.append(torch.autograd.grad(loss, m)[0])
    slopes = torch.stack(found)
    assert abs(float(slopes.mean()) - expected) < 4 * float(slopes.std()) / math.sqrt(200)


def test_bandwidths_are_placed_once_by_data_and_remembered() -> None:
    comparison, twin = MMDMatching(), MMDMatching()
    x, y = normal(100, 2, 0), normal(100, 2, 1, 1.0)
    value = comparison.generator_objective(x, y)
    state = comparison.state_dict()
    assert float(state["median"]) == pytest.approx(math.sqrt(4 * math.log(2)), rel=0.15)  # of 100 points
    comparison.generator_objective(100 * x, y)
    assert torch.equal(comparison.generator_objective(x, y), value)
    twin.load_state_dict(state)
    twin.generator_objective(100 * x, y)
    assert torch.equal(twin.generator_objective(x, y), value)
    assert MMDMatching().state_dict() == {}
    far = MMDMatching()
    far.generator_objective(x, 1000 * y)  # a model in the wilderness does not widen the kernels
    assert far.state_dict() == state


def test_the_biased_statistic_takes_one_row() -> None:
    x, y = normal(1, 2, 0), normal(3, 2, 1)
    assert float(MMDMatching(Gaussian(), unbiased=False).generator_objective(x, y)) >= 0
    with pytest.raises(ValueError, match=r"at_data, at_model: expected at least 2 rows of one width each; got shapes"):
        MMDMatching(Gaussian()).generator_objective(x, y)
    with pytest.raises(ValueError, match="of one width each"):
        MMDMatching(Gaussian()).generator_objective(y, y[:, :1])


def test_moment_matching_learns_a_mean_and_a_scale() -> None:
    """300 Adam steps on batches of 128; four times the spread of 20 runs on other seeds (0.036 and 0.017)."""
    data = 2 + 0.5 * normal(2000, 1, 100)
    draw = torch.Generator().manual_seed(101)
    model = torch.tensor([0.0, 0.0], requires_grad=True)
    comparison, optimiser = MMDMatching(), torch.optim.Adam([model], 0.05)
    for _ in range(300):
        batch = data[torch.randint(2000, (128,), generator=draw)]
        fake = model[0] + model[1].exp() * torch.randn(128, 1, generator=draw)
        optimiser.zero_grad()
        comparison.generator_objective(batch, fake).backward()
        optimiser.step()
    assert float(model[0].detach()) == pytest.approx(2, abs=0.15)
    assert float(model[1].detach().exp()) == pytest.approx(0.5, abs=0.07)


def test_the_two_players_of_mmd_gan_want_the_opposite() -> None:
    x, y = normal(50, 3, 0), normal(40, 3, 1, 1.0)
    comparison = MMDGAN(features=3)
    assert float(comparison.critic_objective(x, y)) == -float(comparison.generator_objective(x, y)) < 0
    assert (comparison.outputs, comparison.critic_steps, comparison.clip, comparison.trained) == (3, 5, None, True)
    one = MMDGAN(features=1)
    assert float(one.generator_objective(x[:, 0], y[:, 0])) == float(one.generator_objective(x[:, :1], y[:, :1]))


def test_a_linear_kernel_has_a_witness_of_known_slope() -> None:
    """f(t) = (mean x - mean y) . t on the samples themselves: the penalty is (|mean x - mean y| - 1)^2."""
    x, y = (normal(30, 4, seed, shift, torch.float64) for seed, shift in ((0, 0.0), (1, 3.0)))
    slope = float((x.mean(0) - y.mean(0)).norm())
    found = WitnessPenalty(2.0, kernel=LINEAR).penalty(lambda t: t, x, y, seed=0)
    assert float(found.detach()) == pytest.approx(2 * (slope - 1) ** 2, rel=1e-10)
    unit = (x.mean(0) - y.mean(0)) / slope
    steady = WitnessPenalty(kernel=LINEAR).penalty(lambda t: (t @ unit) / slope**0.5, x, y, seed=0)
    assert float(steady.detach()) < 1e-20
    flat = WitnessPenalty(one_sided=True, kernel=LINEAR).penalty(lambda t: 0.01 * t, x, y, seed=0)
    assert float(flat.detach()) == 0


def test_the_penalty_does_not_grow_with_the_batch_and_reaches_the_critic() -> None:
    critic = make_critic((2,), 0, MMDGAN(features=5), hidden=(16,), seed=100)
    values = [
        WitnessPenalty().penalty(critic, normal(n, 2, 0), normal(n, 2, 1, 1.0), seed=torch.Generator().manual_seed(0))
        for n in (64, 1024)
    ]
    assert float(values[1].detach()) == pytest.approx(float(values[0].detach()), rel=0.2)
    values[0].backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all()
        for name, p in critic.named_parameters()
        if "bias" not in name
    )


def test_a_condition_is_passed_on() -> None:
    critic = make_critic((2,), 3, MMDGAN(features=4), hidden=(8,), seed=100)
    x, y, given = normal(20, 2, 0), normal(20, 2, 1), normal(20, 3, 2)
    first = WitnessPenalty().penalty(critic, x, y, 0, given)
    assert not torch.equal(first, WitnessPenalty().penalty(critic, x, y, 0, given + 1))


def test_the_regulariser_has_the_kernel_of_the_comparison() -> None:
    kernel = RationalQuadratic((1.0,))
    assert MMDGAN(kernel, penalty_weight=3.0).regulariser == WitnessPenalty(3.0, kernel=kernel)
    assert MMDGAN(penalty_weight=0).regulariser is None
    clipped = MMDGAN(Gaussian((1, 2, 4, 8, 16)), penalty_weight=0, clip=0.01)
    assert (clipped.clip, clipped.regulariser) == (0.01, None)


@pytest.mark.parametrize("kernel", [Gaussian((0.5, 1.0)), RationalQuadratic(), Laplace()], ids=lambda k: k.name)
def test_games_may_differentiate_the_gradient(kernel) -> None:
    """Consensus and unrolled games do: through the critic's features, in single precision."""
    critic = nn.Linear(2, 3)
    with torch.no_grad():
        critic.weight.copy_(normal(3, 2, 5))
    x, y = normal(20, 2, 0), normal(20, 2, 1, 1.0)

    def squared_gradient(weight: Tensor) -> Tensor:
        loss = MMDGAN(kernel).critic_objective(x.to(weight) @ weight.T, y.to(weight) @ weight.T)
        (slope,) = torch.autograd.grad(loss, weight, create_graph=True)
        return slope.square().sum()

    weight = critic.weight.detach().requires_grad_()
    twin = weight.detach().double().requires_grad_()
    (found,) = torch.autograd.grad(squared_gradient(weight), weight)
    (expected,) = torch.autograd.grad(squared_gradient(twin), twin)
    assert torch.allclose(found.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_a_critic_of_features_finds_what_its_samples_hide() -> None:
    """Equal but for a correlation of 0.9: within 60 steps the discrepancy is four times that of the first ten."""
    mix = torch.tensor([[1.0, 0.0], [0.9, math.sqrt(1 - 0.81)]])
    comparison = MMDGAN(features=4)
    critic = make_critic((2,), 0, comparison, hidden=(32,), seed=100)
    optimiser = torch.optim.Adam(critic.parameters(), 1e-2)
    draw = torch.Generator().manual_seed(100)
    values = []
    for _ in range(60):
        x, y = torch.randn(128, 2, generator=draw) @ mix.T, torch.randn(128, 2, generator=draw)
        loss = comparison.critic_objective(critic(x), critic(y))
        values.append(-float(loss.detach()))
        assert comparison.regulariser is not None
        optimiser.zero_grad()
        (loss + comparison.regulariser.penalty(critic, x, y, draw)).backward()
        optimiser.step()
    assert sum(values[-10:]) > 4 * abs(sum(values[:10]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": 0}, "features: expected a positive int; got 0"),
        ({"critic_steps": 0}, "critic_steps: expected a positive int; got 0"),
        ({"penalty_weight": -1.0}, "penalty_weight: expected a number that is not negative"),
        ({"clip": 0.0}, "clip: expected a positive number or None"),
    ],
)
def test_bad_settings_are_named(settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MMDGAN(**settings)
