"""Learned rounding: whether each weight goes down or up, found by gradient descent on the error of the layer's outputs.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020: ``W_q = s (floor(W / s) + h(V))`` with the
stretched sigmoid ``h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)`` and a regulariser ``1 - |2 h - 1|^beta`` that drives h to 0 or 1
while beta falls. The error is ``tr(D H D^T)``, with H the second moment of the inputs: the same as a mean over samples, without
holding any.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from edgezip.kernels.second_order import Grid

Array = np.ndarray[Any, Any]
ITERATIONS = 1000
WARM_UP = 0.2  # of the iterations go without the regulariser
BETA = (20.0, 2.0)
REGULARISER = 60.0  # beside an error of 1 a weight for plain rounding; below 10 the soft values never settle (2026-11-24)
RATE = 0.02
DECAY, DECAY_SQUARE, TINY = 0.9, 0.999, 1e-8  # Adam


def adaround(weights: Array, hessian: Array, grid: Grid, *, iterations: int = ITERATIONS) -> Array:
    """Codes (outputs, K) on ``grid``, each the nearest below or above its weight (outputs, K); float64.

    Deterministic. Never worse than rounding to nearest: rows where learning ends above it get their nearest codes back.
    """
    scale, zero = (np.broadcast_to(np.atleast_2d(held), weights.shape) for held in (grid.scale, grid.zero_point))
    return adaround_groups(weights[None], hessian[None], scale[None], zero[None], (grid.low, grid.high), iterations)[0]


def adaround_groups(
    weights: Array, hessians: Array, scale: Array, zero: Array, bounds: tuple[int, int], iterations: int = ITERATIONS
) -> Array:
    """``adaround`` of many layers (groups, outputs, K) at once, each with its own moments (groups, K, K).

    ``scale`` and ``zero``: (groups, outputs, K); ``bounds``: the least and greatest code.
    """
    scaled = weights.astype(np.float64) / scale + zero
    low = np.clip(np.floor(scaled), bounds[0], bounds[1] - 1)
    plain = np.clip(np.rint(weights / scale) + zero, *bounds)
    start = _row_errors((plain - scaled) * scale, hessians)
    whole = start.sum(axis=1)
    unit = np.where(whole > 0, weights[0].size / np.where(whole > 0, whole, 1.0), 0.0)
    share = np.clip(scaled - low, 0.01, 0.99)
    learned = _learn(share.astype(np.float32), (low - scaled) * scale, scale, hessians, unit, iterations)
    codes = low + (learned > 0.5)
    better = _row_errors((codes - scaled) * scale, hessians) < start
    return np.where(better[..., None], codes, plain)


def _row_errors(change: Array, hessians: Array) -> Array:
    """(groups, outputs)."""
    return np.einsum("goj,goj->go", change @ hessians, change)


def _learn(share: Array, base: Array, scale: Array, hessians: Array, unit: Array, iterations: int) -> Array:
    """h (groups, outputs, K) after learning; ``base + h scale`` is the change of the weights. All in float32."""
    typical = scale.mean(axis=(1, 2), keepdims=True)  # numbers near 1 instead of moments that float32 may not hold
    moments = (hessians * unit[:, None, None] * typical**2).astype(np.float32)
    step = np.ascontiguousarray(scale / typical, np.float32)
    base = (base / typical).astype(np.float32)
    logit = -np.log(np.float32(1.2) / (share + np.float32(0.1)) - 1)
    soft, change = share.copy(), base + share * step
    mean, square = np.zeros_like(logit), np.zeros_like(logit)
    for number in range(1, iterations + 1):
        pull = np.matmul(change, moments)
        rate = np.float32(RATE / (1 - DECAY**number))
        bias = np.float32(1 / (1 - DECAY_SQUARE**number))
        flat = (logit, mean, square, soft, change, pull, base, step)
        _advance(*(held.reshape(-1) for held in flat), rate, bias, np.float32(_beta(number / iterations)))
    return soft


def _beta(progress: float) -> float:
    """The exponent of the regulariser, 0 as long as there is none."""
    if progress < WARM_UP:
        return 0.0
    fall = (progress - WARM_UP) / (1 - WARM_UP)
    return float(BETA[1] + 0.5 * (BETA[0] - BETA[1]) * (1 + np.cos(np.pi * fall)))


@njit(cache=True)  # type: ignore[untyped-decorator]
def _advance(
    logit: Array, mean: Array, square: Array, soft: Array, change: Array, pull: Array, base: Array, step: Array,
    rate: Any, bias: Any, beta: Any,
) -> None:  # fmt: skip
    """One step of Adam for every weight, and the change of weights that it leads to; all float32, edited in place."""
    one, stretch, under = np.float32(1.0), np.float32(1.2), np.float32(0.1)
    keep, keep_square = np.float32(DECAY), np.float32(DECAY_SQUARE)
    for i in range(logit.size):
        h = soft[i]
        gradient = np.float32(0.0)
        if h > 0.0 and h < one:
            slope = np.float32(2.0) * pull[i] * step[i]
            if beta > 0.0:
                centred = np.float32(2.0) * h - one
                size = abs(centred)
                push = np.float32(REGULARISER) * np.float32(2.0) * beta * size ** (beta - one)
                slope -= push if centred > 0.0 else -push
            sigmoid = (h + under) / stretch
            gradient = slope * stretch * sigmoid * (one - sigmoid)
        mean[i] += (one - keep) * (gradient - mean[i])
        square[i] += (one - keep_square) * (gradient * gradient - square[i])
        logit[i] -= rate * mean[i] / (np.sqrt(square[i] * bias) + np.float32(TINY))
        h = stretch / (one + np.exp(-logit[i])) - under
        h = min(max(h, np.float32(0.0)), one)
        soft[i] = h
        change[i] = base[i] + h * step[i]
