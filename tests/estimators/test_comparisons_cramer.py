"""Cramér GAN and feature matching: what the critic's features are compared by, and what holds the critic."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import comparison
from implicit_estimators.comparisons.cramer import CramerPenalty
from implicit_estimators.critics import ConditionalCritic, LogitAndFeatures, make_critic
from implicit_estimators.discrepancies import EnergyDistance


def normal(n: int, d: int, seed: int, shift: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    x[:, 0] += shift
    return x


def test_the_players_of_cramer_gan_share_the_energy_distance_of_features() -> None:
    x, y = normal(50, 3, 100, dtype=torch.float64), normal(40, 3, 101, 1.0, torch.float64)
    chosen = comparison("cramer")
    expected = float(EnergyDistance().squared(x, y))
    assert float(chosen.generator_objective(x, y)) == pytest.approx(expected, rel=1e-9)
    assert float(chosen.critic_objective(x, y)) == pytest.approx(-expected, rel=1e-9)
    assert float(chosen.generator_objective(x[:, 0], y[:, 0])) == pytest.approx(
        float(EnergyDistance().squared(x[:, :1], y[:, :1])), rel=1e-9
    )


def test_the_paper_without_the_data_would_not_see_what_it_sees() -> None:
    """Distances to the origin alone: for a law and its mirror image |h| is the same, the energy distance is not."""
    x = normal(200, 1, 100, 3.0)
    assert float(comparison("cramer").generator_objective(x, -x)) > 5


def test_the_witness_has_slope_two_between_draws_and_data() -> None:
    """On the line f(t) = E|t - y'| - E|t - x'|: slope 2 between draws on the left and data on the right, 0 beyond."""
    left, right = torch.linspace(-2, -1, 20)[:, None], torch.linspace(1, 2, 20)[:, None]
    # some segments reach into the samples, where the slope falls off
    between = CramerPenalty(3.0).penalty(lambda t: t, right, left, seed=0).detach()
    assert 3 * 0.5 < float(between) <= 3 * 1.0 + 1e-5
    half = CramerPenalty(3.0).penalty(lambda t: t / 2, right, left, seed=0).detach()
    assert float(half) < 3 * 0.5
    far = torch.full((20, 1), 50.0)
    both = torch.cat([far[:10], right[:10]]), torch.cat([far[:10] + 1, left[:10]])
    # between 50 and 51, beyond the samples that the witness is made of, it is flat: charged (0 - 1)^2
    assert float(CramerPenalty(3.0).penalty(lambda t: t, *both, seed=0).detach()) == pytest.approx(3, abs=1e-4)
    assert float(CramerPenalty(3.0, one_sided=True).penalty(lambda t: t, *both, seed=0).detach()) < 1e-6


def test_the_penalty_does_not_grow_with_the_batch_and_reaches_the_critic() -> None:
    critic = make_critic((2,), 0, comparison("cramer", features=5), hidden=(16,), seed=100)
    values = [
        CramerPenalty().penalty(critic, normal(n, 2, 0), normal(n, 2, 1, 1.0), seed=torch.Generator().manual_seed(0))
        for n in (64, 1024)
    ]
    assert float(values[1].detach()) == pytest.approx(float(values[0].detach()), rel=0.2)
    values[0].backward()
    for name, parameter in critic.named_parameters():
        if "bias" not in name:
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad).all()
            assert parameter.grad.abs().max() > 0


def test_a_condition_is_split_with_the_batch() -> None:
    critic = make_critic((2,), 3, comparison("cramer", features=4), hidden=(8,), seed=100)
    x, y, given = normal(21, 2, 0), normal(21, 2, 1), normal(21, 3, 2)
    first = CramerPenalty().penalty(critic, x, y, 0, given)
    assert not torch.equal(first, CramerPenalty().penalty(critic, x, y, 0, given + 1))


def test_games_may_differentiate_the_gradient() -> None:
    """Through features of points that coincide, too: float32 agrees with float64."""
    x, y = normal(20, 2, 0), normal(20, 2, 1, 1.0)
    x[:3] = x[3]
    y[:2] = x[3]

    def squared_gradient(weight: Tensor) -> Tensor:
        loss = comparison("cramer").critic_objective(x.to(weight) @ weight.T, y.to(weight) @ weight.T)
        (slope,) = torch.autograd.grad(loss, weight, create_graph=True)
        return slope.square().sum()

    weight = normal(3, 2, 5).requires_grad_()
    twin = weight.detach().double().requires_grad_()
    (found,) = torch.autograd.grad(squared_gradient(weight), weight)
    (expected,) = torch.autograd.grad(squared_gradient(twin), twin)
    assert torch.allclose(found.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_feature_matching_compares_means_and_never_pairs() -> None:
    """Equal laws: the mean of 300 losses within four standard errors of 0; paired squares would give 2 per column."""
    chosen = comparison("feature-matching", features=4)
    values = torch.stack([chosen.generator_objective(normal(64, 5, s), normal(48, 5, 1000 + s)) for s in range(300)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(300)
    biased = comparison("feature-matching", features=4, unbiased=False)
    plain = torch.stack([biased.generator_objective(normal(64, 5, s), normal(48, 5, 1000 + s)) for s in range(300)])
    assert abs(float(plain.mean()) - 4 * (1 / 64 + 1 / 48)) < 4 * float(plain.std()) / math.sqrt(300)


def test_the_logit_learns_and_the_features_move() -> None:
    x, y = normal(64, 5, 0), normal(64, 5, 1, 1.0).requires_grad_()
    chosen = comparison("feature-matching", features=4)
    (at_critic,) = torch.autograd.grad(chosen.critic_objective(x, y), y)
    assert at_critic[:, 0].abs().min() > 0
    assert at_critic[:, 1:].abs().max() == 0
    (at_model,) = torch.autograd.grad(chosen.generator_objective(x, y), y)
    assert at_model[:, 0].abs().max() == 0
    assert at_model[:, 1:].abs().min() > 0
    assert torch.equal(chosen.log_ratio(y), y[:, 0])
    # D = 1/2 everywhere costs log 4, as in a GAN
    assert float(chosen.critic_objective(0 * x, 0 * x)) == pytest.approx(math.log(4), rel=1e-6)


@pytest.mark.parametrize("hidden_layer", [False, True])
def test_feature_matching_with_a_critic(hidden_layer: bool) -> None:
    """80 alternating steps move a location from 0 to that of the data; tolerance: four standard errors of 128 rows."""
    chosen = comparison("feature-matching", features=16)
    critic: nn.Module = make_critic((1,), 0, chosen, hidden=(32,), seed=100)
    if hidden_layer:
        critic = LogitAndFeatures(ConditionalCritic(1, 0, (32,), seed=100))
    location, draw = torch.zeros(1), torch.Generator().manual_seed(100)
    for step in range(80):
        x, z = 1 + torch.randn(128, 1, generator=draw), torch.randn(128, 1, generator=draw)
        weights = list(critic.parameters())
        loss = chosen.critic_objective(critic(x), critic(location + z))
        slopes = torch.autograd.grad(loss, weights, materialize_grads=True)
        with torch.no_grad():
            torch._foreach_add_(weights, slopes, alpha=-0.1)
        leaf = location.clone().requires_grad_()
        (slope,) = torch.autograd.grad(chosen.generator_objective(critic(x), critic(leaf + z)), leaf)
        location = location - 0.1 * 0.96**step * slope / slope.abs().clamp(min=0.1)
    assert float(location) == pytest.approx(1, abs=4 / math.sqrt(128))


def test_cramer_gan_moves_a_location() -> None:
    """50 steps with one critic step each; four standard errors of 128 rows."""
    chosen = comparison("cramer", features=4)
    critic = make_critic((1,), 0, chosen, hidden=(16,), seed=100)
    weights = list(critic.parameters())
    location, draw = torch.zeros(1), torch.Generator().manual_seed(100)
    assert chosen.regulariser is not None
    for step in range(50):
        x, z = 1 + torch.randn(128, 1, generator=draw), torch.randn(128, 1, generator=draw)
        loss = chosen.critic_objective(critic(x), critic(location + z))
        loss = loss + chosen.regulariser.penalty(critic, x, location + z, draw)
        slopes = torch.autograd.grad(loss, weights, materialize_grads=True)
        with torch.no_grad():
            torch._foreach_add_(weights, slopes, alpha=-0.01)
        leaf = location.clone().requires_grad_()
        (slope,) = torch.autograd.grad(chosen.generator_objective(critic(x), critic(leaf + z)), leaf)
        location = location - 0.1 * 0.94**step * slope / slope.abs().clamp(min=0.1)
    assert float(location) == pytest.approx(1, abs=4 / math.sqrt(128))


def test_settings() -> None:
    chosen = comparison("cramer", features=7, penalty_weight=2.0, critic_steps=3)
    assert (chosen.outputs, chosen.critic_steps, chosen.regulariser) == (7, 3, CramerPenalty(2.0))
    assert comparison("cramer", penalty_weight=0).regulariser is None
    assert comparison("feature-matching", features=9).outputs == 10
    for name, settings, message in [
        ("cramer", {"features": 0}, "features: expected a positive int; got 0"),
        ("cramer", {"penalty_weight": -1.0}, "penalty_weight: expected a number that is not negative"),
        ("feature-matching", {"features": 0}, "features: expected a positive int; got 0"),
        ("feature-matching", {"critic_steps": 0}, "critic_steps: expected a positive int; got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            comparison(name, **settings)
    with pytest.raises(ValueError, match=r"critic: expected a logit and features, shape \(n, 1 \+ k\)"):
        comparison("feature-matching").generator_objective(normal(5, 1, 0), normal(5, 1, 0))
    with pytest.raises(ValueError, match="real, fake: expected at least 2 rows of each; got 1 and 1"):
        CramerPenalty().penalty(lambda x: x, normal(1, 1, 0), normal(1, 1, 0))
