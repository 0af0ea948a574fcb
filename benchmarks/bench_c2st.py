"""How long the classifier two-sample test takes: ours beside scikit-learn's perceptron, which takes the same steps."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from implicit_infer.diagnose.c2st import c2st


def draws(d: int) -> tuple[Tensor, Tensor]:
    """1,000 draws on each side, one standard deviation apart in one parameter."""
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 1000, d, generator=generator)
    q[:, 0] += 1
    return p, q


@pytest.mark.parametrize("d", [2, 8])
def test_c2st(benchmark: BenchmarkFixture, d: int) -> None:
    """Ours, compiled before."""
    p, q = draws(d)
    c2st(p[:50], q[:50])
    benchmark.pedantic(c2st, args=(p, q), rounds=1)


@pytest.mark.parametrize("d", [2, 8])
def test_scikit_learn(benchmark: BenchmarkFixture, d: int) -> None:
    """The same by ``MLPClassifier`` and ``cross_val_score``, as the SBI benchmark's own code does it."""
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    p, q = draws(d)
    rows, labels = torch.cat([p, q]).numpy(), torch.cat([torch.zeros(1000), torch.ones(1000)]).numpy()
    classifier = MLPClassifier(hidden_layer_sizes=(10 * d, 10 * d), max_iter=10_000, random_state=1)
    folds = KFold(n_splits=5, shuffle=True, random_state=1)
    benchmark.pedantic(cross_val_score, args=(classifier, rows, labels), kwargs={"cv": folds}, rounds=1)
