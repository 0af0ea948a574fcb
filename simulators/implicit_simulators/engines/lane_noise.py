r"""Random numbers for rows in lockstep: uniform, normal and exponential noise from the words of a counter.

Word :math:`w_j` of a row is one of the four 32-bit words that Philox4x32-10 makes from the counter
(j // 4, row, stream, 0) and the key, so a row's noise depends on its number and on nothing else. From it come

.. math:: u = (w + \tfrac12) 2^{-32}, \qquad e = -\log u, \qquad
    (z_1, z_2) = \sqrt{-2 \log u_1}\,(\cos 2\pi u_2, \sin 2\pi u_2).

Normal numbers (Box & Muller 1958) are made in single precision, sixteen to a vector: 24 bits each, at most 6.76, as
torch and the makers of accelerators have them. Uniform and exponential numbers are made in double precision.

Importing this module imports numba.

References:
    | A note on the generation of random normal deviates (Box & Muller, 1958)
    | https://doi.org/10.1214/aoms/1177706645
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types

from implicit_simulators.engines.lanes import JIT, _instruction, log, philox

LANES = 64
"""Rows in lockstep: their states and noise stay in the first-level cache."""

bits32_of = _instruction(types.float32, types.uint32, lambda builder, x: builder.bitcast(x, ir.IntType(32)))
float32_of = _instruction(types.uint32, types.float32, lambda builder, x: builder.bitcast(x, ir.FloatType()))

_F = np.float32
_UNIT = _F(2.0**-32)
_HALF = _F(2.0**-33)
_ONE, _TWO, _LOG2 = _F(1), _F(2), _F(0.6931471805599453)
# 2 artanh(f) / f in powers of f**2 on [0, 0.0295], to 1.4e-9
_A0, _A1, _A2, _A3 = _F(1.9999999986308006), _F(0.6666681538047051), _F(0.39974845716923146), _F(0.29924521095871803)
# sin(pi t / 2) / t and cos(pi t / 2) in powers of t**2 on [0, 1/4], to 5e-9 and 5e-11
_S0, _S1, _S2, _S3 = _F(1.5707963219532366), _F(-0.6459634776648118), _F(0.07968021764775542), _F(-0.004602149212814176)
_C0, _C1, _C2 = _F(0.9999999999524894), _F(-1.2337005406331623), _F(0.2536692036551135)
_C3, _C4 = _F(-0.02086006950026408), _F(0.0009036280663802505)

_MINUS_TWO = _F(-2)
_QUARTER = _F(2.0**-32)


@njit(forceinline=True, **JIT)
def fill_words(words: Any, first: int, count: int, row: int, stream: int, k0: np.uint64, k1: np.uint64) -> None:
    """Words ``first`` to ``first + count`` (multiples of four) of 64 rows from ``row`` on, in ``words[0:count]``."""
    kind, none, half = np.uint64(stream), np.uint64(0), np.uint64(32)
    for call in range(count // 4):
        counter = np.uint64(first // 4 + call)
        for lane in range(LANES):
            a, b = philox(counter, np.uint64(row + lane), kind, none, k0, k1)
            words[4 * call, lane] = np.uint32(a >> half)
            words[4 * call + 1, lane] = np.uint32(a)
            words[4 * call + 2, lane] = np.uint32(b >> half)
            words[4 * call + 3, lane] = np.uint32(b)


@njit(forceinline=True, **JIT)
def normal_pair(first: np.uint32, second: np.uint32) -> tuple[np.float32, np.float32]:
    """Two independent standard normal numbers from two words."""
    u = np.float32(first) * _UNIT + _HALF
    # log u, as in lanes.log: u is in [2**-33, 1]
    shifted = np.uint32(bits32_of(u) + np.uint32(0x004AFB0D))  # 1.0 less about sqrt(1/2), in bits
    exponent = np.float32(np.int32(shifted >> np.uint32(23)) - np.int32(127))
    m = float32_of(np.uint32(np.uint32(shifted & np.uint32(0x007FFFFF)) + np.uint32(0x3F3504F3)))
    f = (m - _ONE) / (m + _ONE)
    s = f * f
    logarithm = exponent * _LOG2 + f * (_A0 + s * (_A1 + s * (_A2 + s * _A3)))
    radius = np.sqrt(max(_MINUS_TWO * logarithm, _F(0)))
    # two bits are the quarter of the circle, the other thirty the place in it, from -1/2 to 1/2 quarter turns
    quarter = np.uint32(second >> np.uint32(30))
    t = np.float32(np.int32(second << np.uint32(2))) * _QUARTER
    q = t * t
    sine = t * (_S0 + q * (_S1 + q * (_S2 + q * _S3)))
    cosine = _C0 + q * (_C1 + q * (_C2 + q * (_C3 + q * _C4)))
    odd = (quarter & np.uint32(1)) != np.uint32(0)
    x, y = (sine, cosine) if odd else (cosine, sine)
    flip = np.uint32((quarter & np.uint32(2)) << np.uint32(30))
    radius = float32_of(np.uint32(bits32_of(radius) ^ flip))
    return radius * x, radius * y


@njit(forceinline=True, **JIT)
def uniform(word: np.uint32) -> float:
    """A uniform number in (0, 1) from a word."""
    return (np.float64(word) + 0.5) * 2.0**-32


@njit(forceinline=True, **JIT)
def exponential(word: np.uint32) -> float:
    """A standard exponential number from a word, at most 22.9."""
    return -log(uniform(word))
