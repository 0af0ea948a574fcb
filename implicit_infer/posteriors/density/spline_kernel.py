r"""The rational-quadratic spline and its gradient, compiled: one pass over rows instead of dozens of tensor operations.

The exponentials of a row are one vector loop; what remains for each number is a search among the bins and some tens of
multiplications. Importing this module imports numba, and the first call compiles for some seconds; the machine code is
kept on disk beside this file or in numba's cache folder, with the functions of
:mod:`implicit_estimators.kernels.vectors` in it (touch this file after a change there).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from implicit_estimators.kernels.vectors import exp2, log2

logger = logging.getLogger(__name__)

_SUMS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": {"contract", "nsz", "reassoc"}}
"""Sums may be reordered; what is not finite stays so (no ``nnan``)."""

_F = np.float32
_ZERO, _HALF, _ONE, _TWO = _F(0), _F(0.5), _F(1), _F(2)
_TO_TWO, _FROM_TWO = _F(np.log2(np.e)), _F(np.log(2))


def _kept(function: Callable[..., Any]) -> Any:
    """``function`` compiled, and kept on disk where any folder can be written."""
    try:
        return njit(cache=True, **_SUMS)(function)
    except RuntimeError as error:
        logger.debug("the machine code of splines is not kept on disk: %s", error)
        return njit(**_SUMS)(function)


@njit(**_SUMS, inline="always")
def _bin(v: Any, e: Any, at: int, bins: int, bound: Any) -> Any:
    """The bin of v and what is known of it: sums of widths and heights, before it and in all, and its two slopes."""
    width = height = below = under = _ZERO
    for j in range(bins):
        width += e[at + j]
        height += e[at + bins + j]
    target = (v / bound + _ONE) * _HALF * width
    k, run, risen = 0, _ZERO, _ZERO
    for j in range(bins - 1):
        run += e[at + j]
        risen += e[at + bins + j]
        if run < target:
            k, below, under = j + 1, run, risen
    slopes = at + 2 * bins
    low = _ONE if k == 0 else e[slopes + k - 1]
    high = _ONE if k == bins - 1 else e[slopes + k]
    return k, (target - below) / e[at + k], width, height, below, under, low, high


@_kept
def forward(x: Any, phi: Any, e: Any, y: Any, log_det: Any, limits: Any, bins: int, bound: Any) -> None:
    """Values and log-derivatives, summed over a row, into ``y`` and ``log_det``; ``e`` is kept for the gradient.

    Args:
        x: Shape (n, d).
        phi: Shape (n, d * (3 * bins - 1)).
        e: Of the shape of phi: the exponentials.
        y: Shape (n, d).
        log_det: Shape (n,).
        limits: The reciprocal of the bound of each column's exponent, with shape (d * (3 * bins - 1),).
        bins: Bins of the spline.
        bound: It is the identity outside of [-bound, bound].
    """
    parts = 3 * bins - 1
    for i in range(x.shape[0]):
        row, out = phi[i], e[i]
        for j in range(row.shape[0]):
            u = row[j] * _TO_TWO / (_ONE + abs(row[j]) * limits[j])
            out[j] = exp2(u) if u == u else u  # exp2 and log2 make numbers of what is none
        total = _ZERO
        for c in range(x.shape[1]):
            v = x[i, c]
            if not abs(v) < bound:
                y[i, c] = v
                continue
            k, z, width, height, _, under, low, high = _bin(v, out, c * parts, bins, bound)
            h = out[c * parts + bins + k] / height
            s = h * width / out[c * parts + k]
            q = z * (_ONE - z)
            divisor = s + (low + high - _TWO * s) * q
            y[i, c] = bound * (_TWO * (under / height + h * (s * z * z + low * q) / divisor) - _ONE)
            steep = _TWO * s * q + low * (_ONE - z) * (_ONE - z) + high * z * z
            s /= divisor
            steep *= s * s
            total += log2(steep) if steep == steep else steep
        log_det[i] = total * _FROM_TWO


@_kept
def backward(
    x: Any, phi: Any, e: Any, dy: Any, dl: Any, dx: Any, dphi: Any, limits: Any, bins: int, bound: Any
) -> None:
    """Gradients in x and phi, into ``dx`` and ``dphi``, of a loss whose gradients in y and log_det are dy and dl."""
    parts = 3 * bins - 1
    for i in range(x.shape[0]):
        out, row, gradient = e[i], phi[i], dphi[i]
        for c in range(x.shape[1]):
            v, at = x[i, c], c * parts
            if not abs(v) < bound:
                dx[i, c] = dy[i, c]
                for j in range(parts):
                    gradient[at + j] = _ZERO
                continue
            k, z, width, height, below, under, low, high = _bin(v, out, at, bins, bound)
            w, h = out[at + k] / width, out[at + bins + k] / height
            s = h / w
            r = _ONE - z
            q, bend, tilt = z * r, low + high - _TWO * s, _ONE - _TWO * z
            divisor = _ONE / (s + bend * q)
            rise = (s * z * z + low * q) * divisor
            steep = _TWO * s * q + low * r * r + high * z * z
            of_steep, of_log = dl[i] / steep, -_TWO * dl[i] * divisor
            of_y = _TWO * bound * dy[i, c]  # of the share of the height below y
            of_rise = of_y * h * divisor
            of_z = of_rise * s * steep * divisor
            of_z += of_steep * _TWO * (s * tilt - low * r + high * z) + of_log * bend * tilt
            of_s = of_rise * (z * z - rise * (_ONE - _TWO * q))
            of_s += _TWO * dl[i] / s + of_steep * _TWO * q + of_log * (_ONE - _TWO * q)
            of_low = of_rise * q * (_ONE - rise) + of_steep * r * r + of_log * q
            of_high = -of_rise * q * rise + of_steep * z * z + of_log * q
            # z = (share of x - shares before) / w, s = h / w
            of_place = of_z / w
            of_w = -(of_z * z + of_s * s) / w
            of_h = of_y * rise + of_s / w
            dx[i, c] = of_place / (_TWO * bound)
            mean_w = (of_w * out[at + k] - of_place * below) / width
            mean_h = (of_h * out[at + bins + k] + of_y * under) / height
            for j in range(bins):
                w_j = -of_place if j < k else (of_w if j == k else _ZERO)
                h_j = of_y if j < k else (of_h if j == k else _ZERO)
                gradient[at + j] = out[at + j] / width * (w_j - mean_w)
                gradient[at + bins + j] = out[at + bins + j] / height * (h_j - mean_h)
            slopes = at + 2 * bins
            for j in range(bins - 1):
                gradient[slopes + j] = _ZERO
            if k > 0:
                gradient[slopes + k - 1] = of_low * low
            if k < bins - 1:
                gradient[slopes + k] = of_high * high
        for j in range(row.shape[0]):
            flat = _ONE / (_ONE + abs(row[j]) * limits[j])
            gradient[j] *= flat * flat
