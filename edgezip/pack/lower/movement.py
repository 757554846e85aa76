"""Operators that only move elements. A transpose or reshape is free where memory allows; the rest are strided copies.

Every rule works on int8 and on other dtypes alike: a value that exists in int8 is moved in int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref, elements, plain
from edgezip.pack.context import UNCLIPPED, Context, QParams, Unsupported, constant_of, dtype_of
from edgezip.pack.lower.elementwise import broadcast_strides
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.program import Convert, DType, Op

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


BITS = ({DType.F32, DType.S32},)


@lowers("BitCast")
def bit_cast(context: Context, node: Node) -> None:
    """The same bits under another type of their width; a bool is a byte that is 0 or 1."""
    x, name = source(context, node.inputs[0]), node.outputs[0].name or ""
    dtype = dtype_of(graph.dtype(node.outputs[0]), name)
    if {x.dtype, dtype} not in BITS and x.dtype is not dtype and (x.dtype, dtype) != (DType.BOOL, DType.U8):
        raise Unsupported(f"reads the bits of {x.dtype.name} as {dtype.name}; the runtime has it for F32 and S32")
    y, form = context.like(x, name, dtype), {"op": "BitCast", "node": node.name}
    if {x.dtype, dtype} in BITS:
        walk = {"rank": 1, "dims": (elements(x.shape),), "x_stride": (1,), "y_stride": (1,), "x_offset": 0, "y_offset": 0}
        context.builder.step(
            node.name or "", Op.COPY, (x.tensor,), (y.tensor,), form, convert=Convert.BITS, lo=-128, hi=127, **walk
        )
    else:
        context.copy(node.name or "", x, y, form=form)
    context.set(node.outputs[0], y)


@lowers("Transpose")
def transpose(context: Context, node: Node) -> None:
    """A relabelling of axes; whoever needs another memory order copies then."""
    x = source(context, node.inputs[0])
    perm = tuple(graph.attribute(node, "perm", tuple(reversed(range(len(x.shape))))))
    order = tuple(perm.index(axis) for axis in x.order)
    shape = tuple(x.shape[axis] for axis in perm)
    context.set(node.outputs[0], Ref(x.tensor, shape, order, x.dtype, x.scale, x.zero_point))


def constant_list(node: Node, position: int, attribute: str, default: Sequence[int] | None) -> list[int] | None:
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
    starts, axes = constant_list(node, 1, "starts", None), constant_list(node, 3, "axes", None)
    steps = constant_list(node, 4, "steps", None)
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
        if shape[axis]:  # of a part without elements nothing is read
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
    column_row_depth = graph.attribute(node, "mode", "DCR") == "CRD"
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
