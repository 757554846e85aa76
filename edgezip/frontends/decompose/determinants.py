"""Determinants by elimination with row pivots, one column after another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgezip.frontends.decompose.emitter import Emitter, decomposes
from edgezip.frontends.decompose.reductions import counting

if TYPE_CHECKING:
    from edgezip.graph import Value

LARGEST = 64  # rows: each takes some twenty nodes


@decomposes("Det")
def determinant(emit: Emitter) -> bool:
    """The product of the pivots, its sign turned by every exchange of rows."""
    size = emit.shape[-1]
    if size > LARGEST or emit.shape[-2] != size:
        return False
    count = math.prod(emit.shape[:-2])
    matrix = emit.reshape(emit.x, (count, size, size))
    factors = []
    for left in range(size, 1, -1):
        factor, matrix = _eliminated(emit, matrix, count, left)
        factors.append(factor)
    made = emit.reshape(matrix, (count, 1))
    for factor in reversed(factors):
        made = emit("Mul", factor, made)
    return emit.finish(emit.reshape(made, emit.result))


def _eliminated(emit: Emitter, matrix: Value, count: int, size: int) -> tuple[Value, Value]:
    """The signed pivot of the first column, (count, 1), and the matrices that are left, one row and column smaller."""
    column = _part(emit, matrix, 2, 0, 1)
    largest = emit("ArgMax", emit("Abs", column), axis=1, keepdims=1)  # (count, 1, 1)
    row = emit("GatherElements", matrix, emit("Expand", largest, np.asarray([count, 1, size], np.int64)), axis=1)
    is_pivot = emit("Equal", largest, counting((1, size, 1), 1))
    exchanged = _part(emit, emit("Where", is_pivot, _part(emit, matrix, 1, 0, 1), matrix), 1, 1, size)
    pivot, rest = _part(emit, row, 2, 0, 1), _part(emit, row, 2, 1, size)
    nothing = emit("Equal", pivot, emit.number(0))  # then the whole column is zero, and so is every factor
    factor = emit("Div", _part(emit, exchanged, 2, 0, 1), emit("Where", nothing, emit.number(1), pivot))
    left = emit("Sub", _part(emit, exchanged, 2, 1, size), emit("Mul", factor, rest))
    stays = emit("Equal", largest, np.zeros((1, 1, 1), np.int64))
    signed = emit("Where", stays, pivot, emit("Neg", pivot))
    return emit.reshape(signed, (count, 1)), left


def _part(emit: Emitter, x: Value, axis: int, start: int, end: int) -> Value:
    return emit("Slice", x, *(np.asarray([number], np.int64) for number in (start, end, axis)))
