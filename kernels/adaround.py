"""Learned rounding: whether each weight goes down or up, found by gradient descent on the error of the layer's outputs.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", 2020: ``W_q = s (floor(W / s) + h(V))`` with the
stretched sigmoid ``h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)`` and a regulariser ``1 - |2 h - 1|^beta`` that drives h to 0 or 1
while beta falls. The error is ``tr(D H D^T)``, with H the second moment of the inputs: the same as a mean over samples, without
holding any.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgezip.kernels.second_order import Grid, output_error

Array = np.ndarray[Any, Any]
ITERATIONS = 1000
WARM_UP = 0.2  # of the iterations go without the regulariser
BETA = (20.0, 2.0)
REGULARISER = 60.0  # beside an error of 1 a weight for plain rounding; below 10 the soft values never settle (2026-11-24)
RATE = 0.02
DECAY, DECAY_SQUARE, TINY = 0.9, 0.999, 1e-8  # Adam


def adaround(weights: Array, hessian: Array, grid: Grid, *, iterations: int = ITERATIONS) -> Array:
    """Codes (outputs, K) on ``grid``, each the nearest below or above its weight (outputs, K); float64.

    Deterministic. Never worse than rounding to nearest: where learning ends above it, the nearest codes are given back.
    """
    scaled = weights.astype(np.float64) / grid.scale + grid.zero_point
    low = np.clip(np.floor(scaled), grid.low, grid.high)
    low = np.where(scaled < grid.low, grid.low, np.minimum(low, grid.high - 1))
    share = np.clip(scaled - low, 0.01, 0.99)
    plain = grid.codes(weights)
    start = output_error(grid.values(plain) - weights, hessian)
    if start <= 0:
        return plain
    unit = weights.size / start
    learned = _learn(share.astype(np.float32), low - scaled, grid.scale, hessian * unit, iterations)
    codes = low + (learned > 0.5)
    better = output_error(grid.values(codes) - weights, hessian) < start
    return codes if better else plain


def _learn(share: Array, offset: Array, scale: Array, hessian: Array, iterations: int) -> Array:
    """h (outputs, K) after learning; ``offset + h`` in units of ``scale`` is the change of the weights. All in float32."""
    step, moments = np.broadcast_to(np.asarray(scale, np.float32), share.shape), hessian.astype(np.float32)
    base = (offset * step).astype(np.float32)
    logit = -np.log(np.float32(1.2) / (share + np.float32(0.1)) - 1)
    mean, square = np.zeros_like(logit), np.zeros_like(logit)
    for number in range(1, iterations + 1):
        sigmoid = 1 / (1 + np.exp(-logit))
        stretched = np.float32(1.2) * sigmoid - np.float32(0.1)
        soft = np.clip(stretched, 0, 1)
        slope = 2 * ((base + soft * step) @ moments) * step
        slope += _pressure(soft, number / iterations)
        gradient = slope * np.where((stretched > 0) & (stretched < 1), np.float32(1.2) * sigmoid * (1 - sigmoid), 0)
        mean += (1 - DECAY) * (gradient - mean)
        square += (1 - DECAY_SQUARE) * (gradient * gradient - square)
        corrected = np.sqrt(square / (1 - DECAY_SQUARE**number)) + TINY
        logit -= np.float32(RATE / (1 - DECAY**number)) * mean / corrected
    return np.clip(np.float32(1.2) / (1 + np.exp(-logit)) - np.float32(0.1), 0, 1)


def _pressure(soft: Array, progress: float) -> Array:
    """Derivative of the regulariser."""
    if progress < WARM_UP:
        return np.zeros_like(soft)
    fall = (progress - WARM_UP) / (1 - WARM_UP)
    beta = BETA[1] + 0.5 * (BETA[0] - BETA[1]) * (1 + np.cos(np.pi * fall))
    centred = 2 * soft - 1
    return np.asarray(-REGULARISER * 2 * beta * np.sign(centred) * np.abs(centred) ** np.float32(beta - 1), np.float32)
