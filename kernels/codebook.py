"""Shared values: the best codebook of a given size for one-dimensional data, exactly.

Sorted points and k centres form k runs, so dynamic programming over the ends of the runs finds the optimum that Lloyd's iteration
only approaches (Wu, "Optimal quantization by matrix searching", 1991; here by divide and conquer over monotone split points). The
points are first merged into distinct values: weights in the s8 domain have at most 255.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from edgezip.kernels.second_order import Layout

Array = np.ndarray[Any, Any]


def kmeans(values: Array, count: int, weights: Array | None = None) -> Array:
    """The ``count`` centres (float64, ascending) of least weighted squared error; fewer when there are fewer distinct values.

    values: any shape, finite. weights: the same shape, not negative (the diagonal of a Hessian); None: all alike.
    """
    points, mass = _merged(values, weights)
    if len(points) <= count:
        return points
    ends = _best_runs(points, mass, count, whole=False)
    return np.array([_centre(points[a:b], mass[a:b]) for a, b in itertools.pairwise(ends)])


def kmeans_s8(values: Array, count: int, weights: Array | None = None) -> Array:
    """The best ``count`` centres that are whole numbers in [-127, 127], int8; ``values`` are int8 codes.

    Exact too: runs are cut for the whole number nearest to the mean of each, which is the best that it can have.
    """
    points, mass = _merged(values, weights)
    if len(points) > count:
        ends = _best_runs(points, mass, count, whole=True)
        points = np.array([_centre(points[a:b], mass[a:b]) for a, b in itertools.pairwise(ends)])
    return np.unique(np.clip(np.rint(points), -127, 127)).astype(np.int8)


def _merged(values: Array, weights: Array | None) -> tuple[Array, Array]:
    """Distinct values, ascending, and what each weighs; all alike where nothing weighs anything."""
    points, at = np.unique(np.asarray(values, np.float64).reshape(-1), return_inverse=True)
    importance = np.ones(at.size) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    mass = np.bincount(at.reshape(-1), importance, len(points))
    return points, mass if mass.any() else np.bincount(at.reshape(-1), minlength=len(points)).astype(np.float64)


def nearest(values: Array, centres: Array) -> Array:
    """Index of the nearest of ascending ``centres`` for each value; a tie goes to the lower."""
    middles = (centres[:-1].astype(np.float64) + centres[1:]) / 2
    return np.searchsorted(middles, np.asarray(values, np.float64), side="left")


def _centre(points: Array, mass: Array) -> float:
    return float((points * mass).sum() / mass.sum()) if mass.any() else float(points.mean())


def _best_runs(points: Array, mass: Array, count: int, *, whole: bool) -> Array:
    """Ends (count + 1) of the runs of sorted ``points`` of least weighted squared error, from centres that are ``whole`` numbers
    or from the means."""
    zero = np.zeros(1)
    m0 = np.concatenate([zero, np.cumsum(mass)])
    m1 = np.concatenate([zero, np.cumsum(mass * points)])
    m2 = np.concatenate([zero, np.cumsum(mass * points * points)])
    choice = (_whole_table if whole else _table)(m0, m1, m2, count)
    ends = np.empty(count + 1, np.int64)
    ends[count] = len(points)
    for k in range(count, 0, -1):
        ends[k - 1] = choice[k - 1, ends[k]]
    return ends


@njit(cache=True)  # type: ignore[untyped-decorator]
def _table(m0: Array, m1: Array, m2: Array, count: int) -> Array:
    """choice[k, n]: where the last of k + 1 runs over the first n points begins."""
    size = len(m0)
    before = np.full(size, np.inf)
    before[0] = 0.0
    choice = np.zeros((count, size), np.int64)
    low, high, left, right = np.empty(128, np.int64), np.empty(128, np.int64), np.empty(128, np.int64), np.empty(128, np.int64)
    for k in range(count):
        now = np.full(size, np.inf)
        top = 0
        low[0], high[0], left[0], right[0] = k + 1, size - 1, k, size - 2
        top = 1
        while top > 0:  # middle of [low, high] splits in [left, right]; split points grow with n
            top -= 1
            a, b, first, last = low[top], high[top], left[top], right[top]
            if a > b:
                continue
            n = (a + b) // 2
            best, where = np.inf, first
            for s in range(first, min(last, n - 1) + 1):
                w = m0[n] - m0[s]
                part = m1[n] - m1[s]
                spread = m2[n] - m2[s] - (part * part / w if w > 0 else 0.0)
                cost = before[s] + max(spread, 0.0)
                if cost < best:
                    best, where = cost, s
            now[n], choice[k, n] = best, where
            low[top], high[top], left[top], right[top] = a, n - 1, first, where
            low[top + 1], high[top + 1], left[top + 1], right[top + 1] = n + 1, b, where, last
            top += 2
        before = now
    return choice


@njit(cache=True)  # type: ignore[untyped-decorator]
def _whole_table(m0: Array, m1: Array, m2: Array, count: int) -> Array:
    """``_table`` for centres that are whole numbers: their split points need not grow with n, so all are tried."""
    size = len(m0)
    before = np.full(size, np.inf)
    before[0] = 0.0
    choice = np.zeros((count, size), np.int64)
    for k in range(count):
        now = np.full(size, np.inf)
        for n in range(k + 1, size):
            for s in range(k, n):
                w = m0[n] - m0[s]
                part = m1[n] - m1[s]
                centre = np.rint(part / w) if w > 0 else 0.0
                cost = before[s] + (max(m2[n] - m2[s] - centre * (2 * part - centre * w), 0.0) if w > 0 else 0.0)
                if cost < now[n]:
                    now[n], choice[k, n] = cost, s
        before = now
    return choice


@dataclass(frozen=True, slots=True)
class Table:
    """Where clustered weights may lie: ``scale * centres[code]``, a grid for ``second_order.gptq`` and ``descend``.

    ``centres``: ascending, (count,). ``scale``: (outputs, 1).
    """

    centres: Array
    scale: Array

    def codes(self, weights: Array) -> Array:
        """Index of the nearest entry for each weight (outputs, K)."""
        return nearest(weights / self.scale, self.centres)

    def values(self, codes: Array) -> Array:
        """What the codes stand for, float64."""
        return np.asarray(self.centres.astype(np.float64)[codes.astype(np.int64)] * self.scale)

    def laid_out(self, shape: tuple[int, int]) -> Layout:
        """For ``jit_rounding``."""
        scale = np.ascontiguousarray(np.broadcast_to(self.scale.astype(np.float64), shape))
        return Layout(scale, np.zeros(shape), 0, len(self.centres) - 1, self.centres.astype(np.float64))


# Dettmers et al., "QLoRA", 2023, appendix E: quantiles of a normal distribution, here on the scale of int8.
NF4: Array = np.rint(
    127
    * np.array(
        [-1.0, -0.69619280, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
         0.07958030, 0.16093020, 0.24611230, 0.33791524, 0.44070983, 0.56261700, 0.72295684, 1.0]
    )
).astype(np.int8)  # fmt: skip


def powers_of_two(count: int) -> Array:
    """int8 table of at most ``count`` entries: 0, and 64, 32, 16 ... with both signs."""
    sizes = [64 >> i for i in range(7)][: max((count - 1) // 2, 1)]
    return np.array(sorted([-s for s in sizes] + [0] + sizes), np.int8)
