"""int8 pooling in Numba over stored bytes: maxima, and sums of what is inside of the input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from edgezip.kernels.jit_grid import Geometry, taps_of

Array = np.ndarray[Any, Any]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def max_pool(
    x: Array, g: Geometry, channels: int, first: int, rows: int, sign: int, lo: int, hi: int, y: Array, y_pixel: int
) -> None:
    """Stored maxima, clamped to logical [lo, hi], of pixels ``first``.. of the grid; y is (pixels, y_pixel) bytes."""
    flip = np.uint8(sign ^ 0x80)  # stored bytes XOR this are ordered like the logical values
    low, high = np.uint8(lo + 128), np.uint8(hi + 128)
    best, starts = np.empty(channels, np.uint8), np.empty(g.kernel_h * g.kernel_w, np.int64)
    for r in range(rows):
        best[:] = 0
        taps_of(g, first + r, starts)
        for at in starts:
            if at < 0:
                continue
            seen = x[at : at + channels]
            for c in range(channels):
                best[c] = max(best[c], seen[c] ^ flip)
        at = (first + r) * y_pixel
        pixel = y[at : at + channels]
        for c in range(channels):
            pixel[c] = min(max(best[c], low), high) ^ flip


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def sum_pool(
    x: Array, g: Geometry, channels: int, first: int, rows: int, sign: int, zero_point: int, acc: Array, counts: Array
) -> None:
    """acc (rows, C) int32: sums of (value - zero point) over the taps inside of x; counts (rows): how many they are."""
    starts = np.empty(g.kernel_h * g.kernel_w, np.int64)
    for r in range(rows):
        taps_of(g, first + r, starts)
        acc[r, :] = 0
        counts[r] = 0
        for at in starts:
            if at < 0:
                continue
            counts[r] += 1
            seen = x[at : at + channels]
            for c in range(channels):
                acc[r, c] += np.int32(np.int8(seen[c] ^ np.uint8(sign))) - np.int32(zero_point)
