"""Weights of a convolution or product as int8 with one scale per output, and the constants of a requantising step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import NumericsError
from edgezip.pack.builder import Ref
from edgezip.pack.context import Context, QParams, Unsupported, constant_of, dequantize_constant

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]
ACCUMULATOR_LIMIT = 2**31
SMALL_SUM, SMALL_RESULT = 2**22, 32512  # ez_conv_params.small_sums


@dataclass(slots=True)
class Weights:
    """int8 in [-127, 127] in the ONNX shape, and float32 scales (outputs,)."""

    values: Array
    scale: Array


def int8_weights(context: Context, value: Value | None, node: Node, axis: int, outputs: int, groups: int = 1) -> Weights:
    """The weights as stored when they are symmetric int8 per output (or per tensor), else requantised from their float values.

    ``axis`` is the output axis of the ONNX weight; with ``groups`` the axis holds the outputs of one group (ConvTranspose).
    """
    maker = graph.producer(value) if value is not None else None
    stored = graph.constant(maker.inputs[0]) if maker is not None and maker.op_type == "DequantizeLinear" else None
    if maker is not None and stored is not None:
        ready = _as_stored(maker, stored, axis, outputs, groups)
        if ready is not None:
            return ready
        context.notes.append(
            f"{node.name}: int8 weights with a zero point, -128 or another axis were quantised again from their float values"
        )
        return requantized(dequantize_constant(maker, stored), axis, groups)
    held = constant_of(value)
    if held is None:
        raise Unsupported("has weights that are computed at run time")
    context.notes.append(f"{node.name}: float weights between int8 activations were quantised per output channel")
    return requantized(held, axis, groups)


def stored_weights(value: Value | None, axis: int, outputs: int) -> Weights | None:
    """The weights behind a DequantizeLinear if they are symmetric int8 per output (or per tensor), else None."""
    maker = graph.producer(value) if value is not None else None
    stored = graph.constant(maker.inputs[0]) if maker is not None and maker.op_type == "DequantizeLinear" else None
    return None if maker is None or stored is None else _as_stored(maker, stored, axis, outputs, 1)


def _as_stored(maker: Node, stored: Array, axis: int, outputs: int, groups: int) -> Weights | None:
    scale = np.asarray(graph.constant(maker.inputs[1]), np.float32).reshape(-1)
    if stored.dtype.name in ("int4", "int2"):
        stored = stored.astype(np.int8)
    zero = graph.constant(maker.inputs[2]) if len(maker.inputs) > 2 and maker.inputs[2] is not None else np.zeros(1, np.int8)
    if (
        stored.dtype != np.int8
        or zero is None
        or np.any(zero.astype(np.int32))
        or (stored.size and stored.min() < -127)
        or graph.attribute(maker, "block_size", 0)
    ):
        return None
    if scale.size == 1:
        return Weights(stored, np.repeat(scale, outputs))
    if int(graph.attribute(maker, "axis", 1)) % stored.ndim != axis % stored.ndim:
        return None
    return Weights(stored, np.tile(scale, groups) if scale.size * groups == outputs else scale)


def requantized(weights: Array, axis: int, groups: int = 1) -> Weights:
    """Symmetric int8 per output, scale = largest magnitude / 127."""
    moved = np.moveaxis(np.asarray(weights, np.float32), axis, 0)
    if groups > 1:  # ConvTranspose: (C_in, C_out / groups, ...), groups lie along the input axis
        moved = np.concatenate([np.moveaxis(part, axis, 0) for part in np.split(np.asarray(weights, np.float32), groups, axis=0)])
    top = np.abs(moved).reshape(len(moved), -1).max(axis=1)
    scale = np.where(top > 0, top / 127, 1).astype(np.float32)
    values = np.clip(np.rint(moved / scale.reshape(-1, *[1] * (moved.ndim - 1))), -127, 127).astype(np.int8)
    if groups > 1:
        values = np.concatenate([np.moveaxis(part, 0, axis) for part in np.split(values, groups, axis=0)], axis=0)
        return Weights(values, scale)
    return Weights(np.moveaxis(values, 0, axis), scale)


def int32_bias(value: Value | None, extra: Array | None, x: QParams, scale: Array, outputs: int) -> Array:
    """int64 (outputs,): the bias in steps of sx*sw, as stored if it has exactly that scale, else rounded from its float value."""
    steps = np.float64(np.float32(x.scale)) * scale.astype(np.float64)
    maker = graph.producer(value) if value is not None else None
    if maker is not None and maker.op_type == "DequantizeLinear" and extra is None:
        stored, own = graph.constant(maker.inputs[0]), np.asarray(graph.constant(maker.inputs[1]), np.float32).reshape(-1)
        product = np.broadcast_to((np.float32(x.scale) * scale).astype(np.float32), (outputs,))
        if (
            stored is not None
            and stored.dtype == np.int32
            and np.allclose(np.broadcast_to(own, (outputs,)), product, rtol=1e-6, atol=0)
        ):
            return stored.astype(np.int64).reshape(-1)
    total = np.zeros(outputs, np.float64)
    held = constant_of(value)
    if value is not None and held is None:
        raise Unsupported("has a bias that is computed at run time")
    if held is not None:
        total = total + np.broadcast_to(held.reshape(-1), (outputs,))
    if extra is not None:
        total = total + extra
    return np.rint(total / steps).astype(np.int64)


def reach(bias: Array, weights: Array, zero_point: int) -> Array:
    """int64 (outputs,): the largest |accumulator| that any int8 input can cause; ``weights`` (outputs, k)."""
    wide = weights.astype(np.int64)
    low, high = -128 - zero_point, 127 - zero_point  # of x - zx
    positive, negative = np.maximum(wide, 0).sum(axis=1), np.minimum(wide, 0).sum(axis=1)
    extremes = np.stack([bias + positive * high + negative * low, bias + positive * low + negative * high])
    largest: Array = np.abs(extremes).max(axis=0)
    return largest


def sums_are_small(largest: Array, mult: Array) -> bool:
    """Whether ``small_sums`` of the step may be 1: ``largest`` is what ``reach`` gave, ``mult`` the multiplier of each output."""
    return bool(np.all(largest < SMALL_SUM) and np.all(largest * np.abs(mult.astype(np.float64)) < SMALL_RESULT))


def fit_accumulator(
    context: Context, node: Node, bias: Array, weights: Array, scale: Array, zero_point: int
) -> tuple[Array, Array, Array]:
    """``bias``, ``weights`` (outputs, taps, C) and ``scale``, coarser for channels whose bias alone nearly fills 32 bits.

    Other quantisers leave such channels: tiny weights, a bias cut off at 2^31 (onnxruntime issue 21000). Halving them changes
    the sum by at most 127.5 * k of 2^30, under an eighth of an int8 step of any output range that holds the bias.
    """
    flat = weights.reshape(len(weights), -1)
    over = reach(bias, flat, zero_point) >= ACCUMULATOR_LIMIT
    if not over.any() or 127.5 * flat.shape[1] * 255 * 8 > 2**30:
        return bias, weights, scale
    bias, weights, scale = bias.copy(), weights.copy(), scale.copy()
    bias[over] = np.rint(bias[over] / 2).astype(np.int64)
    weights[over] = np.rint(weights[over].astype(np.float64) / 2).astype(np.int8)
    scale[over] *= np.float32(2)
    context.notes.append(f"{node.name}: scales of {int(over.sum())} channel(s) doubled, their bias would overflow 32 bits")
    return bias, weights, scale


def folded_bias(node: Node, bias: Array, weights: Array, zero_point: int, act_sign: int) -> Array:
    """int32 (outputs,): the zero point's and the sign's share of the sum moved into the bias (EZ-N1 rule 3).

    ``weights`` int8 (outputs, k). Proves that no input can leave 32 bits; raises NumericsError.
    """
    largest = reach(bias, weights, zero_point)
    if largest.size and int(largest.max()) >= ACCUMULATOR_LIMIT:
        channel = int(largest.argmax())
        raise NumericsError(
            "the int32 accumulator may overflow",
            where=f"node '{node.name}', output channel {channel}",
            expected="below 2^31",
            got=str(int(largest[channel])),
            hint=f"keep this layer in float: --keep '{node.name}'",
        )
    folded = bias - (zero_point + (128 if act_sign else 0)) * weights.astype(np.int64).sum(axis=1)
    wrapped: Array = (folded & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return wrapped


def multipliers(x: QParams, scale: Array, y: QParams) -> Array:
    """float32 (outputs,): sx*sw/sy formed in float64 (EZ-N1 rule 4)."""
    product = np.float64(np.float32(x.scale)) * scale.astype(np.float64) / np.float64(np.float32(y.scale))
    multiplier: Array = product.astype(np.float32)
    return multiplier


def params_of(ref: Ref) -> QParams:
    """Scale and zero point of an int8 value."""
    return QParams(ref.scale, ref.zero_point)
