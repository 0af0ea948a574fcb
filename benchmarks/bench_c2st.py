"""How long the classifier two-sample test takes at the size that ``compare`` scores with: 1,000 draws on each side."""

from __future__ import annotations

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from implicit_infer.diagnose.c2st import c2st


def test_c2st(benchmark: BenchmarkFixture) -> None:
    """Eight parameters, one standard deviation apart in one of them."""
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 1000, 8, generator=generator)
    q[:, 0] += 1
    benchmark.pedantic(c2st, args=(p, q), rounds=1)
