"""Weights rounded to int8 rows with the scale of least squared error, within what the accumulator holds (EZ-N1 rules 1 and 3)."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BIAS_LIMIT = 2.0**30
SUM_LIMIT = 2**30  # of sum |w| * 255: with the bias it stays below 2^31
SHRINKS = np.linspace(1.0, 0.72, 15)


def quantize_weights(weights: Array, axis: int | None, bias: Array | None = None, sx: float = 1.0) -> tuple[Array, Array]:
    """int8 weights in [-127, 127] and float32 scales (outputs,), or (1,) when ``axis`` is None.

    Each scale is the one of least squared error among shrunken ranges, but never so small that ``|bias / (sx * scale)|`` passes
    2^30, nor that ``sum |w| * 255`` does: no input can leave the int32 accumulator.
    """
    rows = weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    rows = rows.astype(np.float64)
    top = np.abs(rows).max(axis=1)
    floor = np.full(len(rows), 1e-30)
    if bias is not None and (bias.size == len(rows) or len(rows) == 1):
        largest = np.abs(bias.astype(np.float64).reshape(-1))
        floor = np.maximum(floor, (largest if largest.size == len(rows) else largest.max(keepdims=True)) / (sx * BIAS_LIMIT))
    scale = np.maximum(_best_scale(rows, np.where(top > 0, top / 127, 1.0)), floor).astype(np.float32)
    stored, scale = _within_accumulator(rows, scale)
    if axis is None:
        return stored.reshape(weights.shape), scale
    moved = np.moveaxis(weights, axis, 0).shape
    return np.ascontiguousarray(np.moveaxis(stored.reshape(moved), 0, axis)), scale


def _within_accumulator(rows: Array, scale: Array) -> tuple[Array, Array]:
    """int8 rows and their scales, coarser for rows so long that their sum could overflow (more than 33 000 weights)."""
    while True:
        stored = np.clip(np.rint(rows / scale[:, None].astype(np.float64)), -127, 127).astype(np.int8)
        over = np.abs(stored.astype(np.int64)).sum(axis=1) * 255 > SUM_LIMIT
        if not over.any():
            return stored, scale
        scale = np.where(over, scale * np.float32(1.25), scale)


def _best_scale(rows: Array, full: Array) -> Array:
    best, least = full.copy(), np.full(len(rows), np.inf)
    for shrink in SHRINKS:
        scale = full * shrink
        rounded = np.clip(np.rint(rows / scale[:, None]), -127, 127) * scale[:, None]
        error = ((rounded - rows) ** 2).sum(axis=1)
        better = error < least
        best, least = np.where(better, scale, best), np.where(better, error, least)
    return best
