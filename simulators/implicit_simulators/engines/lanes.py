"""Logarithm and random numbers without branches, so that LLVM turns a loop over rows into vector code.

A row is a *lane* of such a loop. Calls into the C library (``math.log``) and stateful generators keep a loop scalar;
the functions here are straight-line arithmetic on 64-bit words and are inlined into it.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

JIT: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz"}, "nogil": True}
"""How every lane kernel is compiled.

``error_model="numpy"``: Python's check for division by zero is a branch, and one branch keeps the whole loop scalar.

``fastmath``: only contraction to fused multiply-add, and unsigned zeros. Never ``True``: its ``reassoc`` lets LLVM
simplify ``(x + magic) - magic`` to ``x``, which deletes rounding to the nearest integer and gives wrong numbers in
silence, and its ``nnan`` deletes the comparisons by which a jump process sees that a row has failed.
"""

_MASK32 = np.uint64(0xFFFFFFFF)
_MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
_ONE_BITS = np.uint64(0x3FF0000000000000)  # of 1.0
_SQRT_HALF_BITS = np.uint64(0x3FE6A09E68000000)  # of about sqrt(1/2)
_LOG_SHIFT = np.uint64(0x00095F6198000000)  # _ONE_BITS - _SQRT_HALF_BITS


def _instruction(source: Any, target: Any, emit: Callable[[Any, Any], Any]) -> Any:
    """A numba function from ``source`` to ``target`` that is what ``emit(builder, value)`` writes in LLVM."""

    @intrinsic
    def instruction(context: Any, value: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return emit(builder, arguments[0])

        return target(source), build

    return instruction


_FALSE = ir.Constant(ir.IntType(1), 0)  # zero is a legal argument of the two counts
bits_of = _instruction(types.float64, types.uint64, lambda builder, x: builder.bitcast(x, ir.IntType(64)))
float_of = _instruction(types.uint64, types.float64, lambda builder, x: builder.bitcast(x, ir.DoubleType()))
leading_zeros = _instruction(types.uint64, types.int64, lambda builder, x: builder.ctlz(x, _FALSE))


@intrinsic
def widest_vectors(context: Any) -> Any:
    """Let the calling function use the widest vectors that the processor has.

    LLVM holds back to 256 bits on Intel's AVX-512 processors, which lowered their clock for wider ones; these kernels
    ran a fifth faster with 512. It is a hint in the function's attributes, and means nothing elsewhere.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # around AttributeSet.add, which knows LLVM's enumerated attributes only, not its string attributes
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), build


@njit(forceinline=True, **JIT)
def log(x: float) -> float:
    r"""Natural logarithm of a positive, normal x to two units in the last place as a rule, and five at most.

    .. math:: \log x = e \log 2 + 2\,\mathrm{artanh}(f), \quad x = 2^e m, \quad f = \frac{m - 1}{m + 1}, \quad
        m \in [\sqrt{1/2}, \sqrt 2)

    so that :math:`|f| < 0.172` and a short polynomial reaches double precision. Zero, negative numbers, infinity and
    NaN give nonsense: callers keep them out.
    """
    shifted = bits_of(x) + _LOG_SHIFT
    exponent = np.float64(np.int64(shifted >> np.uint64(52)) - 1023)
    m = float_of((shifted & _MANTISSA) + _SQRT_HALF_BITS)
    f = (m - 1.0) / (m + 1.0)
    # 2 artanh(f) / f in powers of s = f**2, interpolated at the Chebyshev nodes of [0, 0.0295] to 5e-18. Pairs of terms
    # are summed side by side (Estrin's scheme): a chain of seven would leave the processor waiting.
    s = f * f
    s2 = s * s
    a = 2.0 + s * 0.666666666666667
    b = 0.39999999999899505 + s * 0.28571428625975487
    c = 0.2222221113479508 + s * 0.18182889125261723
    d = 0.15331721600556042 + s * 0.14616449685043406
    series = (a + s2 * b) + (s2 * s2) * (c + s2 * d)
    return exponent * 0.6931471805599453 + f * series


@njit(forceinline=True, **JIT)
def any_log(x: float) -> float:
    """Natural logarithm of any x, as the C library has it: -inf at zero, NaN below, subnormal numbers too.

    For the code of users, who cannot be asked to keep zeros out: selections, no branches.
    """
    small = x < 2.2250738585072014e-308
    scaled = x * 18014398509481984.0 if small else x  # 2**54
    value = log(scaled) - (37.429947750237046 if small else 0.0)
    value = value if x > 0.0 else (-np.inf if x == 0.0 else np.nan)
    return value if x < np.inf else x  # infinity and, since it compares false, NaN; minus infinity is NaN already


@njit(forceinline=True, **JIT)
def any_exp(x: float) -> float:
    r"""Exponential function of any x to two units in the last place; infinity, zero and NaN as the C library has.

    .. math:: e^x = 2^k e^r, \quad k = \mathrm{round}(x / \log 2), \quad |r| \le \tfrac12 \log 2

    Rounding is the addition and subtraction of :math:`1.5 \cdot 2^{52}`, which a compiler that may reassociate would
    delete; see ``JIT``. Results below e**-707 are zero.
    """
    bounded = min(max(x, -707.0), 710.0)
    shifted = bounded * 1.4426950408889634 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = bounded - k * 0.6931471803691238 - k * 1.9082149292705877e-10  # log 2 in two parts
    r2 = r * r
    r4 = r2 * r2
    # interpolated at the Chebyshev nodes of [-log(2)/2, log(2)/2] to 3e-18, in Estrin's order as in log
    a = 1.0 + r
    b = 0.5000000000000019 + r * 0.1666666666666668
    c = 0.0416666666664881 + r * 0.008333333333319601
    d = 0.0013888888952314775 + r * 0.00019841269890047113
    e = 2.4801485482328494e-05 + r * 2.755724091857897e-06
    f = 2.763263963904103e-07 + r * 2.5110037605963777e-08
    series = (a + r2 * b) + r4 * ((c + r2 * d) + r4 * (e + r2 * f))
    # the last doubling is a product, which overflows to infinity where adding to the exponent would wrap around
    value = 2.0 * float_of(bits_of(series) + ((bits_of(shifted) - np.uint64(1)) << np.uint64(52)))
    value = value if x >= -707.0 else 0.0
    return value if x == x else x


@njit(forceinline=True, **JIT)
def philox(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Philox4x32-10: 128 random bits, as two 64-bit words, from a counter of four words and a key of two.

    The generator keeps no state: a draw is a function of key and counter alone, which is what makes a simulation
    independent of how rows are spread over lanes, blocks and threads.

    References:
        | Parallel random numbers: as easy as 1, 2, 3 (Salmon et al., 2011)
        | https://doi.org/10.1145/2063384.2063405
    """
    for _ in range(10):
        # masks stand at the factors, where the 32x32-bit multiplication ignores the high words anyway
        p0 = np.uint64(0xD2511F53) * (c0 & _MASK32)
        p1 = np.uint64(0xCD9E8D57) * (c2 & _MASK32)
        c0 = (p1 >> np.uint64(32)) ^ c1 ^ k0
        c2 = (p0 >> np.uint64(32)) ^ c3 ^ k1
        c1 = p1
        c3 = p0
        k0 = (k0 + np.uint64(0x9E3779B9)) & _MASK32
        k1 = (k1 + np.uint64(0xBB67AE85)) & _MASK32
    return (c0 << np.uint64(32)) | (c1 & _MASK32), (c2 << np.uint64(32)) | (c3 & _MASK32)


@njit(forceinline=True, **JIT)
def unit_below(bits: np.uint64) -> float:
    """A uniform number in [0, 1), a multiple of 2**-52, from 64 random bits."""
    return float_of((bits >> np.uint64(12)) | _ONE_BITS) - 1.0


@njit(forceinline=True, **JIT)
def unit_above(bits: np.uint64) -> float:
    """A uniform number in (0, 1], a multiple of 2**-52, from 64 random bits: one whose logarithm is finite."""
    return 2.0 - float_of((bits >> np.uint64(12)) | _ONE_BITS)
