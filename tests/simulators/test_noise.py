"""Noise by rows: independent of how many rows follow, and normal."""

from __future__ import annotations

import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_simulators.engines.noise import row_normal


@given(
    few=st.integers(0, 40),
    more=st.integers(0, 40),
    columns=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_first_rows_do_not_depend_on_how_many_follow(few: int, more: int, columns: int, dtype: torch.dtype) -> None:
    def noise(rows: int) -> torch.Tensor:
        return row_normal((rows, columns), torch.Generator().manual_seed(7), dtype)

    assert noise(few).shape == (few, columns)
    assert noise(few).dtype == dtype
    assert torch.equal(noise(few), noise(few + more)[:few])


def test_noise_is_standard_normal() -> None:
    draws = row_normal((1001, 3), torch.Generator().manual_seed(0), torch.float64)
    assert scipy.stats.kstest(draws.flatten().numpy(), scipy.stats.norm.cdf).pvalue > 1e-3
