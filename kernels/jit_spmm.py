"""Exact int8 products of gathered rows with block-sparse weights, in Numba: groups that are not there cost nothing.

The sums are those of ``jit_gemm`` with zeros multiplied out, whatever the pattern. Everything releases the GIL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from edgezip.kernels.sparse_blocks import Blocks

Array = np.ndarray[Any, Any]
PANEL = 16


class BlocksProduct:
    """``sums(rows, acc)`` of rows of signed bytes, k in the order of the packed weights but without padding between spans."""

    signed = True

    def __init__(self, blocks: Blocks, span: int, bias: Array) -> None:
        """``span``: k of a span; ``bias`` int32 (outputs), folded for signed bytes."""
        step = blocks.values.shape[1] // PANEL
        index, steps = blocks.index.astype(np.int64), -(-span // step)
        self.columns = (len(blocks.starts) - 1) * PANEL
        self.k = blocks.steps // steps * span
        self._starts, self._at = blocks.starts.astype(np.int64), index // steps * span + index % steps * step
        self._length = np.minimum(step, span - index % steps * step)  # the last group of a span may be short
        values = blocks.values.view(np.int8).reshape(-1, PANEL, step)
        self._w = np.ascontiguousarray(values.transpose(0, 2, 1)).astype(np.int16)
        self._bias = np.zeros(self.columns, np.int32)
        self._bias[: len(bias)] = bias

    def __call__(self, seen: Array, rows: int, acc: Array) -> None:
        """acc (rows, columns) of ``seen`` (rows, k)."""
        _loop(seen.view(np.int8), rows, self._starts, self._at, self._length, self._w, self._bias, acc)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _loop(seen: Array, rows: int, starts: Array, at: Array, length: Array, w: Array, bias: Array, acc: Array) -> None:
    for p in range(len(starts) - 1):
        for r in range(rows):
            sums = bias[16 * p : 16 * p + 16].copy()
            for i in range(starts[p], starts[p + 1]):
                for c in range(length[i]):
                    x = np.int32(seen[r, at[i] + c])
                    for n in range(16):
                        sums[n] += x * np.int32(w[i, c, n])
            acc[r, 16 * p : 16 * p + 16] = sums
