"""Differential equations to a tolerance, row by row: against a closed form, and where rows fail."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from implicit_simulators.engines.doubling import RowSolver

TIMES = (0.0, 1.0, 3.0)


def logistic() -> Any:
    import numba

    @numba.njit
    def field(z: Any, p: Any, dz: Any, jz: Any, jp: Any) -> None:
        dz[0] = p[0] * z[0] * (p[1] - z[0])
        jz[0, 0] = p[0] * (p[1] - 2 * z[0])
        if jp.size:
            jp[0, 0], jp[0, 1] = z[0] * (p[1] - z[0]), p[0] * z[0]

    return field


@lru_cache(maxsize=1)
def solver() -> RowSolver:
    return RowSolver(logistic, parameters=2, initial=(0.1,), times=TIMES, tolerance=1e-8, substeps=4)


def exact(p: torch.Tensor) -> torch.Tensor:
    """The logistic curve from 0.1, with shape (n, 3)."""
    rate, capacity = p[:, :1], p[:, 1:]
    times = torch.tensor(TIMES, dtype=p.dtype)
    return capacity / (1 + (capacity / 0.1 - 1) * torch.exp(-rate * capacity * times))


def parameters(n: int) -> torch.Tensor:
    """Rates from 0.1 to 100: the fastest need hundreds of times the steps of the slowest."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    return torch.stack((0.1 * 1000 ** u[:, 0], 0.5 + u[:, 1]), 1)


def test_rows_of_any_speed_are_solved_to_the_tolerance() -> None:
    p = parameters(200)
    found = solver()(p)
    assert found.shape == (200, 3, 1)
    assert (found[..., 0] - exact(p)).abs().max() < 1e-7


def test_the_derivative_is_that_of_the_closed_form() -> None:
    p = parameters(50).requires_grad_()
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    (found,) = torch.autograd.grad((solver()(p)[..., 0] * weight).sum(), p)
    (expected,) = torch.autograd.grad((exact(p) * weight).sum(), p)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_a_row_does_not_depend_on_others() -> None:
    p = parameters(30)
    whole = solver()(p)
    assert torch.equal(solver()(p[7:8]), whole[7:8])
    # with derivatives the compiler may order operations differently
    torch.testing.assert_close(solver()(p.clone().requires_grad_()).detach(), whole, rtol=1e-12, atol=1e-12)


def test_rows_that_need_too_many_steps_are_nan_with_no_derivative() -> None:
    p = torch.tensor([[1.0, 1.0], [1e9, 1.0], [1.0, np.inf]], dtype=torch.float64, requires_grad=True)
    found = solver()(p)
    assert torch.isfinite(found[0]).all()
    assert torch.isnan(found[1:]).all()
    (slope,) = torch.autograd.grad(found[0].sum(), p)
    assert torch.isfinite(slope[0]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rows_and_any_precision(dtype: torch.dtype) -> None:
    assert solver()(torch.zeros(0, 2, dtype=dtype)).shape == (0, 3, 1)
    assert solver()(torch.ones(1, 2, dtype=dtype)).dtype == torch.float64
