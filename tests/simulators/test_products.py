"""A product's rows are what the definition says, and the same bit for bit however many there are."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_simulators.engines.products import row_product


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 30), st.integers(0, 1000))
def test_rows_stand_alone(n: int, k: int, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, matrix = torch.randn(n, k, generator=generator), torch.randn(k, m, generator=generator)
    whole = row_product(rows, matrix)
    torch.testing.assert_close(whole, rows @ matrix, rtol=1e-4, atol=1e-4)
    assert torch.equal(row_product(rows[n // 2 :], matrix), whole[n // 2 :])
    assert torch.equal(row_product(rows[n // 2 : n // 2 + 1], matrix), whole[n // 2 : n // 2 + 1])
