"""The float32 functions of ``csrc/core/float_functions.h`` in NumPy, bit for bit: same polynomials and order, fma where C has it.

Change both or none; a test compares them over all kinds of floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
F32 = np.float32


def fma(a: Array, b: Array, c: Array) -> Array:
    """float32 ``a * b + c`` rounded once, as C fmaf.

    The product is exact in float64; the sum is rounded to odd there, so the second rounding to float32 is the only one that
    shows (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
    """
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) * b.astype(np.float64)
        addend = c.astype(np.float64)
        total = product + addend
        part = total - product
        error = (product - (total - part)) + (addend - part)
        bits = total.view(np.int64)
        inexact = (error != 0) & np.isfinite(total) & np.isfinite(error) & ((bits & 1) == 0)
        toward = np.where((error > 0) == (total > 0), 1, -1)
        return (bits + toward * inexact).view(np.float64).astype(F32)


def _clamp(t: Array, lo: float, hi: float) -> Array:
    t = np.where(t > F32(lo), t, F32(lo))
    return np.where(t < F32(hi), t, F32(hi))


def _clamp_to(t: Array, limit: float) -> Array:
    """Within [-limit, limit]; NaN gives the upper end."""
    t = np.where(t < F32(limit), t, F32(limit))
    return np.where(t > F32(-limit), t, F32(-limit))


def _horner(x: Array, *coefficients: float) -> Array:
    """``((c0 * x + c1) * x + c2) ...``, each product and sum rounded."""
    value = np.full_like(x, F32(coefficients[0]))
    for c in coefficients[1:]:
        value = value * x + F32(c)
    return value


def _power_of_two(n: Array) -> Array:
    return ((n + 127).astype(np.uint32) << np.uint32(23)).view(F32)


def exp(v: Array) -> Array:
    """Relative error below 1.3e-7; NaN and below -86.9 give 0 (no denormal ever appears), above 88.72 infinity."""
    x = np.where(v < F32(89.0), v, F32(89.0))
    n = (x * F32(1.44269504) + F32(12582912.0)) - F32(12582912.0)
    n = np.where(n > F32(-125.0), n, F32(-125.0))
    r = x - n * F32(0.693359375)
    r = r - n * F32(-2.12194440e-4)
    r = np.where(r > F32(-0.4), r, F32(-0.4))
    p = _horner(r, 1.394216140e-3, 8.363776390e-3, 4.166636345e-2, 1.666657336e-1, 5.000000029e-1)
    p = p * (r * r) + r
    p = p + F32(1.0)
    whole = n.astype(np.int32)
    half = whole >> 1
    return np.where(v >= F32(-86.9), (p * _power_of_two(half)) * _power_of_two(whole - half), F32(0.0))


def sigmoid(x: Array) -> Array:
    """Absolute error below 1.2e-7; NaN gives 1."""
    magic = F32(12582912.0)
    v = _clamp_to(x, 86.0)
    shifted = fma(v, F32(-1.44269504), magic)
    n = shifted - magic
    r = fma(n, F32(-2.12194440e-4), fma(n, F32(0.693359375), v))
    p = F32(-8.290288595e-3)
    for c in (4.189807137e-2, -1.666763738e-1, 4.999914849e-1, -9.999997066e-1, 1.0):
        p = fma(p, r, F32(c))
    p = (p.view(np.uint32) + (shifted.view(np.uint32) << np.uint32(23))).view(F32)
    return F32(1.0) / (F32(1.0) + p)


def tanh(x: Array) -> Array:
    """Relative error below 3e-7."""
    a, s = np.abs(x), x * x
    p = _horner(s, -6.113328295e-3, 2.101017565e-2, -5.385408984e-2, 1.333279468e-1, -3.333332925e-1)
    small = x + x * (s * p)
    e = exp(F32(-2.0) * a)
    large = np.copysign((F32(1.0) - e) / (F32(1.0) + e), x)
    return np.where(a < F32(0.625), small, large)


def erf(x: Array) -> Array:
    """Absolute error below 2.5e-7."""
    a, s = np.abs(x), x * x
    p = _horner(s, 7.889119796e-5, -8.020841602e-4, 5.189535409e-3, -2.685444465e-2, 1.128360018e-1, -3.761262714e-1, 1.128379166)
    t = F32(1.0) / (F32(1.0) + F32(0.4) * a)
    q = _horner(
        t, -2.218075853e-1, 8.032343402e-1, -5.380281039e-1, 6.226567967e-1, 8.382599174e-2, 2.522464568e-1, -2.114026803e-3
    )
    large = np.copysign(F32(1.0) - q * exp(-s), x)
    return np.where(a < F32(1.0), x * p, large)


def gelu(x: Array) -> Array:
    """Absolute error below 3e-7 times abs(x)."""
    return (F32(0.5) * x) * (F32(1.0) + erf(x * F32(0.707106781)))


def gelu_tanh(x: Array) -> Array:
    """The tanh form, as ``x * sigmoid(2 u)``: absolute error below 3e-7 times abs(x)."""
    return x * sigmoid(x * (F32(1.59576912) + F32(0.0713548163) * (x * x)))


def log(x: Array) -> Array:
    """0 gives -inf, negative and NaN give NaN."""
    tiny = x < F32(1.17549435e-38)
    bits = np.where(tiny, x * F32(8388608.0), x).view(np.uint32)
    shifted = bits - np.uint32(0x3F3504F3)
    e = (shifted.view(np.int32) >> 23).astype(F32)
    m = ((shifted & np.uint32(0x007FFFFF)) + np.uint32(0x3F3504F3)).view(F32)
    e = np.where(tiny, e - F32(23.0), e)
    f = m - F32(1.0)
    f2 = f * f
    p = _horner(
        f,
        -8.305386945e-2,
        1.279891006e-1,
        -1.294342195e-1,
        1.419023643e-1,
        -1.664348805e-1,
        2.000187990e-1,
        -2.500028087e-1,
        3.333332654e-1,
    )
    tail = (p * f) * f2 - F32(0.5) * f2
    value = (e * F32(-2.12194440e-4) + tail) + (f + e * F32(0.693359375))
    value = np.where(x > F32(0.0), value, np.where(x == F32(0.0), F32(-np.inf), F32(np.nan)))
    return np.where(x > F32(3.40282347e38), x, value)


def softplus(x: Array) -> Array:
    """Absolute error below 3e-7."""
    return np.where(x > F32(0.0), x, F32(0.0)) + log(F32(1.0) + exp(-np.abs(x)))


FUNCTIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "CLIP": lambda x, a, b: _clamp(x, a, b),
    "SIGMOID": lambda x, a, b: sigmoid(x),
    "TANH": lambda x, a, b: tanh(x),
    "EXP": lambda x, a, b: exp(x),
    "ERF": lambda x, a, b: erf(x),
    "GELU": lambda x, a, b: gelu(x),
    "GELU_TANH": lambda x, a, b: gelu_tanh(x),
    "SILU": lambda x, a, b: x * sigmoid(x),
    "HARD_SIGMOID": lambda x, a, b: _clamp(F32(a) * x + F32(b), 0.0, 1.0),
    "HARD_SWISH": lambda x, a, b: x * _clamp(x * F32(0.166666667) + F32(0.5), 0.0, 1.0),
    "LEAKY_RELU": lambda x, a, b: np.where(x < F32(0.0), F32(a) * x, x),
    "ELU": lambda x, a, b: np.where(x < F32(0.0), F32(a) * (exp(x) - F32(1.0)), x),
    "SQRT": lambda x, a, b: np.sqrt(x),
    "NEG": lambda x, a, b: -x,
    "ABS": lambda x, a, b: np.abs(x),
    "RECIPROCAL": lambda x, a, b: F32(1.0) / x,
    "FLOOR": lambda x, a, b: np.floor(x),
    "CEIL": lambda x, a, b: np.ceil(x),
    "SOFTPLUS": lambda x, a, b: softplus(x),
    "LOG": lambda x, a, b: log(x),
}


def apply(kind: str, x: Array, alpha: float, beta: float) -> Array:
    """The function named ``kind`` (a name of ``edgezip.program.Unary``) of float32 ``x``, any shape, as float32."""
    with np.errstate(all="ignore"):
        return np.asarray(FUNCTIONS[kind](np.asarray(x, F32), alpha, beta), F32)
