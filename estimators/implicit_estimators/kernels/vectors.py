r"""Powers of two and logarithms without branches, in single precision, so that LLVM makes vector code of their loops.

Calls into the C library (``math.exp``) keep a loop scalar; the functions here are straight-line arithmetic on 32-bit
words and are inlined into it. They are compiled without reassociation, by which LLVM would simplify the rounding
``(t + magic) - magic`` to ``t``; loops that inline them may allow it for their own sums.

Importing this module imports numba. The kept machine code of :mod:`~implicit_estimators.kernels.compiled` has these
functions in it, and numba compares the time of that file alone: touch it after a change here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

EXACT: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz"}, "forceinline": True}
"""For straight-line arithmetic. ``error_model="numpy"``: Python's check for division by zero would be a branch."""

_F = np.float32
LOWEST = _F(-125.0)
"""Results below 2**-125 are 2**-125, for arithmetic on subnormal numbers is a hundredfold slower."""

_MAGIC = _F(1.5 * 2**23)
# (2**r - 1) / r in powers of r, interpolated at the Chebyshev nodes of [-1/2, 1/2]: 2**r to 5e-9
_P0, _P1, _P2 = _F(0.6931471824645996), _F(0.24022650718688965), _F(0.055503569543361664)
_P3, _P4, _P5 = _F(0.009618056938052177), _F(0.0013390866806730628), _F(0.00015461447765119374)
# 2 artanh(f) / (f log 2) in powers of f**2 on [0, 0.0295], to 7e-10
_L0, _L1, _L2, _L3 = _F(2.885390043258667), _F(0.9617988467216492), _F(0.5767139196395874), _F(0.431748628616333)
_ONE = _F(1)


def _instruction(source: Any, target: Any, emit: Callable[[Any, Any], Any]) -> Any:
    """A numba function from ``source`` to ``target`` that is what ``emit(builder, value)`` writes in LLVM."""

    @intrinsic
    def instruction(context: Any, value: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return emit(builder, arguments[0])

        return target(source), build

    return instruction


bits_of = _instruction(types.float32, types.uint32, lambda builder, x: builder.bitcast(x, ir.IntType(32)))
float_of = _instruction(types.uint32, types.float32, lambda builder, x: builder.bitcast(x, ir.FloatType()))


def _widest_vectors(context: Any) -> Any:
    """Let the calling function use the widest vectors that the processor has.

    LLVM holds back to 256 bits on processors that lowered their clock for wider ones. It is a hint in the function's
    attributes, and means nothing elsewhere.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # around AttributeSet.add, which knows LLVM's enumerated attributes only, not its string attributes
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), build


widest_vectors: Any = intrinsic(_widest_vectors)


@njit(**EXACT)
def exp2(t: np.float32) -> np.float32:
    r"""Two to the power of t, to one unit in the last place; 2**-125 below.

    .. math:: 2^t = 2^k 2^r, \quad k = \mathrm{round}(t), \quad |r| \le \tfrac12

    Args:
        t: At most 127.
    """
    t = t if t > LOWEST else LOWEST
    shifted = t + _MAGIC
    r = t - (shifted - _MAGIC)
    p = _ONE + r * (_P0 + r * (_P1 + r * (_P2 + r * (_P3 + r * (_P4 + r * _P5)))))
    return float_of(np.uint32(bits_of(p) + np.uint32(bits_of(shifted) << np.uint32(23))))


@njit(**EXACT)
def log2(x: np.float32) -> np.float32:
    r"""Logarithm to base two of a positive, normal x, to two units in the last place of the larger of 1 and itself.

    .. math:: \log_2 x = k + \frac{2}{\log 2} \mathrm{artanh}(f), \quad x = 2^k m, \quad f = \frac{m - 1}{m + 1},
        \quad m \in [\sqrt{1/2}, \sqrt 2)
    """
    shifted = np.uint32(bits_of(x) + np.uint32(0x004AFB0D))  # 1 less about sqrt(1/2), in bits
    k = np.float32(np.int32(shifted >> np.uint32(23)) - np.int32(127))
    m = float_of(np.uint32(np.uint32(shifted & np.uint32(0x007FFFFF)) + np.uint32(0x3F3504F3)))
    f = (m - _ONE) / (m + _ONE)
    s = f * f
    return k + f * (_L0 + s * (_L1 + s * (_L2 + s * _L3)))
