r"""The monotone rational-quadratic spline as one function: its value, its log-derivative, and their gradients.

A spline of :math:`K` bins on :math:`[-B, B]` has widths and heights that are shares :math:`p, r` of :math:`2B`, and
slopes :math:`\delta` at its inner knots; at both ends the slope is one, and outside it is the identity. In bin k, with
:math:`z \in [0, 1]` the place within it and :math:`s = r_k / p_k`,

.. math::
    y = y_k + 2 B r_k \frac{s z^2 + \delta_k z (1 - z)}{D}, \qquad
    \frac{dy}{dx} = s^2 \frac{2 s z (1 - z) + \delta_k (1 - z)^2 + \delta_{k+1} z^2}{D^2}, \qquad
    D = s + (\delta_k + \delta_{k+1} - 2 s) z (1 - z).

What a network says, :math:`\phi`, is bounded first, :math:`u = \phi / (1 + |\phi| / b)`, with :math:`b = -\log
\mathrm{slope}` for slopes and half of it for widths and heights; then p and r are softmaxes of u, and
:math:`\delta = e^u`. That is zuko's parametrisation, so that its networks keep their meaning.

In float32 on the CPU values and gradients are compiled; elsewhere, and for second derivatives, they are torch's.

References:
    | Neural spline flows (Durkan et al., 2019)
    | https://arxiv.org/abs/1906.04032
    | Zuko: normalizing flows in PyTorch (Rozet et al.)
    | https://zuko.readthedocs.io
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def rational_quadratic(x: Tensor, phi: Tensor, bins: int, *, bound: float = 5.0, slope: float = 1e-3) -> Pair:
    r"""Bend each of d numbers by a spline of its own.

    Args:
        x: The numbers, with shape (\*, d).
        phi: For each number K widths, K heights and K - 1 slopes, unbounded, with shape (\*, d (3 K - 1)).
        bins: K, the number of bins.
        bound: B; beyond it a number stays what it is.
        slope: Least slope at a knot.

    Returns:
        The bent numbers with shape (\*, d), and the sum of the d log-derivatives with shape (\*,).

    Raises:
        ValueError: If phi is not of that shape.
    """
    if phi.shape != (*x.shape[:-1], x.shape[-1] * (3 * bins - 1)):
        raise ValueError(f"phi: expected {3 * bins - 1} numbers for each of x {tuple(x.shape)}; got {tuple(phi.shape)}")
    if x.dtype == phi.dtype == torch.float32 and x.device.type == phi.device.type == "cpu" and _compiles():
        rows, columns = x.reshape(-1, x.shape[-1]).contiguous(), phi.reshape(-1, phi.shape[-1]).contiguous()
        y, log_det = _Compiled.apply(rows, columns, bins, bound, slope)
        return y.reshape(x.shape), log_det.reshape(x.shape[:-1])
    return in_torch(x, phi, bins, bound, slope)


def in_torch(x: Tensor, phi: Tensor, bins: int, bound: float, slope: float) -> Pair:
    """The same by tensor operations, on any device and with derivatives of any order."""
    raw = phi.unflatten(-1, (x.shape[-1], -1))
    u = raw / (1 + raw.abs() * torch.tensor(_limits(bins, slope), dtype=raw.dtype, device=raw.device))
    widths, heights, slopes = u.split((bins, bins, bins - 1), -1)
    p, r = widths.softmax(-1), heights.softmax(-1)
    right, top = p.cumsum(-1), r.cumsum(-1)
    inside = x.abs() < bound
    share = (torch.where(inside, x, 0) / bound + 1) / 2
    k = (right[..., :-1] < share[..., None]).sum(-1, keepdim=True)

    def at(values: Tensor, place: Tensor) -> Tensor:
        return values.gather(-1, place)[..., 0]

    w, h = at(p, k), at(r, k)
    delta = torch.nn.functional.pad(slopes, (1, 1)).exp()
    low, high = at(delta, k), at(delta, k + 1)
    z, s = (share - at(right, k)) / w + 1, h / w
    q = z * (1 - z)
    divisor = s + (low + high - 2 * s) * q
    y = bound * (2 * (at(top, k) - h + h * (s * z.square() + low * q) / divisor) - 1)
    steep = 2 * s * q + low * (1 - z).square() + high * z.square()
    log_slope = ((s / divisor).square() * steep).log()
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0).sum(-1)


class _Compiled(torch.autograd.Function):
    """Contiguous rows through the kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, phi: Tensor, bins: int, bound: float, slope: float) -> Pair:
        """Values with shape (n, d), and sums of log-derivatives with shape (n,)."""
        from implicit_infer.posteriors.density import spline_kernel

        e, y, log_det = torch.empty_like(phi), torch.empty_like(x), x.new_empty(len(x))
        arrays = (part.detach().numpy() for part in (x, phi, e, y, log_det))
        spline_kernel.forward(*arrays, *_constants(x.shape[1], bins, bound, slope))
        ctx.save_for_backward(x, phi, e)
        ctx.settings = bins, bound, slope
        return y, log_det

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients; with a graph of their own where one is asked for."""
        from implicit_infer.posteriors.density import spline_kernel

        x, phi, e = ctx.saved_tensors
        if torch.is_grad_enabled():
            wanted = [leaf for leaf, want in zip((x, phi), ctx.needs_input_grad, strict=False) if want]
            found = iter(torch.autograd.grad(in_torch(x, phi, *ctx.settings), wanted, upstream, create_graph=True))
            return *(next(found) if want else None for want in ctx.needs_input_grad[:2]), None, None, None
        dy, dl = (part.contiguous() for part in upstream)
        dx, dphi = torch.empty_like(x), torch.empty_like(phi)
        arrays = (part.detach().numpy() for part in (x, phi, e, dy, dl, dx, dphi))
        spline_kernel.backward(*arrays, *_constants(x.shape[1], *ctx.settings))
        return dx, dphi, None, None, None


def _limits(bins: int, slope: float) -> list[float]:
    """The reciprocal of the bound of each of a number's 3 K - 1 exponents."""
    return [-2 / math.log(slope)] * (2 * bins) + [-1 / math.log(slope)] * (bins - 1)


@functools.cache
def _constants(d: int, bins: int, bound: float, slope: float) -> tuple[Any, int, Any]:
    """What the kernel needs to know of rows of d splines: limits with shape (d (3 K - 1),), bins and bound."""
    import numpy as np

    return np.tile(np.array(_limits(bins, slope), np.float32), d), bins, np.float32(bound)


def _compiles() -> bool:
    import numba

    return not getattr(numba.config, "DISABLE_JIT", False)
