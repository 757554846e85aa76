"""Pad: constant borders by one copy into a filled tensor, others by a copy for the body and one for each border."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref
from edgezip.pack.context import Context, QParams, Unsupported, constant_of
from edgezip.pack.lower.movement import constant_list, gather_axis, source
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.program import DType

if TYPE_CHECKING:
    from edgezip.graph import Node


def _pads(node: Node, rank: int) -> tuple[list[int], list[int]]:
    pads = constant_list(node, 1, "pads", None)
    axes = constant_list(node, 3, "axes", None)
    assert pads is not None
    axes = list(range(rank)) if axes is None else [a % rank for a in axes]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    return before, after


@lowers("Pad")
def pad(context: Context, node: Node) -> None:
    """Any mode, any dtype."""
    context.set(node.outputs[0], _padded(context, node, source(context, node.inputs[0])))


@lowers_int8("Pad")
def pad_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Pad between Q/DQ."""
    padded = _padded(context, node, source(context, node.inputs[0]))
    return context.quantized(padded, target.q, f"{node.outputs[0].name}.int8", clip=target.clip)


def _padded(context: Context, node: Node, x: Ref) -> Ref:
    before, after = _pads(node, len(x.shape))
    shape = graph.shape(node.outputs[0])
    mode = graph.attribute(node, "mode", "constant")
    if mode != "constant":
        return _padded_by_copies(context, node, x, before, after, mode)
    y = context.new(node.outputs[0].name or "", shape, x.order, x.dtype, QParams(x.scale, x.zero_point))
    own_x, own_y = x.strides(), y.strides()
    dims = {a: x.shape[a] + min(before[a], 0) + min(after[a], 0) for a in range(len(shape))}
    x_offset = sum(max(-b, 0) * s for b, s in zip(before, own_x, strict=True))
    y_offset = sum(max(b, 0) * s for b, s in zip(before, own_y, strict=True))
    context.strided(
        node.name or "",
        x,
        y,
        [dims[a] for a in y.order],
        [own_x[a] for a in y.order],
        [own_y[a] for a in y.order],
        x_offset,
        y_offset,
        fill=_fill(node, x),
        form={"op": "Pad", "node": node.name},
    )
    return y


def _fill(node: Node, x: Ref) -> float:
    held = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    value = float(graph.attribute(node, "value", 0.0)) if held is None or not held.size else float(held.reshape(-1)[0])
    if x.dtype is not DType.S8:
        return value
    steps = np.rint(np.float32(value) / np.float32(x.scale)) + x.zero_point if math.isfinite(value) else math.copysign(128, value)
    return float(min(max(steps, -128), 127))


def _padded_by_copies(context: Context, node: Node, x: Ref, before: list[int], after: list[int], mode: str) -> Ref:
    """Axis by axis: the body, then each border, in one copy (mirrored along a negative stride, repeated along a stride of 0)."""
    for axis in range(len(before)):
        if not before[axis] and not after[axis]:
            continue
        borders = _borders(x.shape[axis], before[axis], after[axis], mode)
        if borders is None:
            x = _padded_by_index(context, node, x, axis, (before[axis], after[axis]), mode)
            continue
        shape = tuple(size + before[axis] + after[axis] if a == axis else size for a, size in enumerate(x.shape))
        q = QParams(x.scale, x.zero_point)
        y = context.new(f"{node.outputs[0].name}.axis{axis}", shape, x.order, x.dtype, q)
        for border in [Border(before[axis], x.shape[axis], 0, 1), *borders]:
            _copy_border(context, node, x, y, axis, border)
        x = y
    return x


@dataclass(frozen=True, slots=True)
class Border:
    """``count`` places of the result from ``place`` on, read from ``source`` on with ``step``."""

    place: int
    count: int
    source: int
    step: int


def _borders(size: int, before: int, after: int, mode: str) -> list[Border] | None:
    """What stands before and behind an axis; None where one copy each does not do."""
    if min(before, after) < 0:
        return None
    if mode == "edge":
        both = [Border(0, before, 0, 0), Border(before + size, after, size - 1, 0)]
    elif mode == "wrap" and max(before, after) <= size:
        both = [Border(0, before, size - before, 1), Border(before + size, after, 0, 1)]
    elif mode == "reflect" and max(before, after) < size:
        both = [Border(0, before, before, -1), Border(before + size, after, size - 2, -1)]
    else:
        return None
    return [border for border in both if border.count]


def _copy_border(context: Context, node: Node, x: Ref, y: Ref, axis: int, border: Border) -> None:
    own_x, own_y = x.strides(), y.strides()
    step = {axis: border.step * own_x[axis]}
    context.strided(
        node.name or "",
        x,
        y,
        [border.count if a == axis else x.shape[a] for a in y.order],
        [step.get(a, own_x[a]) for a in y.order],
        [own_y[a] for a in y.order],
        border.source * own_x[axis],
        border.place * own_y[axis],
        form={"op": "Pad", "node": node.name},
    )


def _padded_by_index(context: Context, node: Node, x: Ref, axis: int, pads: tuple[int, int], mode: str) -> Ref:
    """Borders wider than the axis, or negative ones."""
    size = x.shape[axis]
    position = np.arange(-pads[0], size + pads[1])
    if mode == "edge":
        index = np.clip(position, 0, size - 1)
    elif mode == "wrap":
        index = position % size
    elif mode == "reflect":
        period = max(2 * (size - 1), 1)
        index = np.abs((position + size - 1) % period - (size - 1)) if size > 1 else np.zeros_like(position)
    else:
        raise Unsupported(f"has mode {mode}")
    shape = tuple(len(index) if a == axis else d for a, d in enumerate(x.shape))
    indices = context.constant(f"{node.name}.index{axis}", index.astype(np.int32))
    return gather_axis(context, node, x, axis, indices, shape, x.order, f"{node.outputs[0].name}.axis{axis}")
