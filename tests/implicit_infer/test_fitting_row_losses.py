"""What a draw adds to a loss: exact first variations, and score-function gradients that are those of the divergence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from implicit_estimators.comparisons import COMPARISONS, comparison
from implicit_infer.fitting.row_losses import draw_losses, pseudo_values

MEANS = ("gan", "minimax", "lsgan", "hinge", "exponential", "wgan-gp", "fisher", "relativistic")
SQUARES = ("mmd", "mmd-gan", "energy", "cramer", "feature-matching")


def outputs(name: str, n: int = 60, each: int = 1) -> tuple[Tensor, Tensor]:
    """What a critic might say at data and draws (or samples), in double precision."""
    made, random = comparison(name), torch.Generator().manual_seed(0)
    width = (made.outputs,) if made.outputs > 1 else (() if made.trained else (2,))
    at_data = torch.randn(80, *width, generator=random, dtype=torch.float64)
    at_model = 0.5 + 1.2 * torch.randn(n, each, *width, generator=random, dtype=torch.float64)
    return at_data, at_model


@pytest.mark.parametrize("name", MEANS)
def test_for_means_over_draws_pseudo_values_are_the_losses_of_the_draws(name: str) -> None:
    at_data, at_model = outputs(name)
    found, known = draw_losses(comparison(name), at_data, at_model), pseudo_values(comparison(name), at_data, at_model)
    assert torch.allclose(found, known, atol=1e-9)


@pytest.mark.parametrize("name", SQUARES)
def test_for_squared_distances_of_means_they_agree_to_first_order(name: str) -> None:
    """They differ by a share of order 1/n of themselves, and by a constant."""
    at_data, at_model = outputs(name)
    found, known = draw_losses(comparison(name), at_data, at_model), pseudo_values(comparison(name), at_data, at_model)
    found, known = found - found.mean(), known - known.mean()
    assert float((found - known).norm() / known.norm()) < 4 / len(found)


def divergences(mu: Tensor) -> dict[str, Tensor]:
    """Of p = N(0, 1) from q = N(mu, 1), by a sum over a fine grid."""
    x = torch.linspace(-12, 12, 6001, dtype=torch.float64)
    log_p, log_q = -0.5 * x**2, -0.5 * (x - mu) ** 2
    p, q = (log.exp() / math.sqrt(2 * math.pi) for log in (log_p, log_q))
    m = (p + q) / 2

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a / b).log()).sum() * (x[1] - x[0])

    return {
        "kl": kl(p, q),
        "reverse-kl": kl(q, p),
        "js": 0.5 * kl(p, m) + 0.5 * kl(q, m),
        "pearson": ((p - q) ** 2 / q).sum() * (x[1] - x[0]),
    }


@pytest.mark.parametrize("name", ["kl", "reverse-kl", "js", "pearson"])
def test_score_function_gradients_are_those_of_the_divergence(name: str) -> None:
    """With the true ratio in the critic's place, by importance of a grid, which has no sampling error.

    f(r) in the place of its first variation would give another number, and for KL another sign.
    """
    mu = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (known,) = torch.autograd.grad(divergences(mu)[name], mu)
    made = comparison(name)
    x = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    log_ratio = -0.5 * x**2 + 0.5 * (x - 0.4) ** 2
    # the critic's output at a ratio is what its ratio loss reads the ratio from: here the log-ratio itself
    assert torch.allclose(made.log_ratio(log_ratio), log_ratio)
    h = draw_losses(made, log_ratio[:10], log_ratio[:, None])
    q = torch.exp(-0.5 * (x - 0.4) ** 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    assert float((q * (x - 0.4) * h).sum()) == pytest.approx(float(known), rel=1e-3)


def test_maximum_likelihood_by_importance_follows_minus_the_log_mean_ratio() -> None:
    """Its value is another function than what it descends: h must be that of -log E_q[e^s], by differences."""
    at_data, at_model = outputs("ml-gan")
    found = draw_losses(comparison("ml-gan"), at_data, at_model)
    s = at_model[:, 0]
    n = len(s)

    def loss(weights: Tensor) -> Tensor:
        return -torch.log((weights * s.exp()).sum() / weights.sum())

    weights = torch.full((n,), 1 / n, dtype=torch.float64, requires_grad=True)
    (known,) = torch.autograd.grad(loss(weights), weights)
    assert torch.allclose(found - found.mean(), known - known.mean(), atol=1e-9)


def test_relativistic_average_by_the_derivative_in_weights() -> None:
    from torch.nn.functional import softplus

    at_data, at_model = outputs("relativistic-average")
    found, c = draw_losses(comparison("relativistic-average"), at_data, at_model), at_model[:, 0]
    weights = torch.full((len(c),), 1 / len(c), dtype=torch.float64, requires_grad=True)
    loss = (weights * softplus(at_data.mean() - c)).sum() + softplus(at_data - (weights * c).sum()).mean()
    (known,) = torch.autograd.grad(loss, weights)
    assert torch.allclose(found - found.mean(), known - known.mean(), atol=1e-9)


@pytest.mark.parametrize("name", list(COMPARISONS))
def test_every_comparison_has_one_for_each_draw(name: str) -> None:
    at_data, at_model = outputs(name, n=6, each=3)
    found = draw_losses(comparison(name), at_data, at_model)
    assert found.shape == (6,)
    assert torch.isfinite(found).all()
    assert float(found.std()) > 0


def test_draws_left_out_are_held_against_the_same_random_directions() -> None:
    at_data, at_model = outputs("sliced-wasserstein", n=5)
    twins = torch.cat([at_model, at_model])
    found = pseudo_values(comparison("sliced-wasserstein", projections=3), at_data, twins)
    assert torch.allclose(found[:5], found[5:])


def test_too_few_draws_to_leave_one_out() -> None:
    with pytest.raises(ValueError, match="3 or more"):
        pseudo_values(comparison("moments"), torch.zeros(4, 1), torch.zeros(2, 1, 1))
