"""Products of int8 rows with weights in blocks that have scales of their own, in Numba: exact sums, then one fma a block."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from edgezip.kernels.jit_gemm import fma

Array = np.ndarray[Any, Any]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def product(q: Array, values: Array, scales: Array, block: int, total: Array) -> None:
    """total (rows, N) of int8 ``q`` (rows, K) and ``values`` (N, K), float32 ``scales`` (N, blocks)."""
    for n in range(values.shape[0]):
        for r in range(q.shape[0]):
            result = np.float32(0.0)
            for g in range(scales.shape[1]):
                acc = np.int32(0)
                for k in range(g * block, min((g + 1) * block, q.shape[1])):
                    acc += np.int32(q[r, k]) * np.int32(values[n, k])
                result = fma(np.float32(acc), scales[n, g], result)
            total[r, n] = result
