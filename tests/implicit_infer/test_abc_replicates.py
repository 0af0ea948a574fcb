"""Replicates: every simulation counted, and the same random numbers under the same number."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from implicit_infer.abc.replicates import Replicates
from implicit_infer.posteriors.method import Question
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

SIMULATOR = GaussianLinear(2)
SIMULATOR.releases_gil = True  # workers are threads then
SIMULATOR.block = 70


def replicates(count: int = 6, groups: int = 1, budget: int = 1000, **options: Any) -> Replicates:
    question = Question(SIMULATOR, torch.zeros(2), budget, 100, progress=False, **options)
    return Replicates(question, lambda x: x[:, None], count, groups)


def test_each_point_gets_its_own_simulations() -> None:
    theta = torch.tensor([[0.0, 0.0], [1000.0, -1000.0]])
    made = replicates()
    x = made.at(theta)
    assert x.shape == (2, 6, 2)
    assert torch.allclose(x.mean(1), theta, atol=2.0)
    assert len(x[0].unique(dim=0)) == 6
    assert made.spent == 12


def test_the_same_number_draws_the_same_noise() -> None:
    made = replicates(groups=3)
    theta = torch.tensor([[0.0, 0.0], [5.0, 5.0], [7.0, 7.0]])
    numbers = made.fresh(3, 3)
    numbers[1] = numbers[0]
    numbers[2, 1] = numbers[0, 1]
    noise = made.at(theta, numbers) - theta[:, None]
    again = made.at(theta + 1, numbers) - theta[:, None] - 1
    assert torch.allclose(noise, again, atol=1e-5)
    assert torch.allclose(noise[0], noise[1], atol=1e-5)
    same = torch.isclose(noise[2], noise[0], atol=1e-5).all(1)
    assert same.tolist() == [False, False, True, True, False, False]
    assert made.spent == 36


def test_workers_do_not_change_what_is_drawn() -> None:
    theta = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    one, two = (replicates(workers=workers) for workers in (1, 2))
    assert torch.equal(one.at(theta), two.at(theta))


def test_the_budget_cannot_be_passed() -> None:
    made = replicates(budget=20)
    assert made.affordable == 3
    with pytest.raises(RuntimeError, match="budget: 20 simulations"):
        made.at(torch.zeros(4, 2))
    assert made.spent == 0


def test_groups_must_divide_the_replicates() -> None:
    with pytest.raises(ValueError, match="groups: expected a positive divisor of the 6 replicates; got 4"):
        replicates(groups=4)
