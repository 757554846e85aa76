"""Exact int8 and float32 products of gathered rows with a weight matrix, in Numba.

int8 runs on vpdpbusd where ``jit_vnni.lanes()`` says so, elsewhere on signed bytes in loops that LLVM vectorises. float32 is one
fma chain in ascending k (rule 9). Everything releases the GIL.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from edgezip.kernels import jit_vnni

Array = np.ndarray[Any, Any]
TILE_ROWS = 6


class VnniProduct:
    """``sums(rows, acc)`` by vpdpbusd; activations are unsigned bytes."""

    signed = False

    def __init__(self, weights: Array, bias: Array) -> None:
        self._width = jit_vnni.lanes()
        self.columns = -(-len(weights) // self._width) * self._width
        self.k = -(-weights.shape[1] // 4) * 4
        padded = np.zeros((self.columns, self.k), np.int8)
        padded[: len(weights), : weights.shape[1]] = weights
        self._w = np.ascontiguousarray(padded.reshape(-1, self._width, self.k // 4, 4).transpose(0, 2, 1, 3))
        self._bias = np.zeros(self.columns, np.int32)
        self._bias[: len(bias)] = bias

    def __call__(self, seen: Array, rows: int, acc: Array) -> None:
        """acc (rows, columns) of ``seen`` (rows, k)."""
        _vnni_loop(self._width)(seen, rows, self._w, self._bias, acc)


class PlainProduct:
    """The same in loops; activations are signed bytes, so that LLVM may use the dot products of ARM too."""

    signed = True

    def __init__(self, weights: Array, bias: Array) -> None:
        self.columns, self.k = weights.shape
        self._w, self._bias = np.ascontiguousarray(weights), np.ascontiguousarray(bias)

    def __call__(self, seen: Array, rows: int, acc: Array) -> None:
        """acc (rows, columns) of ``seen`` (rows, k)."""
        _plain_loop(seen.view(np.int8), rows, self._w, self._bias, acc)


def product(weights: Array, bias: Array) -> VnniProduct | PlainProduct:
    """The fastest exact product here of int8 ``weights`` (outputs, k); ``bias`` int32 (outputs), folded for its ``signed``."""
    return VnniProduct(weights, bias) if jit_vnni.lanes() else PlainProduct(weights, bias)


@cache
def _vnni_loop(width: int) -> Any:
    vectors = 4 if width == 16 else 2  # 24 sums of 32 registers, 12 of 16
    block, line = jit_vnni.product_tile(width, TILE_ROWS, vectors), jit_vnni.product_tile(width, 1, vectors)
    narrow, dot = jit_vnni.product_tile(width, TILE_ROWS, 1), jit_vnni.product_tile(width, 1, 1)

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def run(seen: Array, rows: int, w: Array, bias: Array, acc: Array) -> None:
        k4, a_step, acc_step, w_step = w.shape[1], seen.shape[1], acc.shape[1], w.shape[1] * 4 * width
        v = 0
        while v < w.shape[0]:
            wide = w.shape[0] - v >= vectors
            panel, first = w.ctypes.data + v * w_step, bias.ctypes.data + 4 * v * width
            r = 0
            while r < rows:
                a, to = seen.ctypes.data + r * a_step, acc.ctypes.data + 4 * (r * acc_step + v * width)
                if rows - r >= TILE_ROWS:
                    if wide:
                        block(a, panel, first, to, a_step, w_step, k4, acc_step)
                    else:
                        narrow(a, panel, first, to, a_step, w_step, k4, acc_step)
                    r += TILE_ROWS
                else:
                    if wide:
                        line(a, panel, first, to, a_step, w_step, k4, acc_step)
                    else:
                        dot(a, panel, first, to, a_step, w_step, k4, acc_step)
                    r += 1
            v += vectors if wide else 1

    return run


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _plain_loop(seen: Array, rows: int, w: Array, bias: Array, acc: Array) -> None:
    for n in range(w.shape[0]):
        for r in range(rows):
            total = np.int32(0)
            for k in range(w.shape[1]):
                total += np.int32(seen[r, k]) * np.int32(w[n, k])
            acc[r, n] = total + bias[n]


@intrinsic  # type: ignore[untyped-decorator]
def fma(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """float32 ``a * b + c`` rounded once, in compiled code."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, args: list[ir.Value]) -> ir.Value:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def product_f32(seen: Array, rows: int, w: Array, bias: Array, acc: Array) -> None:
    """acc (rows, N) = seen (rows, K) by w (K, N), one fma chain in ascending k; the bias is added last."""
    outputs = w.shape[1]
    for n0 in range(0, outputs, 64):  # 64 sums stay in registers or the first cache lines
        n1 = min(n0 + 64, outputs)
        for r in range(rows):
            for n in range(n0, n1):
                acc[r, n] = np.float32(0.0)
            for k in range(w.shape[0]):
                a = seen[r, k]
                for n in range(n0, n1):
                    acc[r, n] = fma(a, w[k, n], acc[r, n])
            for n in range(n0, n1):
                acc[r, n] = acc[r, n] + bias[n]
