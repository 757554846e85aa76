"""Rounding row after row in compiled loops: error feedback and coordinate descent, as ``second_order`` describes them.

A row's weights go through both alone, so a row is the unit of work; float64 throughout. Points to round to are an even grid
(``scale``, ``zero`` (outputs, K), codes from ``low`` to ``high``) or, where ``centres`` is not empty, ``scale * centres[code]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]


@njit(cache=True, inline="always")  # type: ignore[untyped-decorator]
def _nearest(weight: float, scale: float, zero: float, low: int, high: int, centres: Array) -> int:
    """The code; halves to even on a grid, to the lower entry in a table."""
    if centres.size == 0:
        return int(min(max(np.rint(weight / scale) + zero, low), high))
    first, last = 0, centres.size - 1
    while first < last:
        middle = (first + last) // 2
        if (centres[middle] + centres[middle + 1]) / 2 < weight / scale:
            first = middle + 1
        else:
            last = middle
    return first


@njit(cache=True, inline="always")  # type: ignore[untyped-decorator]
def _value(code: int, scale: float, zero: float, centres: Array) -> float:
    return (code - zero) * scale if centres.size == 0 else centres[code] * scale


@njit(cache=True)  # type: ignore[untyped-decorator]
def feed_back(
    weights: Array, factor: Array, scale: Array, zero: Array, low: int, high: int, centres: Array, codes: Array
) -> None:
    """``codes`` (outputs, K) of ``weights``, each column's error pushed onto those to come by ``factor`` (K, K), upper.

    ``weights`` are used up.
    """
    rows, columns = weights.shape
    for i in range(rows):
        held = weights[i]
        for j in range(columns):
            code = _nearest(held[j], scale[i, j], zero[i, j], low, high, centres)
            codes[i, j] = code
            error = (held[j] - _value(code, scale[i, j], zero[i, j], centres)) / factor[j, j]
            line = factor[j]
            for k in range(j + 1, columns):
                held[k] -= error * line[k]


@njit(cache=True)  # type: ignore[untyped-decorator]
def go_down(
    second: Array, pull: Array, scale: Array, zero: Array, low: int, high: int, centres: Array, codes: Array, sweeps: int
) -> None:
    """Moves ``codes`` (outputs, K) along one column after another to the least error, until nothing moves. Edits ``pull`` too.

    ``pull`` = change of the weights @ ``second``, with ``second`` (K, K) of positive diagonal.
    """
    rows, columns = codes.shape
    for i in range(rows):
        slope = pull[i]
        for _ in range(sweeps):
            moved = False
            for j in range(columns):
                s, z = scale[i, j], zero[i, j]
                now = _value(codes[i, j], s, z, centres)
                code = _nearest(now - slope[j] / second[j, j], s, z, low, high, centres)
                if code != codes[i, j]:
                    step = _value(code, s, z, centres) - now
                    if step != 0.0:
                        moved = True
                        codes[i, j] = code
                        line = second[j]
                        for k in range(columns):
                            slope[k] += step * line[k]
            if not moved:
                break
