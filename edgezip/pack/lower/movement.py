"""Operators that only move elements. A transpose or reshape is free where memory allows; the rest are strided copies.

Every rule works on int8 and on other dtypes alike: a value that exists in int8 is moved in int8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref, elements, plain
from edgezip.pack.context import UNCLIPPED, Context, QParams, Unsupported, constant_of
from edgezip.pack.lower.elementwise import broadcast_strides
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.program import DType, Op

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]


def source(context: Context, value: Value | None) -> Ref:
    """The value in int8 when it has that form, else as it is."""
    assert value is not None
    ref = context.int8(value)
    return ref if ref is not None else context.value(value)


def _same(context: Context, node: Node, x: Ref, shape: Sequence[int], order: tuple[int, ...], output: int = 0) -> Ref:
    return context.new(node.outputs[output].name or "", shape, order, x.dtype, QParams(x.scale, x.zero_point))


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(context: Context, node: Node) -> None:
    """Another shape over the same elements."""
    x = source(context, node.inputs[0])
    shape = graph.shape(node.outputs[0])
    context.set(node.outputs[0], _gains_ones(context, x, shape) or context.reshaped(x, shape))


def _gains_ones(context: Context, x: Ref, shape: tuple[int, ...]) -> Ref | None:
    """The reshape that only adds or drops axes of size 1: memory order can stay as it is."""
    real = [axis for axis, size in enumerate(x.shape) if size != 1]
    new = [axis for axis, size in enumerate(shape) if size != 1]
    if [x.shape[a] for a in real] != [shape[a] for a in new]:
        return None
    renamed = dict(zip(real, new, strict=True))
    moved = [renamed[axis] for axis in x.order if axis in renamed]
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    order = (*[a for a in ones if a == 0], *moved, *[a for a in ones if a != 0])
    if moved == sorted(moved):
        order = plain(len(shape))
    return context.relabelled(x, shape, order)


@lowers("Identity", "Dropout")
def identity(context: Context, node: Node) -> None:
    """The same value under another name."""
    context.set(node.outputs[0], source(context, node.inputs[0]))


@lowers("Transpose")
def transpose(context: Context, node: Node) -> None:
    """A relabelling of axes; whoever needs another memory order copies then."""
    x = source(context, node.inputs[0])
    perm = tuple(graph.attribute(node, "perm", tuple(reversed(range(len(x.shape))))))
    order = tuple(perm.index(axis) for axis in x.order)
    shape = tuple(x.shape[axis] for axis in perm)
    context.set(node.outputs[0], Ref(x.tensor, shape, order, x.dtype, x.scale, x.zero_point))


def _constant_list(node: Node, position: int, attribute: str, default: Sequence[int] | None) -> list[int] | None:
    """A list given as an input (newer opsets) or as an attribute."""
    if len(node.inputs) > position and node.inputs[position] is not None:
        held = constant_of(node.inputs[position])
        if held is None:
            raise Unsupported(f"has {attribute} computed at run time")
        return [int(v) for v in held.reshape(-1)]
    value = graph.attribute(node, attribute, default)
    return None if value is None else [int(v) for v in value]


@lowers("Slice")
def slice_(context: Context, node: Node) -> None:
    """A range of some axes, with steps of either sign."""
    x = source(context, node.inputs[0])
    starts, axes = _constant_list(node, 1, "starts", None), _constant_list(node, 3, "axes", None)
    steps = _constant_list(node, 4, "steps", None)
    assert starts is not None
    axes = list(range(len(starts))) if axes is None else [a % len(x.shape) for a in axes]
    steps = [1] * len(starts) if steps is None else steps
    shape = graph.shape(node.outputs[0])
    own = x.strides()
    strides, offset = list(own), 0
    for axis, start, step in zip(axes, starts, steps, strict=True):
        size = x.shape[axis]
        start = start + size if start < 0 else start
        start = min(max(start, 0), size - 1 if step < 0 else size)
        offset += start * own[axis]
        strides[axis] = own[axis] * step
    _part(context, node, x, shape, strides, offset)


def _part(
    context: Context, node: Node, x: Ref, shape: tuple[int, ...], strides: Sequence[int], offset: int, output: int = 0
) -> None:
    y = _same(context, node, x, shape, x.order, output)
    context.strided(
        node.name or "",
        x,
        y,
        y.dims,
        [strides[a] for a in y.order],
        [y.strides()[a] for a in y.order],
        offset,
        form={"op": node.op_type, "node": node.name},
    )
    context.set(node.outputs[output], y)


@lowers("Split")
def split(context: Context, node: Node) -> None:
    """Consecutive parts along one axis."""
    x = source(context, node.inputs[0])
    axis = int(graph.attribute(node, "axis", 0)) % len(x.shape)
    start = 0
    for index, output in enumerate(node.outputs):
        shape = graph.shape(output)
        _part(context, node, x, shape, x.strides(), start * x.strides()[axis], index)
        start += shape[axis]


def _concat(context: Context, node: Node, refs: list[Ref], y: Ref, clip: tuple[int, int] = UNCLIPPED) -> Ref:
    axis = int(graph.attribute(node, "axis", 0)) % len(y.shape)
    start = 0
    for ref in refs:
        offset = start * y.strides()[axis]
        x_strides, y_strides = ref.strides(), y.strides()
        dims = [ref.shape[a] for a in y.order]
        context.strided(
            node.name or "",
            ref,
            y,
            dims,
            [x_strides[a] for a in y.order],
            [y_strides[a] for a in y.order],
            0,
            offset,
            clip=clip,
            form={"op": "Concat", "node": node.name},
        )
        start += ref.shape[axis]
    return y


@lowers("Concat")
def concat(context: Context, node: Node) -> None:
    """One copy for each part; producers write in place where they can (fuse.py)."""
    refs = [context.value(v) for v in node.inputs if v is not None]
    shape = graph.shape(node.outputs[0])
    y = context.new(node.outputs[0].name or "", shape, _common_order(refs, shape), refs[0].dtype)
    context.set(node.outputs[0], _concat(context, node, refs, y))


@lowers_int8("Concat")
def concat_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Parts of another scale are requantised on the way."""
    refs = []
    for value in node.inputs:
        ref = source(context, value)
        refs.append(ref if ref.dtype is DType.S8 else context.quantized(ref, target.q, f"{value.name if value else ''}.int8"))
    shape = graph.shape(node.outputs[0])
    y = context.new(node.outputs[0].name or "", shape, _common_order(refs, shape), DType.S8, target.q)
    return _concat(context, node, refs, y, target.clip)


def _common_order(refs: list[Ref], shape: tuple[int, ...]) -> tuple[int, ...]:
    return max(refs, key=lambda r: (r.order != plain(len(shape)), elements(r.shape))).order


@lowers("Expand", "Tile")
def expand(context: Context, node: Node) -> None:
    """Repetition: stride 0 along repeated axes; a tiled axis is split into (times, size)."""
    x = source(context, node.inputs[0])
    shape = graph.shape(node.outputs[0])
    order = x.order if len(x.shape) == len(shape) else plain(len(shape))
    y = _same(context, node, x, shape, order)
    if node.op_type == "Expand":
        strides = broadcast_strides(x, shape)
        own = y.strides()
        context.strided(
            node.name or "", x, y, y.dims, [strides[a] for a in order], [own[a] for a in order], form={"op": "Expand"}
        )
    else:
        _tile(context, node, x, y)
    context.set(node.outputs[0], y)


def _tile(context: Context, node: Node, x: Ref, y: Ref) -> None:
    dims: list[int] = []
    x_strides: list[int] = []
    y_strides: list[int] = []
    own_x, own_y = x.strides(), y.strides()
    for axis in y.order:
        dims += [y.shape[axis] // x.shape[axis], x.shape[axis]]
        x_strides += [0, own_x[axis]]
        y_strides += [own_y[axis] * x.shape[axis], own_y[axis]]
    context.strided(node.name or "", x, y, dims, x_strides, y_strides, form={"op": "Tile", "node": node.name})


@lowers("DepthToSpace", "SpaceToDepth")
def depth_to_space(context: Context, node: Node) -> None:
    """Blocks of channels to blocks of pixels and back: one six-dimensional copy."""
    x = source(context, node.inputs[0])
    block = int(graph.attribute(node, "blocksize", 1))
    y = _same(context, node, x, graph.shape(node.outputs[0]), x.order)
    small, deep = (y, x) if node.op_type == "DepthToSpace" else (x, y)  # small: few channels, deep: few pixels
    channels = small.shape[1]
    n, _, height, width = deep.shape
    column_row_depth = node.op_type == "DepthToSpace" and graph.attribute(node, "mode", "DCR") == "CRD"
    deep_n, deep_c, deep_h, deep_w = deep.strides()
    small_n, small_c, small_h, small_w = small.strides()
    block_step, channel_step = (deep_c, deep_c * block * block) if column_row_depth else (deep_c * channels, deep_c)
    dims = [n, height, block, width, block, channels]
    deep_strides = [deep_n, deep_h, block_step * block, deep_w, block_step, channel_step]
    small_strides = [small_n, small_h * block, small_h, small_w * block, small_w, small_c]
    x_strides, y_strides = (deep_strides, small_strides) if node.op_type == "DepthToSpace" else (small_strides, deep_strides)
    context.strided(node.name or "", x, y, dims, x_strides, y_strides, form={"op": node.op_type, "node": node.name})
    context.set(node.outputs[0], y)


# --- gather and pad ---------------------------------------------------------------------------------------------------


def gather_axis(
    context: Context, node: Node, x: Ref, axis: int, index: Ref, shape: tuple[int, ...], order: tuple[int, ...], name: str
) -> Ref:
    """x along ONNX axis ``axis`` by an index list; ``shape`` and ``order`` of the result equal x's but for that axis."""
    place = x.order.index(axis)
    dims = x.dims
    y = context.new(name, shape, order, x.dtype, QParams(x.scale, x.zero_point))
    context.builder.step(
        node.name or "",
        Op.GATHER,
        (x.tensor, index.tensor),
        (y.tensor,),
        {"op": node.op_type, "node": node.name},
        outer=elements(dims[:place]),
        n=dims[place],
        inner=elements(dims[place + 1 :]),
        m=elements(index.shape),
    )
    return y


@lowers("Gather")
def gather(context: Context, node: Node) -> None:
    """Rows of an axis by index, constant or computed."""
    x = context.plain(source(context, node.inputs[0]))
    assert node.inputs[1] is not None
    index = context.plain(context.value(node.inputs[1]))
    if index.dtype not in (DType.S32, DType.S64):
        raise Unsupported(f"has indices of type {index.dtype.name}")
    axis = int(graph.attribute(node, "axis", 0)) % len(x.shape)
    shape = graph.shape(node.outputs[0])
    context.set(node.outputs[0], gather_axis(context, node, x, axis, index, shape, plain(len(shape)), node.outputs[0].name or ""))


def _pads(node: Node, rank: int) -> tuple[list[int], list[int]]:
    pads = _constant_list(node, 1, "pads", None)
    axes = _constant_list(node, 3, "axes", None)
    assert pads is not None
    axes = list(range(rank)) if axes is None else [a % rank for a in axes]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    return before, after


@lowers("Pad")
def pad(context: Context, node: Node) -> None:
    """Constant borders by a copy into a filled tensor, others by an index list for each padded axis."""
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
        return _padded_by_index(context, node, x, before, after, mode)
    y = _same(context, node, x, shape, x.order)
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


def _padded_by_index(context: Context, node: Node, x: Ref, before: list[int], after: list[int], mode: str) -> Ref:
    for axis in range(len(before)):
        if not before[axis] and not after[axis]:
            continue
        size = x.shape[axis]
        position = np.arange(-before[axis], size + after[axis])
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
        x = gather_axis(context, node, x, axis, indices, shape, x.order, f"{node.outputs[0].name}.axis{axis}")
    return x
