"""Rules that turn a histogram into the range to quantise. One function a rule; ``METHODS`` lists them by name.

Each takes a Histogram and gives (low, high). Sources: percentile as in Wu et al., "Integer quantization for deep learning
inference", 2020, section 6.1; entropy: Migacz, "8-bit inference with TensorRT", 2017; MSE: the range of least squared error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgezip.passes.histogram import BINS, Histogram

Array = np.ndarray[Any, Any]
PERCENTILE = 99.99
LEVELS = 255
SHRINKS = np.concatenate([np.linspace(1.0, 0.5, 51), np.linspace(0.48, 0.1, 20)])


def minmax(histogram: Histogram) -> tuple[float, float]:
    """All values that were seen."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, percent: float = PERCENTILE) -> tuple[float, float]:
    """The range that leaves out ``(100 - percent) / 2`` percent at each end."""
    cumulated = np.cumsum(histogram.counts) / max(histogram.counts.sum(), 1)
    tail = (100 - percent) / 200
    width = 2 * histogram.radius / BINS
    low = -histogram.radius + width * int(np.searchsorted(cumulated, tail, "right"))
    high = -histogram.radius + width * (int(np.searchsorted(cumulated, 1 - tail, "left")) + 1)
    return max(low, histogram.low), min(high, histogram.high)


def mse(histogram: Histogram) -> tuple[float, float]:
    """The range whose 255 steps give the least squared error; upper end first, then the lower one."""
    used = np.flatnonzero(histogram.counts)
    values, weights = histogram.centres[used], histogram.counts[used]
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    for _ in range(2):
        high = min((_error(values, weights, low, high * s), high * s) for s in SHRINKS)[1]
        low = min((_error(values, weights, low * s, high), low * s) for s in SHRINKS)[1]
    return low, high


def _error(values: Array, weights: Array, low: float, high: float) -> float:
    if high <= low:
        return float("inf")
    scale = (high - low) / LEVELS
    zero = np.rint(-low / scale)
    steps = np.clip(np.rint(values / scale) + zero, 0, LEVELS)
    return float((((steps - zero) * scale - values) ** 2 * weights).sum())


def entropy(histogram: Histogram) -> tuple[float, float]:
    """The symmetric threshold whose 128 levels lose least information (KL divergence), within what was seen."""
    magnitude = histogram.counts[BINS // 2 :] + histogram.counts[: BINS // 2][::-1]
    magnitude[0] = magnitude[1]  # zeros of a Relu carry no information about the range, and would drown all else
    width = histogram.radius * 2 / BINS
    last = int(np.flatnonzero(magnitude)[-1]) + 1 if magnitude.any() else 1
    best, threshold = np.inf, last
    for bins in range(min(128, last), last + 1, max(1, last // 128)):
        divergence = _divergence(magnitude, bins)
        if divergence < best:
            best, threshold = divergence, bins
    return max(histogram.low, -threshold * width), min(histogram.high, threshold * width)


def _divergence(magnitude: Array, bins: int) -> float:
    """KL divergence of the clipped histogram from its 128-level version."""
    kept = magnitude[:bins].astype(np.float64)
    reference = kept.copy()
    reference[-1] += magnitude[bins:].sum()
    level = np.arange(bins) * 128 // bins
    filled = kept > 0
    totals = np.bincount(level, kept, 128)
    members = np.bincount(level, filled, 128)
    candidate = np.where(filled, totals[level] / np.maximum(members[level], 1), 0)
    if candidate.sum() == 0:
        return float("inf")
    p, q = reference / reference.sum(), candidate / candidate.sum()
    both = (p > 0) & (q > 0)
    return float((p[both] * np.log(p[both] / q[both])).sum() + p[(p > 0) & (q == 0)].sum() * 20)


METHODS: dict[str, Callable[[Histogram], tuple[float, float]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}
