"""Exact int8 and float32 depthwise products in Numba, on vpdpbusd where it works; everything releases the GIL."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from edgezip.kernels import jit_vnni
from edgezip.kernels.jit_gemm import fma
from edgezip.kernels.jit_grid import Geometry, taps_of

Array = np.ndarray[Any, Any]


class VnniDepthwise:
    """``sums(x, geometry, ...)`` of one filter a channel by vpdpbusd; activations are unsigned bytes."""

    signed = False

    def __init__(self, weights: Array, bias: Array) -> None:
        width = self._width = jit_vnni.lanes()
        channels, taps = weights.shape
        self.columns = -(-channels // width) * width
        groups = -(-taps // 4)
        padded = np.zeros((self.columns, groups * 4), np.int8)
        padded[:channels, :taps] = weights
        self._w = np.ascontiguousarray(padded.reshape(-1, width, groups, 4).transpose(0, 2, 1, 3))
        self._bias = np.zeros(self.columns, np.int32)
        self._bias[:channels] = bias

    def __call__(self, x: Array, g: Geometry, first: int, rows: int, fill: int, acc: Array) -> None:
        """acc (rows, columns); ``x`` needs a vector's readable bytes behind its last pixel."""
        outside = np.full(self.columns, fill, np.uint8)
        _vnni_depthwise_loop(self._width)(x, g, first, rows, outside, self._w, self._bias, acc)


class PlainDepthwise:
    """The same in loops over signed bytes."""

    signed = True

    def __init__(self, weights: Array, bias: Array) -> None:
        self.columns = len(weights)
        self._w, self._bias = np.ascontiguousarray(weights.T), np.ascontiguousarray(bias)

    def __call__(self, x: Array, g: Geometry, first: int, rows: int, fill: int, acc: Array) -> None:
        """acc (rows, columns)."""
        outside = np.full(self.columns, fill, np.uint8)
        _plain_depthwise_loop(x.view(np.int8), g, first, rows, outside.view(np.int8), self._w, self._bias, acc)


def depthwise(weights: Array, bias: Array) -> VnniDepthwise | PlainDepthwise:
    """The fastest exact depthwise product here of int8 ``weights`` (channels, taps); ``bias`` as in ``product``."""
    return VnniDepthwise(weights, bias) if jit_vnni.lanes() else PlainDepthwise(weights, bias)


@cache
def _vnni_depthwise_loop(width: int) -> Any:
    tile = jit_vnni.depthwise_tile(width)

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def run(x: Array, g: Geometry, first: int, rows: int, outside: Array, w: Array, bias: Array, acc: Array) -> None:
        groups, taps = w.shape[1], g.kernel_h * g.kernel_w
        starts, seen = np.empty(taps, np.int64), np.empty(4 * groups, np.int64)
        inside, padding = np.int64(x.ctypes.data), np.int64(outside.ctypes.data)
        for r in range(rows):
            taps_of(g, first + r, starts)
            for tap in range(4 * groups):
                at = starts[min(tap, taps - 1)]  # a tap past the end has zero weights
                seen[tap] = padding if at < 0 else inside + at
            for v in range(w.shape[0]):
                at, panel = v * width, w.ctypes.data + v * groups * 4 * width
                sums = acc.ctypes.data + 4 * (r * acc.shape[1] + at)
                tile(seen.ctypes.data, at, panel, bias.ctypes.data + 4 * at, sums, groups)

    return run


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _plain_depthwise_loop(
    x: Array, g: Geometry, first: int, rows: int, outside: Array, w: Array, bias: Array, acc: Array
) -> None:
    channels = w.shape[1]
    starts = np.empty(w.shape[0], np.int64)
    for r in range(rows):
        taps_of(g, first + r, starts)
        for c in range(channels):
            acc[r, c] = bias[c]
        for tap in range(w.shape[0]):
            at = starts[tap]
            seen = outside if at < 0 else x[at : at + channels]
            for c in range(channels):
                acc[r, c] += np.int32(seen[c]) * np.int32(w[tap, c])


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def depthwise_f32(x: Array, g: Geometry, first: int, rows: int, w: Array, bias: Array, acc: Array) -> None:
    """acc (rows, C) of w (taps, C), one fma chain in ascending taps (padding is 0, and is multiplied too); the bias last."""
    channels = w.shape[1]
    starts, zeros = np.empty(w.shape[0], np.int64), np.zeros(channels, np.float32)
    for r in range(rows):
        taps_of(g, first + r, starts)
        for c in range(channels):
            acc[r, c] = np.float32(0.0)
        for tap in range(w.shape[0]):
            at = starts[tap]
            seen = zeros if at < 0 else x[at : at + channels]
            for c in range(channels):
                acc[r, c] = fma(seen[c], w[tap, c], acc[r, c])
        for c in range(channels):
            acc[r, c] = acc[r, c] + bias[c]
