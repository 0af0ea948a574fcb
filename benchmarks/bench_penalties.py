"""What a penalty adds to one step of a critic: value and gradient on a batch, beside a step without any."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from implicit_estimators.networks.mlp import MLP
from implicit_estimators.penalties import PENALTIES

BATCH, WIDTH = 256, 20


@pytest.mark.parametrize("name", ["none", *PENALTIES])
def test_critic_step(benchmark: BenchmarkFixture, name: str) -> None:
    """One forward and backward pass of a critic with two hidden layers of 128 units."""
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, BATCH, WIDTH, generator=generator)
    critic = MLP(WIDTH, 1, hidden=(128, 128), seed=0)
    penalty = None if name == "none" else PENALTIES[name]()

    def evaluate(x: Tensor) -> Tensor:
        return critic(x)[:, 0]

    def step() -> None:
        loss = evaluate(fake).mean() - evaluate(real).mean()
        if penalty is not None:
            loss = loss + penalty.penalty(evaluate, real, fake, generator)
        loss.backward()

    benchmark.pedantic(step, rounds=50, iterations=5, warmup_rounds=5)
