"""The functions of ``csrc/core/double_functions.h`` in NumPy, bit for bit: float64, plain products and sums in a fixed order.

Change both or none; a test compares them. Each takes and gives float64; the caller rounds to float32 once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def exp(x: Array) -> Array:
    """e^x for results that fit float32."""
    x = np.where(x > -110.0, x, -110.0)
    x = np.where(x < 90.0, x, 90.0)
    n = np.rint(x * 1.4426950408889634)
    r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10
    p = np.full_like(r, 1.0 / 6227020800.0)
    for d in (479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0):
        p = p * r + 1.0 / d
    power = ((n.astype(np.int64) + 1023).astype(np.uint64) << np.uint64(52)).view(np.float64)
    return np.asarray(p * power)


def log(x: Array) -> Array:
    """Natural logarithm of positive normal numbers."""
    shifted = np.asarray(x, np.float64).view(np.uint64) - np.uint64(0x3FE6A09E667F3BCD)
    e = (shifted.view(np.int64) >> 52).astype(np.float64)
    m = ((shifted & np.uint64(0x000FFFFFFFFFFFFF)) + np.uint64(0x3FE6A09E667F3BCD)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = np.full_like(s, 1.0 / 21.0)
    for k in range(19, 0, -2):
        p = p * z + 1.0 / k
    return e * 0.693147180559945309417 + 2.0 * s * p


def sine(x: Array, quarter: int) -> Array:
    """Sine of x plus ``quarter`` right angles."""
    n = np.rint(x * 0.63661977236758134308)
    r = ((x - n * 1.57079632673412561417) - n * 6.07710050630396597660e-11) - n * 2.02226624879595063154e-21
    r = np.where(r > -0.9, r, -0.9)
    r = np.where(r < 0.9, r, 0.9)
    z = r * r
    turn = n + quarter
    place = turn - 4.0 * np.floor(turn * 0.25)
    s, c = np.ones_like(r), np.ones_like(r)
    for k in range(16, 0, -2):
        s = 1.0 - s * z / (k * (k + 1))
    for k in range(17, 0, -2):
        c = 1.0 - c * z / (k * (k + 1))
    s = np.where((place == 1.0) | (place == 3.0), c, r * s)
    return np.where(place >= 2.0, -s, s)


def arctangent(x: Array) -> Array:
    """Two halvings of the angle bring it below 0.2."""
    a = np.abs(x)
    t = np.where(a > 1.0, 1.0 / a, a)
    h = t / (1.0 + np.sqrt(1.0 + t * t))
    q = h / (1.0 + np.sqrt(1.0 + h * h))
    z = q * q
    p = np.full_like(q, 1.0 / 27.0)
    for k in range(25, 0, -2):
        p = 1.0 / k - p * z
    angle = 4.0 * (q * p)
    return np.copysign(np.where(a > 1.0, 1.57079632679489661923 - angle, angle), x)


def arcsine(x: Array) -> Array:
    """By the tangent."""
    return arctangent(x / np.sqrt((1.0 - x) * (1.0 + x)))


def sinh(x: Array) -> Array:
    """By exponentials; near 0 by its series."""
    z = x * x
    return np.where(np.abs(x) < 0.03, x * (1.0 + z * (1.0 / 6.0 + z / 120.0)), (exp(x) - exp(-x)) * 0.5)


def cosh(x: Array) -> Array:
    """By exponentials."""
    return np.asarray((exp(x) + exp(-x)) * 0.5)


def asinh(x: Array) -> Array:
    """By a logarithm; near 0 by its series."""
    a, z = np.abs(x), x * x
    return np.where(a < 0.03, x * (1.0 - z * (1.0 / 6.0 - z * (3.0 / 40.0))), np.copysign(log(a + np.sqrt(z + 1.0)), x))


def acosh(x: Array) -> Array:
    """By a logarithm; NaN below 1."""
    return np.where(x >= 1.0, log(x + np.sqrt((x - 1.0) * (x + 1.0))), np.nan)


def atanh(x: Array) -> Array:
    """By a logarithm; near 0 by its series."""
    a, z = np.abs(x), x * x
    inside = np.where(a < 1.0, 0.5 * log((1.0 + x) / (1.0 - x)), np.where(a == 1.0, np.copysign(np.inf, x), np.nan))
    return np.where(a < 0.03, x * (1.0 + z * (1.0 / 3.0 + z * 0.2)), inside)


def power(a: Array, b: Array) -> Array:
    """a^b, with the special cases of C."""
    size = np.abs(a)
    whole = b == np.rint(b)
    odd = whole & (np.abs(b) < 9007199254740992.0) & (b * 0.5 != np.rint(b * 0.5))
    ends = (size == 0.0) | np.isinf(size)
    y = np.where(ends, np.where((size == 0.0) == (b > 0.0), 0.0, np.inf), exp(b * log(np.where(ends, 1.0, size))))
    y = np.where(size == 1.0, 1.0, y)
    y = np.where(np.signbit(a) & odd, -y, y)
    y = np.where((a < 0.0) & ~whole, np.nan, y)
    y = np.where(np.isnan(a) | np.isnan(b), np.nan, y)
    return np.where((b == 0.0) | (a == 1.0), 1.0, y)


def _softsign(x: Array, a: float, b: float) -> Array:
    return x / (1.0 + np.abs(x))


def _mish(x: Array, a: float, b: float) -> Array:
    e = exp(x)
    t = e * (e + 2.0)  # tanh(log(1 + e)) = t / (t + 2)
    return np.where(x > 40.0, x, x * (t / (t + 2.0)))


FUNCTIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "SIN": lambda x, a, b: sine(x, 0),
    "COS": lambda x, a, b: sine(x, 1),
    "TAN": lambda x, a, b: sine(x, 0) / sine(x, 1),
    "ASIN": lambda x, a, b: arcsine(x),
    "ACOS": lambda x, a, b: 1.57079632679489661923 - arcsine(x),
    "ATAN": lambda x, a, b: arctangent(x),
    "SINH": lambda x, a, b: sinh(x),
    "COSH": lambda x, a, b: cosh(x),
    "ASINH": lambda x, a, b: asinh(x),
    "ACOSH": lambda x, a, b: acosh(x),
    "ATANH": lambda x, a, b: atanh(x),
    "ROUND": lambda x, a, b: np.rint(x),
    "SIGN": lambda x, a, b: np.where(x > 0.0, 1.0, np.where(x < 0.0, -1.0, x)),
    "SELU": lambda x, a, b: b * np.where(x > 0.0, x, a * (exp(x) - 1.0)),
    "CELU": lambda x, a, b: np.where(x > 0.0, x, a * (exp(x / a) - 1.0)),
    "THRESHOLDED": lambda x, a, b: np.where(x > a, x, 0.0),
    "SOFTSIGN": _softsign,
    "MISH": _mish,
    "SHRINK": lambda x, a, b: np.where(x < -b, x + a, np.where(x > b, x - a, 0.0)),
    "ABS": lambda x, a, b: np.abs(x),
    "NEG": lambda x, a, b: -x,
}


def apply(kind: str, x: Array, alpha: float, beta: float) -> Array:
    """The function named ``kind`` (a name of ``edgezip.program.Math``) of float32 ``x``, rounded to float32; every NaN is one."""
    alpha, beta = float(np.float32(alpha)), float(np.float32(beta))
    with np.errstate(all="ignore"):
        wide = np.asarray(FUNCTIONS[kind](np.asarray(x, np.float64), alpha, beta)).astype(np.float32)
    return np.where(np.isnan(wide), np.float32(np.nan), wide)
