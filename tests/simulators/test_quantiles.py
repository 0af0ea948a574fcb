"""Quantiles by rows against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_simulators.engines.quantiles import row_quantiles


@given(st.integers(1, 30), st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 10**6))
def test_quantiles_are_those_of_numpy(n: int, probabilities: list[float], seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(3, n))
    ours = row_quantiles(torch.tensor(x), probabilities)
    np.testing.assert_allclose(ours, np.quantile(x, probabilities, axis=1).T, rtol=1e-9, atol=1e-12)


def test_quantiles_carry_gradients() -> None:
    x = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: row_quantiles(x, [0.1, 0.5, 0.9]), x)


@pytest.mark.parametrize(
    ("x", "probabilities", "message"),
    [
        (torch.zeros(3), [0.5], r"x: expected shape \(rows, n\), n > 0; got \(3,\)"),
        (torch.zeros(3, 0), [0.5], r"x: expected shape \(rows, n\), n > 0; got \(3, 0\)"),
        (torch.zeros(3, 2), [0.5, 1.5], r"probabilities: expected numbers in \[0, 1\]; got \[0.5, 1.5\]"),
    ],
)
def test_bad_input_is_refused(x: torch.Tensor, probabilities: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row_quantiles(x, probabilities)
