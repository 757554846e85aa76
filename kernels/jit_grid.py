"""Output pixels in Numba: what each one sees, where each one is stored."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]


class Geometry(NamedTuple):
    """Where output pixels look: input (batch, in_h, in_w) pixels ``x_pixel`` elements apart, grid (batch, out_h, out_w)."""

    in_h: int
    in_w: int
    x_pixel: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    out_h: int
    out_w: int


class Target(NamedTuple):
    """Where they are stored: (n, i, j) at ((n * h + offset_h + i * step_h) * w + offset_w + j * step_w) * pixel elements."""

    h: int
    w: int
    pixel: int
    offset_h: int
    offset_w: int
    step_h: int
    step_w: int


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def taps_of(g: Geometry, pixel: int, out: Array) -> None:
    """out[tap] = the first element of flat x that ``pixel`` sees through each tap, -1 outside of the input."""
    n, i, j = pixel // (g.out_h * g.out_w), pixel // g.out_w % g.out_h, pixel % g.out_w
    for ky in range(g.kernel_h):
        iy = i * g.stride_h - g.pad_top + ky * g.dilation_h
        for kx in range(g.kernel_w):
            ix = j * g.stride_w - g.pad_left + kx * g.dilation_w
            inside = 0 <= iy < g.in_h and 0 <= ix < g.in_w
            out[ky * g.kernel_w + kx] = ((n * g.in_h + iy) * g.in_w + ix) * g.x_pixel if inside else -1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def gather(x: Array, g: Geometry, first: int, rows: int, channel: int, channels: int, fill: Any, out: Array) -> None:
    """out[r] = what pixel ``first + r`` sees: (taps, channels) elements of flat ``x`` from ``channel`` on, ``fill`` outside."""
    taps = np.empty(g.kernel_h * g.kernel_w, np.int64)
    for r in range(rows):
        taps_of(g, first + r, taps)
        for tap in range(taps.size):
            seen = out[
                r, tap * channels : (tap + 1) * channels
            ]  # a slice's indices are known to be positive: the loops vectorise
            if taps[tap] < 0:
                for c in range(channels):
                    seen[c] = fill
            else:
                source = x[taps[tap] + channel : taps[tap] + channel + channels]
                for c in range(channels):
                    seen[c] = source[c]


@njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def pixel_start(t: Target, out_h: int, out_w: int, pixel: int) -> int:
    """First element of ``pixel`` of an (out_h, out_w) grid in the tensor that ``t`` describes."""
    n, i, j = pixel // (out_h * out_w), pixel // out_w % out_h, pixel % out_w
    return ((n * t.h + t.offset_h + i * t.step_h) * t.w + t.offset_w + j * t.step_w) * t.pixel
