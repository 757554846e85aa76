"""Gemm and MatMul whose weights take few values, on rows that are quantised at run time: the codes stay packed (CODES)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.kernels import codes
from edgezip.kernels.codes import Codes, Form
from edgezip.pack import layouts
from edgezip.pack.builder import elements, plain
from edgezip.pack.context import constant_of
from edgezip.program import DType, Op

if TYPE_CHECKING:
    from edgezip.graph import Node
    from edgezip.pack.context import Context

Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Stored:
    """Whole numbers (outputs, K) and float32 scales (outputs, blocks), as a DequantizeLinear holds them."""

    values: Array
    scales: Array
    block: int  # 0: one scale for each output


def low_bits(context: Context, node: Node, shape: tuple[int, ...]) -> bool:
    """Append the step if the weights have block scales, or if one row reads weights of one scale an output; else change nothing.

    With many rows the latter run faster as int8 (LINEAR); the results are the same bits.
    """
    if graph.get_metadata(node, graph.DYNAMIC_ROWS[0]) != graph.DYNAMIC_ROWS[1] or node.inputs[0] is None:
        return False
    if float(graph.attribute(node, "alpha", 1.0)) <= 0 or int(graph.attribute(node, "transA", 0)):
        return False
    transposed = bool(node.op_type == "Gemm" and int(graph.attribute(node, "transB", 0)))
    stored = _stored(node, transposed)
    rows = elements(shape[:-1])
    if stored is None or (not stored.block and (rows > 1 or context.int8(node.inputs[0]) is not None)):
        return False
    chosen = codes.choose_table(stored.values)
    block = stored.block or -(-stored.values.shape[1] // codes.STEP) * codes.STEP
    addend = _addend(node, shape[-1])
    if chosen is None or addend is None or block % codes.STEP or block > codes.MOST_BLOCK:
        if stored.block:
            context.notes.append(f"{node.name}: weights in blocks of {block} have no packed form and run in float32")
        return False
    _emit(context, node, stored, Form(chosen[0], block, chosen[1]), addend)
    return True


def _stored(node: Node, transposed: bool) -> Stored | None:
    maker = graph.producer(node.inputs[1]) if node.inputs[1] is not None else None
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    held, scale = (graph.constant(each) for each in maker.inputs[:2])
    zero = graph.constant(maker.inputs[2]) if len(maker.inputs) > 2 and maker.inputs[2] is not None else None
    if held is None or scale is None or held.ndim != 2 or held.dtype == np.int32:
        return None
    axis, block = int(graph.attribute(maker, "axis", 1)) % 2, int(graph.attribute(maker, "block_size", 0))
    outputs = 0 if transposed else 1
    if (scale.size > 1 and axis == outputs) == bool(block):  # blocks of outputs, or one scale for each k
        return None
    values = held.astype(np.int32)
    if zero is not None and zero.astype(np.int32).any():
        offsets = zero.astype(np.int32)
        values = values - (
            np.repeat(offsets, block, axis)[: held.shape[0], : held.shape[1]] if block else _along(offsets, outputs)
        )
    scales = np.asarray(scale, np.float32)
    scales = scales if block else np.broadcast_to(_along(scales, outputs), (1, held.shape[1]) if outputs else (held.shape[0], 1))
    if outputs:
        values, scales = values.T, scales.T
    if not np.all(np.isfinite(scales)) or scales.min() < 0:
        return None
    return Stored(np.ascontiguousarray(values), np.ascontiguousarray(scales), block)


def _along(values: Array, axis: int) -> Array:
    return values.reshape((1, -1) if axis else (-1, 1))


def _addend(node: Node, outputs: int) -> Array | None:
    """The constant row of a Gemm in float32, zeros without one; None when it is computed at run time."""
    value = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(outputs, np.float32)
    held = constant_of(value)
    if held is None or held.size not in (1, outputs):
        return None
    row = np.broadcast_to(np.asarray(held, np.float32).reshape(-1), (outputs,))
    return np.asarray(row * np.float32(graph.attribute(node, "beta", 1.0)), np.float32)


def _emit(context: Context, node: Node, stored: Stored, form: Form, addend: Array) -> None:
    builder, name = context.builder, node.name or node.op_type
    outputs, k = stored.values.shape
    if stored.block:
        halves, unit = codes.to_half(stored.scales)
        if not np.array_equal(halves * unit[:, None], stored.scales):
            context.notes.append(f"{name}: scales of blocks rounded to the 11 bits of an f16")
    else:
        halves, unit = np.ones((outputs, 1), np.float32), stored.scales[:, 0]
    mult = np.asarray(unit * np.float32(graph.attribute(node, "alpha", 1.0)), np.float32)
    constants = (
        builder.constant(f"{name}.codes", codes.pack(Codes(stored.values, halves), form), DType.U8),
        builder.constant(f"{name}.multiplier", layouts.pad_outputs(mult), DType.F32),
        builder.constant(f"{name}.addend", layouts.pad_outputs(addend), DType.F32),
    )
    value = node.inputs[0]
    assert value is not None
    x = context.plain(context.value(value))
    rows = elements(x.shape[:-1])
    source = context.relabelled(x, (rows, k), plain(2))
    made = context.new(node.outputs[0].name or "", (rows, outputs), plain(2), DType.F32)
    said = {"op": node.op_type, "node": node.name, "form": form.text, "macs": rows * outputs * k, "rows": "quantised at run time"}
    builder.step(name, Op.CODES, (source.tensor, *constants), (made.tensor,), said, **form.params())
    context.set(node.outputs[0], context.relabelled(made, (*x.shape[:-1], outputs), plain(len(x.shape))))
