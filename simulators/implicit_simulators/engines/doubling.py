r"""Ordinary differential equations with as many steps as each row needs: doubled until the solution stands still.

Draws from a wide prior differ a hundredfold in how fast they move. A fixed number of steps that is right for the
fastest row is wasted on the others, and one that is right for most is wrong for the fastest. Here every row is solved
with some number of Runge-Kutta steps and with twice as many. The fourth-order method leaves the finer solution with
about a fifteenth of the difference as its error (Richardson), and rows for which that is too much are doubled again.

A row's solution depends on its own parameters only. It comes with its exact derivative in the parameters, from
:func:`implicit_simulators.engines.ode.rk4_sensitivities`, where one is wanted.

References:
    | Solving ordinary differential equations I (Hairer, Nørsett & Wanner, 1993), section II.4
    | https://doi.org/10.1007/978-3-540-78862-1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.engines.ode import rk4_sensitivities


class RowSolver:
    r"""Solves :math:`dz/dt = f(z; p)` from one initial state for every row of p.

    Args:
        field: Returns the numba-compiled function ``(z, p, dz, jz, jp) -> None`` that ``rk4_sensitivities`` takes, and
            is called at the first solution. The function must leave ``jp`` alone where it is empty (``if jp.size:``):
            solutions without derivatives give it none to write.
        parameters: Number of parameters, m.
        initial: State at ``times[0]``, k numbers.
        times: Increasing times at which the state is wanted, T of them.
        tolerance: Largest error of any state at any of the times, as estimated. Where states are logarithms, this is a
            relative error.
        substeps: Steps between two times to begin with.
        most: Steps between two times beyond which a row counts as failed.
    """

    def __init__(
        self,
        field: Callable[[], Any],
        parameters: int,
        initial: Sequence[float],
        times: Sequence[float],
        tolerance: float,
        substeps: int = 16,
        most: int = 8192,
    ) -> None:
        self.field, self.parameters = field, parameters
        self.initial, self.times = np.array(initial, dtype=np.float64), np.array(times, dtype=np.float64)
        self.tolerance, self.substeps, self.most = tolerance, substeps, most

    def __call__(self, parameters: Tensor) -> Tensor:
        """The solution for each row of ``parameters``, once differentiable in them.

        Args:
            parameters: Shape (n, m), any floating dtype and device; the work is done on the CPU in double precision.

        Returns:
            States with shape (n, T, k), in float64, on the device of ``parameters``. Rows that failed are NaN.
        """
        wanted = torch.is_grad_enabled() and parameters.requires_grad
        return _Solution.apply(parameters.double(), self, wanted)

    def solve(self, parameters: np.ndarray, sensitivities: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Solution and its derivatives in the parameters (none, with ``sensitivities=False``), (n, T, k, m or 0)."""
        kernel = self._with_sensitivities if sensitivities else self._without
        m = self.parameters if sensitivities else 0
        initial = np.tile(self.initial, (len(parameters), 1))
        z, s = kernel(parameters, initial, self.times, self.substeps)
        s = s[..., :m]
        substeps, open_rows = self.substeps, np.arange(len(parameters))
        while len(open_rows):
            substeps *= 2
            if substeps > self.most:
                z[open_rows], s[open_rows] = np.nan, np.nan
                break
            finer, slope = kernel(parameters[open_rows], initial[open_rows], self.times, substeps)
            error = np.abs(finer - z[open_rows]).max((1, 2)) / 15
            z[open_rows], s[open_rows] = finer, slope[..., :m]
            open_rows = open_rows[~(error < self.tolerance)]  # NaN stays open, until it fails
        return z, s

    @cached_property
    def _without(self) -> Any:
        """The solver without derivatives in the parameters, four times as fast; compiled at the first call."""
        return rk4_sensitivities(self.field(), k=len(self.initial), m=0)

    @cached_property
    def _with_sensitivities(self) -> Any:
        return rk4_sensitivities(self.field(), k=len(self.initial), m=self.parameters)


class _Solution(torch.autograd.Function):
    """The solution as a function of the parameters, for autograd."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, solver: RowSolver, wanted: bool) -> Tensor:
        values = np.ascontiguousarray(parameters.detach().cpu().numpy())
        # what is infinite on the way to failing is expected, and marked
        with np.errstate(all="ignore"):
            z, s = solver.solve(values, sensitivities=wanted)
        ctx.sensitivity = torch.from_numpy(np.ascontiguousarray(s)).to(parameters.device)
        return torch.from_numpy(z).to(parameters.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return torch.einsum("ntk,ntkp->np", grad, ctx.sensitivity), None, None
