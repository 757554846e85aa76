"""Quantised operators of the older form as Q/DQ around the float operator, and exact integer products.

A product of integers is computed in float32 in parts of K whose sums stay below 2^24, so it is exact; the parts are added as
int32. Speed is not their purpose: a model that should run in int8 has QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.decompose.emitter import Emitter, decomposes

if TYPE_CHECKING:
    from edgezip.graph import Array, Value

EXACT = 1 << 24  # float32 holds every whole number up to here
LARGEST = 255 * 255  # of one product of two bytes less their zero points


def _dequantized(emit: Emitter, first: int, axis: int | None = None) -> Value:
    """DequantizeLinear of inputs first, first + 1 (scale) and first + 2 (zero point)."""
    scale = emit.constant(first + 1)
    attrs = {"axis": axis} if axis is not None and scale is not None and scale.size > 1 else {}
    return emit("DequantizeLinear", *emit.node.inputs[first : first + 3], **attrs)


def _leaves_int8(emit: Emitter, axis: int) -> bool:
    """Whether weights less their zero point are wider than a byte: int8 kernels would round them anew."""
    held, zero = emit.constant(3), emit.constant(5)
    if held is None or zero is None or not zero.any():
        return False
    column = [-1 if a == axis else 1 for a in range(held.ndim)] if zero.size > 1 else []
    return bool(np.abs(held.astype(np.int32) - zero.astype(np.int32).reshape(column)).max() > 127)


def _operands(emit: Emitter, axis: int) -> tuple[Value, Value, Array | None]:
    """Data and weights, dequantised, or both as exact whole numbers and the scale that their product has."""
    sx, sw = emit.constant(1), emit.constant(4)
    w = emit.input(3)
    assert w is not None
    if sx is None or sw is None or not _leaves_int8(emit, axis):
        return _dequantized(emit, 0), _dequantized(emit, 3, axis=axis), None
    zero = emit.constant(5)
    column = [-1 if a == axis else 1 for a in range(len(graph.shape(w)))] if zero is not None and zero.size > 1 else []
    exact = _centred(emit, w, None if zero is None else emit.value(zero.reshape(column)))
    scale = (sx.astype(np.float64) * sw.astype(np.float64)).astype(np.float32)
    return _centred(emit, emit.x, emit.input(2)), exact, scale.reshape(-1)


@decomposes("QLinearConv")
def qlinear_conv(emit: Emitter) -> bool:
    """DequantizeLinear, Conv, QuantizeLinear; the int32 bias has the scale sx * sw and no zero point."""
    graph.raise_opset(emit.model, 13)
    bias, sx, sw = emit.input(8), emit.constant(1), emit.constant(4)
    if sx is None or sw is None:
        return False
    x, w, scale = _operands(emit, 0)
    inputs = [x, w]
    column = (1, -1, *[1] * (len(emit.shape) - 2))
    if bias is not None and scale is not None:
        inputs.append(emit.cast(bias, np.float32))
    elif bias is not None:
        unit = (sx.astype(np.float64) * sw.astype(np.float64)).astype(np.float32).reshape(-1)
        inputs.append(emit("DequantizeLinear", bias, np.broadcast_to(unit, graph.shape(bias)).copy(), axis=0))
    made = emit("Conv", *inputs, **graph.attributes(emit.node))
    made = made if scale is None else emit("Mul", made, scale.reshape(column if scale.size > 1 else ()))
    return emit.finish(emit("QuantizeLinear", made, emit.input(6), emit.input(7)))


@decomposes("QLinearMatMul")
def qlinear_matmul(emit: Emitter) -> bool:
    """DequantizeLinear, MatMul, QuantizeLinear."""
    graph.raise_opset(emit.model, 13)
    b = emit.input(3)
    if b is None:
        return False
    left, right, scale = _operands(emit, len(graph.shape(b)) - 1)
    made = emit("MatMul", left, right)
    made = made if scale is None else emit("Mul", made, scale if scale.size > 1 else scale.reshape(()))
    return emit.finish(emit("QuantizeLinear", made, emit.input(6), emit.input(7)))


def _centred(emit: Emitter, value: Value, zero: Value | None) -> Value:
    """Whole numbers less their zero point, in float32."""
    held = graph.constant(zero) if zero is not None else None
    if graph.dtype(value).itemsize == 1 and graph.constant(value) is None and held is not None and held.size == 1:
        return emit("DequantizeLinear", value, np.asarray(1, np.float32), held.reshape(()))  # a scale for an int8 input
    wide = emit.cast(value, np.float32)
    return wide if zero is None else emit("Sub", wide, emit.cast(zero, np.float32))


@decomposes("MatMulInteger")
def matmul_integer(emit: Emitter) -> bool:
    """int32 sums of (a - za) * (b - zb)."""
    b, za, zb = emit.input(1), emit.input(2), emit.input(3)
    if b is None:
        return False
    if za is not None and len(graph.shape(za)) == 1 and graph.shape(za)[0] > 1:
        za = emit.reshape(za, (-1, 1))  # one a row
    left, right = _centred(emit, emit.x, za), _centred(emit, b, zb)
    rank_a, rank_b, depth = len(emit.shape), len(graph.shape(b)), emit.shape[-1]
    part = max(EXACT // LARGEST, 1)
    total = None
    for start in range(0, depth, part):
        if depth > part:
            a_part = _slice(emit, left, start, min(start + part, depth), rank_a - 1)
            b_part = _slice(emit, right, start, min(start + part, depth), max(rank_b - 2, 0))
        else:
            a_part, b_part = left, right
        made = emit.cast(emit("MatMul", a_part, b_part), np.int32)
        total = made if total is None else emit("Add", total, made)
    return emit.finish(total)


def _slice(emit: Emitter, x: Value, start: int, end: int, axis: int) -> Value:
    return emit("Slice", x, *(np.asarray([number], np.int64) for number in (start, end, axis)))


@decomposes("ConvInteger")
def conv_integer(emit: Emitter) -> bool:
    """int32 sums of (x - zx) * (w - zw); the padding is zx, which is 0 here. Input channels in parts, each exact."""
    w, zx, zw = emit.constant(1), emit.input(2), emit.constant(3)
    if w is None or (emit.input(3) is not None and zw is None):
        return False
    weights = w.astype(np.float32)
    if zw is not None:
        weights = weights - zw.astype(np.float32).reshape([-1, *[1] * (w.ndim - 1)])
    x, attrs = _centred(emit, emit.x, zx), graph.attributes(emit.node)
    taps, channels = int(np.prod(w.shape[2:])), w.shape[1]
    part = max(EXACT // (LARGEST * taps), 1)
    if channels > part and attrs.get("group", 1) != 1:
        return False
    total = None
    for start in range(0, channels, part):
        end = min(start + part, channels)
        seen = x if channels <= part else _slice(emit, x, start, end, 1)
        made = emit.cast(emit("Conv", seen, weights[:, start:end], **attrs), np.int32)
        total = made if total is None else emit("Add", total, made)
    return emit.finish(total)


# --- Q and DQ with parameters that the int8 kernels do not take ----------------------------------------------------------------


@decomposes("QuantizeLinear")
def quantize(emit: Emitter) -> bool:
    """saturate(round(x / scale) + zero point) where scale or zero point are computed, or stand along an axis or in blocks."""
    held, result = emit.constant(1), graph.dtype(emit.node.outputs[0])
    is_fixed = emit.input(2) is None or emit.constant(2) is not None
    if result.name not in ("int8", "uint8") or (held is not None and held.size == 1 and is_fixed) or not _are_aligned(emit):
        return False
    scale, zero = (_spread(emit, emit.input(place)) for place in (1, 2))
    steps = emit("Round", emit("Div", emit.x, scale))
    if zero is not None:
        steps = emit("Add", steps, emit.cast(zero, np.float32))
    limits = np.iinfo(result)
    limited = emit("Clip", steps, np.asarray(limits.min, np.float32), np.asarray(limits.max, np.float32))
    return emit.finish(emit.cast(limited, result))


@decomposes("DequantizeLinear")
def dequantize(emit: Emitter) -> bool:
    """(x - zero point) * scale for integers other than 8 bits, and for parameters of an activation along an axis or in blocks."""
    held = emit.constant(1)
    if graph.constant(emit.x) is not None or held is None or (emit.dtype.name in ("int8", "uint8") and held.size == 1):
        return False
    scale, zero = (_spread(emit, emit.input(place)) if _are_aligned(emit) else None for place in (1, 2))
    if scale is None:
        return False
    x = emit.cast(emit.x, np.float32)
    if zero is not None:
        x = emit("Sub", x, emit.cast(zero, np.float32))
    return emit.finish(emit("Mul", x, emit.cast(scale, np.float32)))


def _are_aligned(emit: Emitter) -> bool:
    """Scales and zero points fit the axis and its blocks, which are constants; what does not fit is refused by name later."""
    axis, block, shape = int(emit.attr("axis", 1)), int(emit.attr("block_size", 0)), emit.shape
    for place in (1, 2):
        value, held = emit.input(place), emit.constant(place)
        if value is None or np.prod(graph.shape(value)) == 1:
            continue
        if not -len(shape) <= axis < len(shape) or (block and held is None):
            return False
        size = -(-shape[axis] // block) if block else shape[axis]
        wanted = (*shape[: axis % len(shape)], size, *shape[axis % len(shape) + 1 :]) if block else (size,)
        if graph.shape(value) != wanted:
            return False
    return True


def _spread(emit: Emitter, parameter: Value | None) -> Value | None:
    """Scales or zero points in a shape that broadcasts over the first input; constants where they stand in blocks."""
    if parameter is None or np.prod(graph.shape(parameter)) == 1:
        return parameter if parameter is None else emit.reshape(parameter, ())
    axis, block, held = int(emit.attr("axis", 1)) % len(emit.shape), int(emit.attr("block_size", 0)), graph.constant(parameter)
    if block and held is not None:
        repeated = np.repeat(held, min(block, emit.shape[axis]), axis)
        return emit.value(np.ascontiguousarray(repeated.take(range(emit.shape[axis]), axis)))
    return emit.reshape(parameter, [-1 if place == axis else 1 for place in range(len(emit.shape))])


@decomposes("BitCast")
def bytes_of_either_sign(emit: Emitter) -> bool:
    """int8 as uint8 and back: casts, which wrap between whole numbers. Other types are lowered."""
    kinds = emit.dtype.name, graph.dtype(emit.node.outputs[0]).name
    if kinds == ("int8", "uint8"):
        return emit.finish(emit.cast(emit.cast(emit.x, np.int32), np.uint8))
    return emit.finish(emit.cast(emit.x, np.int8)) if kinds == ("uint8", "int8") else False
