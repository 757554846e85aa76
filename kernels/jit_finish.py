"""From sums to stored values in Numba: requantise, table, residual add (the order of ez_conv_params), clamp."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from edgezip.kernels.jit_grid import Target, pixel_start

Array = np.ndarray[Any, Any]


class Clamp(NamedTuple):
    """Logical limits and zero point of an int8 result, and the XOR between logical and stored bytes."""

    lo: int
    hi: int
    zero_point: int
    sign: int


class Sum(NamedTuple):
    """The residual add: zero point and scale of the product and of the other operand (float32)."""

    zero_a: int
    zero_b: int
    scale_a: np.float32
    scale_b: np.float32


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def stored_byte(t: Any, c: Clamp) -> Any:
    """float32 steps -> stored byte (rule 4): clamp, round to nearest even, zero point, sign."""
    lo, hi = np.float32(c.lo - c.zero_point), np.float32(c.hi - c.zero_point)
    t = t if t > lo else lo
    t = t if t < hi else hi
    rounder = np.float32(12582912.0)  # 1.5 * 2^23: adding it leaves no fraction, so the addition rounds to nearest even
    return np.uint8(np.int32((t + rounder) - rounder + np.float32(c.zero_point)) ^ np.int32(c.sign))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def finish(
    acc: Array,
    outputs: int,
    mult: Array,
    c: Clamp,
    table: Array,
    grid: Any,
    first: int,
    rows: int,
    y: Array,
    to: Target,
    column: int,
) -> None:
    """Stored bytes of ``rows`` pixels: requantised sums, through ``table`` (256 stored bytes) unless it is empty."""
    for r in range(rows):
        at = pixel_start(to, grid[0], grid[1], first + r) + column
        pixel, sums = y[at : at + outputs], acc[r, :outputs]  # a slice's indices are known to be positive: the loops vectorise
        for n in range(outputs):
            pixel[n] = stored_byte(np.float32(sums[n]) * mult[n], c)
        if table.size:
            for n in range(outputs):
                pixel[n] = table[pixel[n]]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def add_residual(
    y: Array,
    to: Target,
    other: Array,
    source: Target,
    grid: Any,
    first: int,
    rows: int,
    column: int,
    outputs: int,
    s: Sum,
    c: Clamp,
) -> None:
    """y = y + other (rule 6), for pixels that ``finish`` has just stored."""
    for r in range(rows):
        at = pixel_start(to, grid[0], grid[1], first + r) + column
        seen = pixel_start(source, grid[0], grid[1], first + r) + column
        pixel, operand = y[at : at + outputs], other[seen : seen + outputs]
        for n in range(outputs):
            a = np.float32(np.int32(np.int8(pixel[n] ^ c.sign)) - s.zero_a) * s.scale_a
            b = np.float32(np.int32(np.int8(operand[n] ^ c.sign)) - s.zero_b) * s.scale_b
            pixel[n] = stored_byte(a + b, c)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def finish_f32(
    acc: Array, outputs: int, lo: Any, hi: Any, grid: Any, first: int, rows: int, y: Array, to: Target, column: int
) -> None:
    """Clamped float32 values of ``rows`` pixels."""
    for r in range(rows):
        at = pixel_start(to, grid[0], grid[1], first + r) + column
        pixel, sums = y[at : at + outputs], acc[r, :outputs]
        for n in range(outputs):
            t = sums[n]
            t = t if t > lo else lo
            pixel[n] = t if t < hi else hi
