"""RNN, GRU and LSTM in NumPy, to the bit as ``EZ_OP_RECURRENT`` (ez_format.h has the formulas)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgezip.kernels import float_functions
from edgezip.kernels import reference as ref

Array = np.ndarray[Any, Any]
F32 = np.float32
Product = Callable[[Array, slice], Array]  # (B, H) by these columns of the weights -> (B, columns), bias added
Activation = tuple[str, float, float]  # a name of ``float_functions`` and its two numbers


@dataclass(frozen=True, slots=True)
class Cell:
    """One direction: its product with the weights, f, g and h, and what bends them."""

    kind: str  # RNN, GRU, LSTM
    product: Product
    activations: tuple[Activation, Activation, Activation]
    clip: float = math.inf
    cell_clip: float = math.inf
    linear_before_reset: bool = False
    input_forget: bool = False
    peephole: Array | None = None  # (3, H): i, o, f


def run(cell: Cell, gates: Array, h: Array, c: Array | None, lengths: Array, reverse: bool) -> tuple[Array, Array, Array | None]:
    """``gates`` (T, B, G * H), the state (B, H), steps of each sequence (B) -> y (T, B, H) and the last state."""
    steps, batch = gates.shape[:2]
    y = np.zeros((steps, batch, h.shape[1]), F32)
    ended = lengths[:, None] == 0  # before it began: zero, as ONNX Runtime has it
    h, c = np.where(ended, F32(0), h), None if c is None else np.where(ended, F32(0), c)
    for number in range(steps):
        active = np.flatnonzero(number < lengths)
        if not active.size:
            break
        times = lengths[active] - 1 - number if reverse else np.full(len(active), number)
        new_h, new_c = _step(cell, gates[times, active], h[active], None if c is None else c[active])
        h = _with_rows(h, active, new_h)
        c = None if c is None or new_c is None else _with_rows(c, active, new_c)
        y[times, active] = new_h
    return y, h, c


def _with_rows(state: Array, rows: Array, values: Array) -> Array:
    state = state.copy()
    state[rows] = values
    return state


def _act(cell: Cell, which: int, x: Array) -> Array:
    """Bounded, then the activation."""
    name, alpha, beta = cell.activations[which]
    if math.isfinite(cell.clip):
        x = ref.clamp(x, -cell.clip, cell.clip)
    return float_functions.apply(name, x, alpha, beta)


def _step(cell: Cell, gates: Array, h: Array, c: Array | None) -> tuple[Array, Array | None]:
    n = h.shape[1]
    with np.errstate(all="ignore"):
        if cell.kind == "RNN":
            return _act(cell, 0, cell.product(h, slice(0, n)) + gates), None
        if cell.kind == "GRU":
            return _gru(cell, gates, h), None
        assert c is not None
        return _lstm(cell, gates, h, c)


def _gru(cell: Cell, gates: Array, h: Array) -> Array:
    n = h.shape[1]
    both = _act(cell, 0, cell.product(h, slice(0, 2 * n)) + gates[:, : 2 * n])
    z, r = both[:, :n], both[:, n:]
    last = slice(2 * n, 3 * n)
    seen = cell.product(h, last) * r if cell.linear_before_reset else cell.product(r * h, last)
    candidate = _act(cell, 1, seen + gates[:, last])
    return np.asarray((F32(1) - z) * candidate + z * h)


def _lstm(cell: Cell, gates: Array, h: Array, c: Array) -> tuple[Array, Array]:
    n = h.shape[1]
    i, o, f, g = np.split(cell.product(h, slice(0, 4 * n)) + gates, 4, axis=1)
    if cell.peephole is not None:
        i, f = i + cell.peephole[0] * c, f + cell.peephole[2] * c
    i = _act(cell, 0, i)
    f = F32(1) - i if cell.input_forget else _act(cell, 0, f)
    c = f * c + i * _act(cell, 1, g)
    if math.isfinite(cell.cell_clip):
        c = ref.clamp(c, -cell.cell_clip, cell.cell_clip)
    if cell.peephole is not None:
        o = o + cell.peephole[1] * c
    o = _act(cell, 0, o)
    name, alpha, beta = cell.activations[2]
    return o * float_functions.apply(name, c, alpha, beta), c
