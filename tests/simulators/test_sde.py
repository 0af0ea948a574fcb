"""Euler-Maruyama against transition laws that are known, along the same path and in distribution."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from implicit_simulators.engines.noise import row_normal
from implicit_simulators.engines.sde import euler_maruyama


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_ornstein_uhlenbeck_has_the_moments_of_its_own_recursion_and_of_the_limit() -> None:
    r"""The scheme is x <- (1 - kh) x + s sqrt(h) xi: mean and variance are those of an AR(1), to the standard error."""
    n, k, s, substeps = 40_000, 1.3, 0.7, 200
    times = torch.tensor([0.0, 0.5, 2.0])
    x = euler_maruyama(
        lambda z: -k * z, lambda z: torch.full_like(z, s), torch.full((n, 1), 2.0), times, substeps, generator()
    )
    assert x.shape == (n, 3, 1)
    assert (x[:, 0] == 2).all()
    mean, variance = 2.0, 0.0
    for i, width in enumerate((0.5, 1.5), start=1):
        h = width / substeps
        a = 1 - k * h
        mean, variance = (
            mean * a**substeps,
            variance * a ** (2 * substeps) + s**2 * h * (1 - a ** (2 * substeps)) / (1 - a**2),
        )
        draws = x[:, i, 0].double()
        assert abs(draws.mean() - mean) < 4 * math.sqrt(variance / n)
        assert abs(draws.var() / variance - 1) < 4 * math.sqrt(2 / n)
        t = times[i].item()
        assert math.isclose(mean, 2 * math.exp(-k * t), rel_tol=k**2 * t * h)  # weak order one
        assert math.isclose(variance, s**2 / (2 * k) * (1 - math.exp(-2 * k * t)), rel_tol=2 * k * h)


def brownian_error(substeps: int, diffusion_matrix: bool = False) -> float:
    """Mean distance at time 1 of geometric Brownian motion from its exact solution along the same noise."""
    n, mu, sigma = 4000, 0.5, 0.8
    x = euler_maruyama(
        lambda z: mu * z,
        (lambda z: sigma * z[:, :, None]) if diffusion_matrix else (lambda z: sigma * z),
        torch.ones(n, 1, dtype=torch.float64),
        torch.tensor([0.0, 1.0]),
        substeps,
        generator(),
    )
    w = row_normal((n, substeps, 1), generator(), torch.float64).sum(1) / math.sqrt(substeps)
    exact = torch.exp(mu - sigma**2 / 2 + sigma * w)
    return (x[:, 1] - exact).abs().mean().item()


def test_strong_order_is_one_half() -> None:
    errors = [brownian_error(substeps) for substeps in (8, 32, 128)]
    orders = [math.log(a / b, 4) for a, b in itertools.pairwise(errors)]
    assert all(0.42 < order < 0.58 for order in orders)  # each error is known to 1/sqrt(4000) or so: order to 0.02


def test_a_matrix_of_noise_may_be_diagonal() -> None:
    assert brownian_error(16, diffusion_matrix=True) == pytest.approx(brownian_error(16), rel=1e-9)


def test_chemical_langevin_noise_moves_species_together() -> None:
    """One reaction that turns the first species into the second leaves their sum as it is."""

    def flow(z: Tensor) -> Tensor:
        return z[:, :1].clamp_min(0)

    change = torch.tensor([-1.0, 1.0])
    x = euler_maruyama(
        lambda z: flow(z) * change,
        lambda z: (flow(z).sqrt() * change)[:, :, None],
        torch.tensor([[100.0, 0.0]]).repeat(2000, 1),
        torch.tensor([0.0, 0.7]),
        100,
        generator(),
    )
    torch.testing.assert_close(x[:, 1].sum(1), torch.full((2000,), 100.0))
    # the mean is that of the recursion; the variance of a linear death process is N p (1 - p) (the Langevin limit too)
    mean = 100 * (1 - 0.007) ** 100
    variance = 100 * math.exp(-0.7) * (1 - math.exp(-0.7))
    assert abs(x[:, 1, 0].mean() - mean) < 4 * math.sqrt(variance / 2000)
    assert abs(x[:, 1, 0].var() / variance - 1) < 4 * math.sqrt(2 / 2000) + 0.01


def test_more_sources_of_noise_than_species() -> None:
    x = euler_maruyama(
        torch.zeros_like,
        lambda z: z.new_tensor([[3.0, 4.0]]).expand(len(z), 1, 2),
        torch.zeros(20_000, 1),
        torch.tensor([0.0, 1.0]),
        1,
        generator(),
    )
    assert abs(x[:, 1].var() / 25 - 1) < 4 * math.sqrt(2 / 20_000)


def path(parameters: Tensor) -> Tensor:
    k, s, start = parameters
    state = start.expand(6, 1)
    times = torch.tensor([0.0, 0.3, 1.0])
    return euler_maruyama(lambda z: -k * z.sin(), lambda z: s * (1 + z**2).sqrt(), state, times, 10, generator())


def test_gradients_are_those_of_the_path() -> None:
    parameters = torch.tensor([1.1, 0.4, 0.7], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(path, parameters)
    step = 1e-6
    for i, direction in enumerate(step * torch.eye(3, dtype=torch.float64)):
        difference = (path(parameters + direction) - path(parameters - direction)) / (2 * step)
        torch.testing.assert_close(jacobian[..., i], difference, rtol=1e-6, atol=1e-8)


def test_a_row_does_not_depend_on_the_rows_after_it() -> None:
    def run(n: int) -> Tensor:
        return euler_maruyama(
            torch.zeros_like, torch.ones_like, torch.zeros(n, 3), torch.tensor([0.0, 1.0, 2.0]), 5, generator()
        )

    assert torch.equal(run(7), run(100)[:7])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"substeps": 0}, "substeps: expected a positive int; got 0"),
        ({"state": torch.ones(3)}, r"state: expected shape \(n, k\); got \(3,\)"),
        ({"drift": lambda z: z[:, :1]}, r"drift: expected shape \(3, 2\); got \(3, 1\)"),
        ({"diffusion": lambda z: z[:, :1]}, r"diffusion: expected shape \(3, 2\) or \(3, 2, r\); got \(3, 1\)"),
        ({"diffusion": lambda z: z[:, :, None, None]}, r"diffusion: .*got \(3, 2, 1, 1\)"),
    ],
)
def test_bad_arguments_are_refused(change: dict, message: str) -> None:
    arguments = {
        "drift": torch.zeros_like,
        "diffusion": torch.ones_like,
        "state": torch.ones(3, 2),
        "times": torch.tensor([0.0, 1.0]),
        "substeps": 2,
        "generator": generator(),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        euler_maruyama(**arguments)
