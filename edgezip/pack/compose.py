"""Chains of int8 steps that depend on one int8 tensor become one table, with every rounding between them kept.

``x * clip(x + 3) / 6`` with Q/DQ behind each node is a function of the stored byte of x, whatever the quantiser put between: its
256 values are computed here with the very functions that the steps have (EZ-N1 rules 4, 6, 7), so no bit changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgezip.kernels import reference
from edgezip.pack.builder import Builder, elements
from edgezip.pack.uses import is_whole, readers
from edgezip.program import Binary, Convert, DType, Op, Step

Array = np.ndarray[Any, Any]
LOGICAL = np.arange(-128, 128).astype(np.int8)
ARITHMETIC = (Binary.ADD, Binary.SUB, Binary.MUL, Binary.DIV, Binary.MIN, Binary.MAX)


@dataclass(frozen=True, slots=True)
class ByteFunction:
    """A tensor as a function of another: ``values[b + 128]`` is its logical int8 where ``root`` holds b."""

    root: int
    values: Array
    nodes: tuple[str, ...]  # ONNX nodes that it is made of


def run(builder: Builder) -> None:
    """Replace by tables what can be; the steps that nobody reads any more are left to ``drop_unread``."""
    known: dict[int, ByteFunction] = {}  # by buffer
    for index, step in enumerate(builder.steps):
        if len(step.outputs) != 1 or not _is_plain_int8(builder, step.outputs[0]):
            continue
        found = _function(builder, known, step, builder.forms[index])
        if found is None:
            continue
        known[builder.buffer_of[step.outputs[0]]] = found
        if step.op is not Op.TABLE or _skips_a_step(builder, known, step, index):
            _replace(builder, index, found)


def _is_plain_int8(builder: Builder, tensor: int) -> bool:
    held = builder.tensors[tensor]
    inside = builder.buffer_of[tensor] >= 0 and held.dtype is DType.S8
    return inside and is_whole(builder, tensor) and held.row_stride == (held.dims[-1] if held.dims else 1)


def _operand(builder: Builder, known: dict[int, ByteFunction], tensor: int) -> ByteFunction | None:
    if tensor < 0 or not _is_plain_int8(builder, tensor):
        return None
    return known.get(builder.buffer_of[tensor]) or ByteFunction(tensor, LOGICAL, ())


def _function(builder: Builder, known: dict[int, ByteFunction], step: Step, form: dict[str, Any]) -> ByteFunction | None:
    operands = [_operand(builder, known, t) for t in step.inputs[: 2 if step.op is Op.BINARY else 1]]
    if any(held is None for held in operands):
        return None
    functions = [held for held in operands if held is not None]
    values = None
    match step.op:
        case Op.TABLE:
            values = _through_table(builder, step, functions[0].values)
        case Op.BINARY:
            values = _through_binary(builder, step, functions)
        case Op.COPY:
            values = _through_requantize(builder, step, functions[0].values)
    if values is None:
        return None
    own = (*([str(form["node"])] if form.get("node") else []), *form.get("fused", ()))
    return ByteFunction(functions[0].root, values, tuple(dict.fromkeys(n for f in functions for n in f.nodes)) + own)


def _through_table(builder: Builder, step: Step, values: Array) -> Array:
    sign = np.uint8(builder.act_sign)
    table = np.frombuffer(builder.constant_bytes[step.inputs[1]], np.uint8)
    logical: Array = (table[values.view(np.uint8) ^ sign] ^ sign).view(np.int8)
    return logical


def _through_binary(builder: Builder, step: Step, functions: list[ByteFunction]) -> Array | None:
    p, (a, b) = step.params, step.inputs
    same_root = builder.buffer_of[functions[0].root] == builder.buffer_of[functions[1].root]
    elementwise = p["stride_a"] == p["stride_b"] == p["stride_y"] == (1,)
    if not same_root or not elementwise or p["kind"] not in ARITHMETIC:
        return None
    x, z = (reference.centred(f.values, builder.tensors[t].zero_point) for f, t in zip(functions, (a, b), strict=True))
    steps = reference.binary_steps(Binary(p["kind"]).name, x, z, p["scale_a"], p["scale_b"])
    return reference.to_int8(steps, p["lo"], p["hi"], builder.tensors[step.outputs[0]].zero_point)


def _through_requantize(builder: Builder, step: Step, values: Array) -> Array | None:
    p = step.params
    x, y = builder.tensors[step.inputs[0]], builder.tensors[step.outputs[0]]
    whole = p["x_stride"] == p["y_stride"] == (1,) and p["x_offset"] == p["y_offset"] == 0 and not p.get("fill")
    if p["convert"] != Convert.REQUANTIZE or not whole or not p["dims"] == (elements(x.dims),) == (elements(y.dims),):
        return None
    return reference.requantize(values, p["scale"], x.zero_point, y.zero_point, p["lo"], p["hi"])


def _skips_a_step(builder: Builder, known: dict[int, ByteFunction], step: Step, index: int) -> bool:
    """A table of a table, when nobody else reads the one between."""
    return builder.buffer_of[step.inputs[0]] in known and readers(builder, step.inputs[0]) == [index]


def _replace(builder: Builder, index: int, found: ByteFunction) -> None:
    step, y = builder.steps[index], builder.tensors[builder.steps[index].outputs[0]]
    sign = np.uint8(builder.act_sign)
    table = np.zeros(256, np.uint8)
    table[LOGICAL.view(np.uint8) ^ sign] = found.values.view(np.uint8) ^ sign
    constant = builder.constant(f"{y.name}.table", table, DType.U8)
    builder.steps[index] = Step(step.name, Op.TABLE, (builder.view(found.root, y.dims), constant), step.outputs)
    builder.forms[index] = {"op": "table", "node": ", ".join(found.nodes), "form": "int8"}
