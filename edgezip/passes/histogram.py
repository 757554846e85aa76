"""What calibration remembers of a tensor: one histogram of fixed size, whatever the number of samples.

Bins cover [-R, R] with R a power of two. A value outside doubles R, and neighbouring bins merge in pairs; since widths are powers
of two this is exact, so the result does not depend on how samples were cut into batches. Memory: 32 kB a tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgezip.errors import CalibrationError
from edgezip.kernels import jit_histogram

Array = np.ndarray[Any, Any]
BINS = 4096


class Histogram:
    """Counts of one tensor's values, its exact extremes, and the mean of each channel (axis 1)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = np.zeros(BINS, np.int64)
        self.radius = 2.0**-20
        self.low, self.high = np.inf, -np.inf
        self._channel_sum: Array | float = 0.0
        self._channel_count = 0

    def add(self, values: Array, sample: str = "") -> None:
        """Count ``values`` (any shape, float). Raises CalibrationError on NaN or infinity."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CalibrationError(
                "calibration reached a value that is not finite",
                where=f"tensor '{self.name}'{f', {sample}' if sample else ''}",
                expected="finite numbers",
                got=str(low if not np.isfinite(low) else high),
                hint="check the input data and its scaling",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(abs(low), abs(high)))
        jit_histogram.count(np.ascontiguousarray(values).reshape(-1), self.counts, BINS / (2 * self.radius))
        if values.ndim >= 2:
            axes = tuple(a for a in range(values.ndim) if a != 1)
            self._channel_sum = self._channel_sum + values.sum(axis=axes, dtype=np.float64)
            self._channel_count += values.size // values.shape[1]

    def _widen(self, largest: float) -> None:
        while largest >= self.radius:  # the bins are half open: R itself would not fit
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = merged
            self.radius *= 2

    def within(self, low: float, high: float) -> Histogram:
        """The histogram of the values clipped to [low, high]; channel means are not kept."""
        clipped = Histogram(self.name)
        clipped.radius = self.radius
        clipped.low, clipped.high = (min(max(end, low), high) for end in (self.low, self.high))
        width = 2 * self.radius / BINS
        first, last = (int(np.floor(end / width)) + BINS // 2 for end in (clipped.low, clipped.high))
        bins = np.clip(np.arange(BINS), first, last)
        clipped.counts = np.bincount(bins, self.counts, BINS).astype(np.int64)
        return clipped

    @property
    def centres(self) -> Array:
        """Middle of each bin, float64."""
        return (np.arange(BINS) + 0.5) * (2 * self.radius / BINS) - self.radius

    @property
    def channel_mean(self) -> Array | None:
        """float64 mean along axis 1, or None for tensors of rank below 2."""
        return np.asarray(self._channel_sum / self._channel_count) if self._channel_count else None
