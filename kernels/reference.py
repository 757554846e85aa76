"""EZ-N1 in NumPy: what every kernel computes, to the bit. Slow and plain on purpose.

Activations are logical int8 arrays, channels last. Integer sums are exact: they are formed in float64, where every sum of
8-bit products below 2^53 is an integer without rounding, which lets BLAS do the work. Rule numbers are those of EZ-N1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgezip.kernels import float_functions
from edgezip.kernels.float_functions import fma

Array = np.ndarray[Any, Any]
F32 = np.float32


# --- rules 4 and 6: from float to int8 ---------------------------------------------------------------------------------


def clamp(t: Array, lo: float, hi: float) -> Array:
    """``t`` limited to [lo, hi]; NaN gives ``lo`` (the order of maxps, minps)."""
    t = np.where(t > F32(lo), t, F32(lo))
    return np.where(t < F32(hi), t, F32(hi))


def to_int8(t: Array, lo: int, hi: int, zero_point: int) -> Array:
    """float32 ``t`` in steps of the output scale -> int8: ``rne(clamp(t, lo - zero, hi - zero)) + zero``."""
    t = clamp(t.astype(F32, copy=False), lo - zero_point, hi - zero_point)
    return (np.rint(t).astype(np.int32) + zero_point).astype(np.int8)


def centred(x: Array, zero_point: int) -> Array:
    """int8 ``x`` as float32 steps from its zero point."""
    return (x.astype(np.int32) - zero_point).astype(F32)


def requantize_accumulator(acc: Array, mult: Array, lo: int, hi: int, zero_point: int) -> Array:
    """int32 sums and float32 per-channel multipliers -> int8 (rule 4)."""
    return to_int8(acc.astype(np.int32).astype(F32) * mult.astype(F32), lo, hi, zero_point)


def quantize(x: Array, scale: float, zero_point: int, lo: int = -128, hi: int = 127) -> Array:
    """float32 -> int8 by float32 division."""
    with np.errstate(all="ignore"):
        return to_int8(x.astype(F32, copy=False) / F32(scale), lo, hi, zero_point)


def dequantize(x: Array, scale: float, zero_point: int) -> Array:
    """int8 -> float32."""
    return centred(x, zero_point) * F32(scale)


def requantize(x: Array, multiplier: float, zx: int, zy: int, lo: int = -128, hi: int = 127) -> Array:
    """int8 at one scale -> int8 at another; ``multiplier`` = sx/sy."""
    return to_int8(centred(x, zx) * F32(multiplier), lo, hi, zy)


def quantize_rows(x: Array) -> tuple[Array, Array]:
    """Rule 8: int8 rows of float32 ``x`` (..., K) in [-127, 127], and each row's scale ``max|x| / 127`` (1 where that is 0)."""
    with np.errstate(all="ignore"):
        unit = np.where(np.isnan(x), F32(0), np.abs(x)).max(-1) / F32(127.0)
        scale = np.where(unit > 0, unit, F32(1.0)).astype(F32)
        return to_int8(x / scale[..., None], -127, 127, 0), scale


def scale_accumulator(acc: Array, row_scale: Array, mult: Array, addend: Array) -> Array:
    """Sums (rows, N), whole or float32 -> float32: ``(f32(acc) * row_scale) * mult + addend``, each step rounded on its own."""
    with np.errstate(all="ignore"):
        return np.asarray((acc.astype(F32) * row_scale.astype(F32)[..., None]) * mult + addend, F32)


# --- packed weights ------------------------------------------------------------------------------------------------------


def spans(kernel: tuple[int, int], dilation_w: int, groups: int, channels: int) -> tuple[int, int]:
    """How packed int8 weights cut K: (spans, elements of a span); each span is padded to the k step on its own.

    ``channels`` of one group. A row of the kernel is one span where NHWC memory holds nothing between its taps.
    """
    if groups == 1 and dilation_w == 1:
        return kernel[0], kernel[1] * channels
    return kernel[0] * kernel[1], channels


def unpack_gemm_s8(packed: Array, step: int, outputs: int, count: int, elements: int) -> Array:
    """Packed (N/16, K/step, 16, step) bytes of one group -> int8 (outputs, spans, elements); ``step`` is 4 or 8."""
    padded = -(-elements // step) * step
    panels = -(-outputs // 16)
    w = packed.view(np.int8).reshape(panels, count * padded // step, 16, step)
    return w.transpose(0, 2, 1, 3).reshape(panels * 16, count, padded)[:outputs, :, :elements]


def unpack_depthwise_s8(packed: Array, step: int, kernel: tuple[int, int], channels: int) -> Array:
    """Packed depthwise bytes of a (height, width) kernel -> int8 (channels, taps).

    Step 4 is (C/16, ceil(height/4), width, 16, 4), for height 1 (C/16, ceil(width/4), 16, 4); step 8 is (C/16, taps, 16).
    """
    panels, taps = -(-channels // 16), kernel[0] * kernel[1]
    if step == 8:
        return packed.view(np.int8).reshape(panels, taps, 16).transpose(0, 2, 1).reshape(panels * 16, taps)[:channels]
    height, width = kernel if kernel[0] > 1 else (kernel[1], 1)
    quads = packed.view(np.int8).reshape(panels, -(-height // 4), width, 16, 4).transpose(0, 3, 1, 4, 2)
    return quads.reshape(panels * 16, -1, width)[:channels, :height].reshape(channels, taps)


def unpack_gemm_f32(packed: Array, outputs: int, taps: int, channels: int) -> Array:
    """Packed (N/16, K, 16) floats of one group -> float32 (outputs, taps, channels)."""
    panels = -(-outputs // 16)
    w = packed.reshape(panels, taps * channels, 16).transpose(0, 2, 1)
    return w.reshape(panels * 16, taps, channels)[:outputs]


# --- convolution ---------------------------------------------------------------------------------------------------------


def patches(x: Array, grid: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int],
            pad: tuple[int, int], fill: float) -> Array:  # fmt: skip
    """(N, H, W, C) -> (N, out_h, out_w, taps, C): what each output pixel sees; outside of x it sees ``fill``."""
    n, height, width, channels = x.shape
    out = np.full((n, *grid, kernel[0] * kernel[1], channels), fill, x.dtype)
    for tap in range(kernel[0] * kernel[1]):
        rows = np.arange(grid[0]) * stride[0] - pad[0] + tap // kernel[1] * dilation[0]
        columns = np.arange(grid[1]) * stride[1] - pad[1] + tap % kernel[1] * dilation[1]
        row_ok, column_ok = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        inside = np.ix_(range(n), np.flatnonzero(row_ok), np.flatnonzero(column_ok))
        out[:, :, :, tap][inside] = x[np.ix_(range(n), rows[row_ok], columns[column_ok])]
    return out


def accumulate_s8(seen: Array, weights: Array, bias: Array) -> Array:
    """Stored activations (..., taps, C), int8 weights (outputs, taps, C), folded int32 bias -> exact int32 sums (rule 3)."""
    flat = seen.reshape(-1, seen.shape[-2] * seen.shape[-1]).astype(np.float64)
    sums = flat @ weights.reshape(len(weights), -1).T.astype(np.float64)
    acc = (sums.astype(np.int64) + bias.astype(np.int64)).astype(np.uint32).view(np.int32)
    return acc.reshape(*seen.shape[:-2], len(weights))


def accumulate_depthwise_s8(seen: Array, weights: Array, bias: Array) -> Array:
    """Stored activations (..., taps, C), int8 weights (C, taps), folded int32 bias (C) -> int32 (..., C)."""
    sums = np.einsum("...tc,ct->...c", seen.astype(np.float64), weights.astype(np.float64))
    return (sums.astype(np.int64) + bias.astype(np.int64)).astype(np.uint32).view(np.int32)


def accumulate_f32(seen: Array, weights: Array, bias: Array) -> Array:
    """float32 (..., taps, C) by (outputs, taps, C): one fma chain in ascending k, the bias added last (rule 9)."""
    flat = seen.reshape(-1, seen.shape[-2] * seen.shape[-1])
    w = weights.reshape(len(weights), -1)
    acc = np.zeros((len(flat), len(w)), F32)
    for k in range(flat.shape[1]):
        acc = fma(flat[:, k : k + 1], w[:, k][None], acc)
    return (acc + bias.astype(F32)).reshape(*seen.shape[:-2], len(w))


def accumulate_depthwise_f32(seen: Array, weights: Array, bias: Array) -> Array:
    """float32 (..., taps, C) by (C, taps): one fma chain in ascending taps, the bias added last."""
    acc = np.zeros((*seen.shape[:-2], seen.shape[-1]), F32)
    for tap in range(seen.shape[-2]):
        acc = fma(seen[..., tap, :], weights[:, tap], acc)
    return acc + bias.astype(F32)


# --- elementwise -----------------------------------------------------------------------------------------------------------


def add_s8(a: Array, b: Array, za: int, zb: int, ma: float, mb: float, lo: int, hi: int, zy: int) -> Array:
    """Residual add: each operand scaled and rounded to float32, then their sum (rule 6)."""
    return to_int8(centred(a, za) * F32(ma) + centred(b, zb) * F32(mb), lo, hi, zy)


def binary_steps(kind: str, a: Array, b: Array, ma: float, mb: float) -> Array:
    """float32 result in output steps of an int8 binary operator on centred operands."""
    with np.errstate(all="ignore"):
        if kind == "MUL":
            return (a * b) * F32(ma)
        if kind == "DIV":
            return (a / b) * F32(ma)
        return binary_f32(kind, a * F32(ma), b * F32(mb))


def binary_f32(kind: str, a: Array, b: Array) -> Array:
    """The float32 operator, or the bool comparison. MIN and MAX are ``a < b ? a : b`` and ``a > b ? a : b``."""
    operators: dict[str, Any] = {
        "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide,
        "MIN": lambda p, q: np.where(p < q, p, q), "MAX": lambda p, q: np.where(p > q, p, q),
        "EQUAL": np.equal, "LESS": np.less, "LESS_EQUAL": np.less_equal, "GREATER": np.greater, "GREATER_EQUAL": np.greater_equal,
        "AND": np.logical_and, "OR": np.logical_or,
    }  # fmt: skip
    with np.errstate(all="ignore"):
        return np.asarray(operators[kind](a, b))


def unary_f32(kind: str, x: Array, alpha: float, beta: float) -> Array:
    """The float32 function ``kind`` (bool for NOT)."""
    if kind == "NOT":
        return np.logical_not(x)
    return float_functions.apply(kind, x, alpha, beta)


def prelu_s8(x: Array, multipliers: Array, zx: int, zy: int, lo: int, hi: int) -> Array:
    """Per-channel slopes: ``multipliers`` (2, C) are those of positive and negative inputs, already over the output scale."""
    steps = centred(x, zx)
    return to_int8(steps * np.where(steps < 0, multipliers[1], multipliers[0]).astype(F32), lo, hi, zy)


# --- sums --------------------------------------------------------------------------------------------------------------------


def sum_in_tree(x: Array) -> Array:
    """Sum over the last axis in the order of rule 9: 16 partial sums by index mod 16, then pairs at distance 8, 4, 2, 1."""
    lanes = np.zeros((*x.shape[:-1], 16), F32)
    for start in range(0, x.shape[-1], 16):
        part = x[..., start : start + 16]
        lanes[..., : part.shape[-1]] += part
    for distance in (8, 4, 2, 1):
        lanes = lanes[..., :distance] + lanes[..., distance : 2 * distance]
    return lanes[..., 0]


def sum_ascending(x: Array, axis: int) -> Array:
    """Sum over ``axis`` one after another."""
    total = np.zeros(x.shape[:axis] + x.shape[axis + 1 :], F32)
    for i in range(x.shape[axis]):
        total = total + np.take(x, i, axis)
    return total


def normalize(x: Array, scale: Array, bias: Array | None, epsilon: float, centres: bool) -> Array:
    """Layer normalisation of the last axis, or RMS normalisation (``centres`` False); no FMA (ez_norm_params)."""
    count = F32(x.shape[-1])
    with np.errstate(all="ignore"):
        mean = sum_in_tree(x) / count if centres else np.zeros(x.shape[:-1], F32)
        d = x - mean[..., None]
        factor = F32(1.0) / np.sqrt(sum_in_tree(d * d) / count + F32(epsilon))
        y = (d * factor[..., None]) * scale
        return np.asarray(y if bias is None else y + bias, F32)


def softmax_f32(x: Array) -> Array:
    """Softmax of the last axis: ``exp(x - max)``, its sum in the tree, times the reciprocal of that."""
    with np.errstate(all="ignore"):
        e = float_functions.apply("EXP", x - x.max(-1, keepdims=True), 0.0, 0.0)
        return np.asarray(e * (F32(1.0) / sum_in_tree(e))[..., None], F32)


def softmax_s8(x: Array, exp_table: Array, m: float, zy: int) -> Array:
    """int8 softmax of the last axis through the float32 table of ``exp(-d * sx)``."""
    distance = x.max(-1, keepdims=True).astype(np.int32) - x
    e = exp_table[distance]
    return to_int8((e / sum_in_tree(e)[..., None]) * F32(m), -128, 127, zy)


def average_steps(total: Array, count: Array | float, scale: float) -> Array:
    """int32 sums -> float32 output steps: ``(f32(sum) / f32(count)) * scale`` (rule 6)."""
    return (total.astype(F32) / np.asarray(count, F32)) * F32(scale)


def interpolate(x: Array, rows: Array, row_weight: Array, columns: Array, column_weight: Array) -> Array:
    """Linear resize of float32 (N, H, W, C); ``rows`` (2, OH) and ``columns`` (2, OW) are the neighbours, held inside."""
    rows, columns = np.clip(rows, 0, x.shape[1] - 1), np.clip(columns, 0, x.shape[2] - 1)
    across = column_weight.astype(F32)[None, None, :, None]

    def along(row_index: Array) -> Array:
        left, right = x[:, row_index][:, :, columns[0]], x[:, row_index][:, :, columns[1]]
        return left + (right - left) * across

    top, bottom = along(rows[0]), along(rows[1])
    return top + (bottom - top) * row_weight.astype(F32)[None, :, None, None]


def matmul_s8(a: Array, b: Array, za: int, zb: int) -> Array:
    """(B, M, K) by (B, K, N) of int8 -> exact int32 sums of centred products."""
    product = (a.astype(np.float64) - za) @ (b.astype(np.float64) - zb)
    return product.astype(np.int64).astype(np.uint32).view(np.int32)


def matmul_f32(a: Array, b: Array) -> Array:
    """(B, M, K) by (B, K, N): one fma chain in ascending k."""
    acc = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), F32)
    for k in range(a.shape[-1]):
        acc = fma(a[..., :, k, None], b[..., None, k, :], acc)
    return acc


def cast(x: Array, dtype: np.dtype[Any]) -> Array:
    """Between float32, integers and bool: float to integer truncates and saturates, NaN is 0; to bool is ``!= 0``."""
    if dtype == np.bool_:
        return x != 0
    if x.dtype == F32 and dtype.kind in "iu":
        info = np.iinfo(dtype)
        t = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
        wide = np.where(
            t >= float(info.max),
            info.max,
            np.where(t <= float(info.min), info.min, np.clip(t, -(2.0**62), 2.0**62).astype(np.int64)),
        )
        return wide.astype(dtype)
    return x.astype(dtype)
