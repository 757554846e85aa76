"""Coefficients of the cost model that fit the latencies of one board: least squares of the logarithms, held near what is known.

Nine rows cannot settle twelve coefficients alone, so each has a prior: issue rates and clock of the profile times a share that
runtimes reach, copy rates that were measured, and a width that says how well that is known (a Gaussian in the logarithm).
Gauss-Newton with Levenberg's damping; the model is piecewise smooth, derivatives are differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from bench.cost_model.networks import costs
from edgezip.cost import LayerCost, predict_us
from edgezip.target import Cost, Reference, Target

Array = np.ndarray[Any, Any]
NOISE = 0.15  # of a published row: runs of the same board differ so much
# What ncnn's float does with dense 3x3 convolutions: Winograd F(4x4, 3x3), whose weights are 36 for 9.
WINOGRAD_WEIGHTS = 4.0
# Share of the peak that runtimes reach, by kind of layer, and how well that is known (standard deviation of the logarithm).
GEMM_F32, GEMM_S8, DEPTHWISE_F32, DEPTHWISE_S8 = (0.6, 0.5), (0.45, 0.5), (0.15, 0.7), (0.08, 0.7)
SQUARE_F32, SQUARE_S8, FIRST = (1.5, 0.4), (0.9, 0.3), (0.4, 0.5)
FROM_MEMORY, ALL_THREADS, FROM_CACHE = (1.0, 0.4), (1.6, 0.3), (4.0, 0.6)  # times the rate of a copy
OVERHEAD_US, TWO_THREADS = (5.0, 0.4), (1.85, 0.15)
DIFFERENCE = 1e-4
ITERATIONS = 30


class Board:
    """A profile with published rows: from coefficients to predictions."""

    def __init__(self, target: Target) -> None:
        cluster = target.big_cluster()
        if cluster is None or cluster.max_mhz is None:
            raise ValueError(f"{target.name}: a profile without clusters and clock gives no prior")
        self.target = target
        self.rows = [row for row in target.reference if row.runtime == "ncnn"]
        self.float_form = next(row.form for row in self.rows if row.form != "int8")
        clock = cluster.max_mhz / 1000
        peak_float = cluster.mac_per_cycle["f16" if self.float_form == "float16" else "f32"]
        peak_int8 = cluster.mac_per_cycle.get("s8", peak_float)
        copy = target.memory.copy_gbs or 6.0
        self.cache_kb = (target.memory.l3_kb or 0) + (cluster.l2_kb or 512)
        scales = (
            *(peak_float * clock, peak_int8 * clock) * 2, 1.0, 1.0, 1.0, copy, copy, copy, 1.0, 1.0,
        )  # fmt: skip
        shares = (
            GEMM_F32, GEMM_S8, DEPTHWISE_F32, DEPTHWISE_S8, SQUARE_F32, SQUARE_S8, FIRST, FROM_MEMORY, ALL_THREADS, FROM_CACHE,
            OVERHEAD_US, TWO_THREADS,
        )  # fmt: skip
        self.prior = np.log([scale * share for scale, (share, _) in zip(scales, shares, strict=True)])
        self.width = np.array([width for _, width in shares])

    def cost(self, logarithms: Array, error: float | None = None, source: str = "fit") -> Cost:
        """The coefficients as a profile has them, not rounded."""
        value = [float(number) for number in np.exp(logarithms)]
        return Cost(
            f32_gmacs=value[0], s8_gmacs=value[1], depthwise_f32_gmacs=value[2], depthwise_s8_gmacs=value[3],
            square_f32=value[4], square_s8=value[5], square_f32_weights=WINOGRAD_WEIGHTS, first_layer=value[6],
            stream_gbs=value[7], stream_all_gbs=value[8], elementwise_gbs=value[9], cache_kb=self.cache_kb,
            overhead_us=value[10], two_threads=min(value[11], 2.5), error=error, source=source,
        )  # fmt: skip

    def fit(self, rows: Sequence[Reference]) -> Array:
        """Logarithms of the coefficients that fit ``rows``."""
        published = np.log([row.ms for row in rows])

        def residuals(logarithms: Array) -> Array:
            priced = _Priced(self.cost(logarithms))
            predicted = np.log([milliseconds(row, priced) for row in rows])
            return np.concatenate([(predicted - published) / NOISE, (logarithms - self.prior) / self.width])

        return _least_squares(residuals, self.prior)


class _Priced:
    """A target of nothing but coefficients."""

    def __init__(self, cost: Cost) -> None:
        self.cost = cost


def milliseconds(row: Reference, target: Any) -> float:
    """Predicted latency of a published row's model, form and threads."""
    return sum(predict_us(layer, target, row.threads) for layer in _layers(row.model, row.form)) / 1e3


@cache
def _layers(model: str, form: str) -> list[LayerCost]:
    return costs(model, form)


def _least_squares(residuals: Callable[[Array], Array], start: Array) -> Array:
    x, damping = start.copy(), 1.0
    now = residuals(x)
    for _ in range(ITERATIONS):
        jacobian = np.stack([(residuals(x + DIFFERENCE * e) - now) / DIFFERENCE for e in np.eye(len(x))], axis=1)
        step = np.linalg.solve(jacobian.T @ jacobian + damping * np.eye(len(x)), -jacobian.T @ now)
        then = residuals(x + step)
        if then @ then < now @ now:
            x, now, damping = x + step, then, damping / 3
        else:
            damping *= 4
        if not math.isfinite(damping) or np.abs(step).max() < 1e-5:
            break
    return x
