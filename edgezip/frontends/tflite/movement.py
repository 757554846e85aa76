"""Operators that move data: shapes, slices, joins, padding, resizing."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from edgezip.frontends.tflite.activation import fused
from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.schema import Array, Operator


def ints(e: Emitter, values: object) -> str:
    """A constant row of int64."""
    return e.initializer(np.asarray(values, np.int64).reshape(-1), "integers")


def axis_of(e: Emitter, op: Operator, axis: int, rank: int) -> int:
    """The axis from the front; raises InvalidModelError when there is none."""
    if not -rank <= axis < rank:
        raise e.fail(op, f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


@converts("RESHAPE")
def reshape(e: Emitter, op: Operator) -> None:
    """To the shape of the second input where it is known, else to the declared one."""
    size, declared = prod(e.tensor(op, 0).shape), list(e.shape_of(op))
    wanted = e.integers(op, 1) if e.is_constant(op, 1) else declared
    if wanted.count(-1) == 1 and 0 not in wanted:
        wanted[wanted.index(-1)] = size // max(-prod(wanted), 1)
    if min(wanted, default=1) < 0 or prod(wanted) != size:
        raise e.fail(op, f"{size} elements in shape {wanted}")
    e.give(op, e.node("Reshape", [e.value(op, 0), ints(e, wanted)], allowzero=1))


@converts("SQUEEZE")
def squeeze(e: Emitter, op: Operator) -> None:
    """Without the named dimensions of 1, or without all."""
    shape, o = e.tensor(op, 0).shape, op.options
    named = o.SqueezeDimsAsNumpy() if o is not None and o.SqueezeDimsLength() else ()
    axes = [axis_of(e, op, int(axis), len(shape)) for axis in named] or [axis for axis, dim in enumerate(shape) if dim == 1]
    e.give(op, e.node("Squeeze", [e.value(op, 0), ints(e, axes)]) if axes else e.value(op, 0))


@converts("EXPAND_DIMS")
def expand_dims(e: Emitter, op: Operator) -> None:
    """Inputs: x, the place of the new dimension."""
    axis = axis_of(e, op, e.integers(op, 1)[0], len(e.tensor(op, 0).shape) + 1)
    e.give(op, e.node("Unsqueeze", [e.value(op, 0), ints(e, [axis])]))


@converts("TRANSPOSE")
def transpose(e: Emitter, op: Operator) -> None:
    """By a constant permutation."""
    perm, rank = e.integers(op, 1), len(e.tensor(op, 0).shape)
    if sorted(perm) != list(range(rank)):
        raise e.fail(op, f"{perm} is no permutation of {rank} dimensions")
    e.give(op, e.node("Transpose", [e.value(op, 0)], perm=perm))


@converts("CONCATENATION")
def concatenation(e: Emitter, op: Operator) -> None:
    """Along one axis, with a fused activation."""
    o = e.options(op, "ConcatenationOptions")
    axis = axis_of(e, op, o.Axis(), len(e.shape_of(op)))
    y = e.node("Concat", [e.value(op, i) for i in range(len(op.inputs))], axis=axis)
    e.give(op, fused(e, op, y, o.FusedActivationFunction()))


@converts("PACK")
def pack(e: Emitter, op: Operator) -> None:
    """Joined along a new axis."""
    axis = axis_of(e, op, e.options(op, "PackOptions").Axis(), len(e.tensor(op, 0).shape) + 1)
    parts = [e.node("Unsqueeze", [e.value(op, i), ints(e, [axis])]) for i in range(len(op.inputs))]
    e.give(op, e.node("Concat", parts, axis=axis))


def _split(e: Emitter, op: Operator, value: str, axis: int, sizes: list[int], drop: bool = False) -> None:
    if len(sizes) != len(op.outputs) or min(sizes, default=0) < 0:
        raise e.fail(op, f"{len(op.outputs)} outputs for parts {sizes}")
    if len(sizes) == 1:
        parts = [value]
    else:
        parts = e.node("Split", [value, ints(e, sizes)], outputs=len(sizes), axis=axis)
    for position, part in enumerate(parts):
        e.give(op, e.node("Squeeze", [part, ints(e, [axis])]) if drop else part, position)


@converts("SPLIT")
def split(e: Emitter, op: Operator) -> None:
    """Inputs: axis, x; equal parts."""
    shape = e.tensor(op, 1).shape
    axis = axis_of(e, op, e.integers(op, 0)[0], len(shape))
    count = len(op.outputs)
    if not count or shape[axis] % count:
        raise e.fail(op, f"{shape[axis]} elements do not fall into {count} equal parts")
    _split(e, op, e.value(op, 1), axis, [shape[axis] // count] * count)


@converts("SPLIT_V")
def split_v(e: Emitter, op: Operator) -> None:
    """Inputs: x, sizes (one may be -1: the rest), axis."""
    shape, sizes = e.tensor(op, 0).shape, e.integers(op, 1)
    axis = axis_of(e, op, e.integers(op, 2)[0], len(shape))
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = shape[axis] - sum(size for size in sizes if size >= 0)
    _split(e, op, e.value(op, 0), axis, sizes)


@converts("UNPACK")
def unpack(e: Emitter, op: Operator) -> None:
    """One part for each index of an axis, without the axis."""
    shape = e.tensor(op, 0).shape
    axis = axis_of(e, op, e.options(op, "UnpackOptions").Axis(), len(shape))
    _split(e, op, e.value(op, 0), axis, [1] * shape[axis], drop=True)


@converts("SLICE")
def slice_(e: Emitter, op: Operator) -> None:
    """Inputs: x, begin, size (-1: to the end)."""
    shape, begin, size = e.tensor(op, 0).shape, e.integers(op, 1), e.integers(op, 2)
    if not len(begin) == len(size) == len(shape):
        raise e.fail(op, f"begin {begin}, size {size} of a tensor of shape {shape}")
    end = [b + s if s >= 0 else n for b, s, n in zip(begin, size, shape, strict=True)]
    e.give(op, e.node("Slice", [e.value(op, 0), ints(e, begin), ints(e, end), ints(e, range(len(shape)))]))


@converts("STRIDED_SLICE")
def strided_slice(e: Emitter, op: Operator) -> None:
    """Inputs: x, begin, end, strides; the masks for open ends, dropped and new axes, and one ellipsis."""
    o, shape = e.options(op, "StridedSliceOptions"), e.tensor(op, 0).shape
    columns = [e.integers(op, i) for i in (1, 2, 3)]
    if len({len(column) for column in columns}) != 1 or 0 in columns[2]:
        raise e.fail(op, f"begin, end and strides {columns} of a tensor of shape {shape}")
    entries = list(zip(*columns, strict=True))
    chosen: list[tuple[int, int, int, int]] = []  # begin, end, axis, stride
    dropped, fresh = [], []  # axes of x that go, places of the result that are new
    axis, place, far = 0, 0, 1 << 31
    for number, (first, last, stride) in enumerate(entries):
        bit = 1 << number
        if o.EllipsisMask() & bit:  # stands for every axis that no other entry names
            named = sum(not o.NewAxisMask() & (1 << later) for later in range(number + 1, len(entries)))
            covered = max(len(shape) - named - axis, 0)
            axis, place = axis + covered, place + covered
            continue
        if o.NewAxisMask() & bit:
            fresh.append(place)
            place += 1
            continue
        if o.ShrinkAxisMask() & bit:
            last, stride = first + 1 or far, 1
            dropped.append(axis)
        else:
            place += 1
            first = (0 if stride > 0 else far) if o.BeginMask() & bit else first
            last = (far if stride > 0 else -far) if o.EndMask() & bit else last
        chosen.append((first, last, axis, stride))
        axis += 1
    if axis > len(shape):
        raise e.fail(op, f"{len(entries)} entries for a tensor of shape {shape}")
    y = e.value(op, 0)
    if chosen:
        y = e.node("Slice", [y, *(ints(e, column) for column in zip(*chosen, strict=True))])
    if dropped:
        y = e.node("Squeeze", [y, ints(e, dropped)])
    if fresh:
        y = e.node("Unsqueeze", [y, ints(e, fresh)])
    e.give(op, y)


@converts("PAD", "PADV2", "MIRROR_PAD")
def pad(e: Emitter, op: Operator) -> None:
    """Inputs: x, (rank, 2) paddings, the value of PADV2."""
    pads = np.array(e.integers(op, 1), np.int64)
    rank = len(e.tensor(op, 0).shape)
    if pads.size != 2 * rank or pads.min(initial=0) < 0:
        raise e.fail(op, f"paddings {pads.tolist()} of a tensor of rank {rank}")
    mode = "constant"
    if op.name == "MIRROR_PAD":
        if e.options(op, "MirrorPadOptions").Mode() != 0:
            e.give(op, _symmetric(e, op, pads.reshape(-1, 2)))
            return
        mode = "reflect"
    filler = [e.value(op, 2)] if op.name == "PADV2" else []
    e.give(op, e.node("Pad", [e.value(op, 0), ints(e, pads.reshape(-1, 2).T), *filler], mode=mode))


def _symmetric(e: Emitter, op: Operator, pads: Array) -> str:
    """The edges mirrored with the edge itself, axis by axis."""
    y, shape = e.value(op, 0), e.tensor(op, 0).shape
    for axis, (before, after) in enumerate(pads.tolist()):
        if max(before, after) > shape[axis]:
            raise e.fail(op, f"padding {before}, {after} of {shape[axis]} elements")
        parts = []
        for start, end in ((0, before), (shape[axis] - after, shape[axis])):
            if end > start:
                parts.append(e.reversed(e.node("Slice", [y, ints(e, [start]), ints(e, [end]), ints(e, [axis])]), [axis]))
        if parts:
            middle = 1 if before else 0
            y = e.node("Concat", [*parts[:middle], y, *parts[middle:]], axis=axis)
    return y


@converts("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def resize(e: Emitter, op: Operator) -> None:
    """Inputs: NHWC image, (height, width)."""
    linear = op.name == "RESIZE_BILINEAR"
    o = e.options(op, "ResizeBilinearOptions" if linear else "ResizeNearestNeighborOptions")
    n, _, _, c = (*e.tensor(op, 0).shape, 0, 0, 0, 0)[:4]
    transform = "align_corners" if o.AlignCorners() else "half_pixel" if o.HalfPixelCenters() else "asymmetric"
    nearest: dict[str, Any] = {} if linear else {"nearest_mode": "floor" if transform == "asymmetric" else "round_prefer_ceil"}
    sizes = ints(e, [n, c, *e.integers(op, 1)])
    y = e.node(
        "Resize", [e.nchw(e.value(op, 0)), "", "", sizes], mode="linear" if linear else "nearest",
        coordinate_transformation_mode=transform, **nearest,
    )  # fmt: skip
    e.give(op, e.nhwc(y))


@converts("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def blocks(e: Emitter, op: Operator) -> None:
    """Blocks of pixels to channels and back, in TensorFlow's order."""
    deep = op.name == "DEPTH_TO_SPACE"
    size = e.options(op, "DepthToSpaceOptions" if deep else "SpaceToDepthOptions").BlockSize()
    if size < 1:
        raise e.fail(op, f"block size {size}")
    y = e.node("DepthToSpace" if deep else "SpaceToDepth", [e.nchw(e.value(op, 0))], blocksize=size)
    e.give(op, e.nhwc(y))


@converts("TILE")
def tile(e: Emitter, op: Operator) -> None:
    """Inputs: x, repeats."""
    e.give(op, e.node("Tile", [e.value(op, 0), ints(e, e.integers(op, 1))]))


@converts("BROADCAST_TO")
def broadcast_to(e: Emitter, op: Operator) -> None:
    """Inputs: x, the shape; the declared one where it is not known."""
    e.give(op, e.node("Expand", [e.value(op, 0), ints(e, e.integers(op, 1) if e.is_constant(op, 1) else e.shape_of(op))]))


@converts("SHAPE")
def shape(e: Emitter, op: Operator) -> None:
    """Known at once."""
    e.give_constant(op, np.array(e.tensor(op, 0).shape, e.graph.tensors[op.outputs[0]].dtype))
