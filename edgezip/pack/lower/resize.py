"""Resize: nearest by index lists, linear pictures by neighbours, all else by weighted sums; every rule is a table of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref, elements
from edgezip.pack.context import UNCLIPPED, Context, QParams, Unsupported, constant_of, ratio
from edgezip.pack.lower.geometry import image, image_shape, like_output
from edgezip.pack.lower.movement import gather_axis, source
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.pack.lower.resize_tables import Along, Kernel, coordinates, is_outside, nearest_index, neighbours, taps
from edgezip.program import DType, Op

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]
CROP = "tf_crop_and_resize"
MODES = ("nearest", "linear", "cubic")


def _value(value: Value | None) -> Value:
    assert value is not None
    return value


# --- what the node says ---------------------------------------------------------------------------------------------


def _constant(node: Node, position: int, what: str) -> Array | None:
    """Input ``position`` as a flat array, None when it is absent or empty."""
    value = node.inputs[position] if len(node.inputs) > position else None
    held = constant_of(value)
    if value is not None and held is None:
        raise Unsupported(f"has {what} that are computed at run time")
    return held.reshape(-1) if held is not None and held.size else None


def axes_of(node: Node, x: tuple[int, ...], y: tuple[int, ...]) -> list[Along]:
    """Every axis of the input; those that ``axes`` leaves out stay as they are. Raises Unsupported."""
    is_resize = node.op_type == "Resize"
    listed = [int(axis) % len(x) for axis in graph.attribute(node, "axes", range(len(x)))]
    scales = _constant(node, 2 if is_resize else 1, "scales")
    factors = [o / i for o, i in zip(y, x, strict=True)]
    if scales is not None and len(scales) == len(listed):
        for axis, scale in zip(listed, scales, strict=True):
            factors[axis] = float(scale)
    elif graph.attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        _keep_aspect(node, x, listed, factors)
    region = _constant(node, 1, "regions") if _rule(node) == CROP else None
    ends = [(0.0, 1.0)] * len(x)
    if region is not None and len(region) == 2 * len(listed):
        for place, axis in enumerate(listed):
            ends[axis] = float(region[place]), float(region[place + len(listed)])
    return [Along(i, o, s, *span) for i, o, s, span in zip(x, y, factors, ends, strict=True)]


def _keep_aspect(node: Node, x: tuple[int, ...], listed: list[int], factors: list[float]) -> None:
    """One factor for all listed axes: the smallest or largest that the sizes ask for, not what their rounding made of it."""
    sizes = _constant(node, 3, "sizes")
    if sizes is None:
        return
    asked = [int(size) / x[axis] for size, axis in zip(sizes, listed, strict=True)]
    shared = min(asked) if graph.attribute(node, "keep_aspect_ratio_policy") == "not_larger" else max(asked)
    for axis in listed:
        factors[axis] = shared


def _rule(node: Node) -> str:
    default = "half_pixel" if node.op_type == "Resize" else "asymmetric"
    return str(graph.attribute(node, "coordinate_transformation_mode", default))


def _kernel(node: Node) -> Kernel:
    flags = [bool(graph.attribute(node, name, 0)) for name in ("antialias", "exclude_outside")]
    return Kernel(
        graph.attribute(node, "mode", "nearest") == "cubic", float(graph.attribute(node, "cubic_coeff_a", -0.75)), *flags
    )


def interpolates_in_int8(node: Node) -> bool:
    """Whether the int8 kernels have this form: nearest, or linear between two pixels, of a whole picture."""
    mode, widened = graph.attribute(node, "mode", "nearest"), graph.attribute(node, "antialias", 0)
    return _rule(node) != CROP and (mode == "nearest" or (mode == "linear" and not widened))


# --- the steps ------------------------------------------------------------------------------------------------------


def _resize(context: Context, node: Node, x: Ref, target: Target8 | None) -> Ref:
    mode = graph.attribute(node, "mode", "nearest")
    if mode not in MODES:
        raise Unsupported(f"has mode {mode}")
    shape = graph.shape(node.outputs[0])
    along = axes_of(node, x.shape, shape)
    places = [coordinates(_rule(node), axis) for axis in along]
    outside = [is_outside(p, a.size_in) & (_rule(node) == CROP) for p, a in zip(places, along, strict=True)]
    fills, pictures = any(o.any() for o in outside), len(x.shape) in (3, 4) and x.shape[:2] == shape[:2]
    if mode == "nearest" and not fills:
        return _nearest(context, node, image(context, x) if pictures else x, places, pictures)
    if mode == "linear" and not fills and pictures and not graph.attribute(node, "antialias", 0):
        return _linear(context, node, image(context, x), places, target)
    if target is not None:
        raise Unsupported("mode cubic, antialias and crops have no int8 kernel")
    return _weighted(context, node, context.last(x) if pictures else x, along, places, outside)


def _nearest(context: Context, node: Node, x: Ref, places: list[Array], pictures: bool) -> Ref:
    """By index lists, one axis after another; a picture that only repeats pixels in one copy."""
    rule = graph.attribute(node, "nearest_mode", "round_prefer_floor" if node.op_type == "Resize" else "floor")
    places = _of_picture(places) if pictures else places
    indices = [nearest_index(position, rule, size) for position, size in zip(places, x.shape, strict=True)]
    shape = graph.shape(node.outputs[0])
    if pictures and not context.uniform:
        factors = [_repetition(index, size) for index, size in zip(indices[2:], x.shape[2:], strict=True)]
        if all(factors) and factors != [1, 1]:
            return like_output(context, _repeated(context, node, x, factors[0], factors[1]), shape)
    for axis, index in enumerate(indices):
        if np.array_equal(index, np.arange(x.shape[axis])):
            continue
        made = tuple(len(index) if a == axis else d for a, d in enumerate(x.shape))
        held = context.constant(f"{node.name}.index{axis}", index)
        x = gather_axis(context, node, x, axis, held, made, x.order, f"{node.outputs[0].name}.axis{axis}")
    return like_output(context, x, shape) if pictures else x


def _of_picture(places: list[Array]) -> list[Array]:
    """Places of four axes; a line is a picture of one row."""
    return places if len(places) == 4 else [*places[:2], np.zeros(1, np.float32), places[2]]


def _repetition(index: Array, size_in: int) -> int:
    """k when every input index stands k times in a row, else 0."""
    factor = len(index) // size_in
    return factor if np.array_equal(index, np.repeat(np.arange(size_in), factor)) else 0


def _repeated(context: Context, node: Node, x: Ref, down: int, across: int) -> Ref:
    """Each pixel ``down`` by ``across`` times: one copy."""
    n, channels, height, width = x.shape
    shape = (n, channels, height * down, width * across)
    y = context.new(node.outputs[0].name or "", shape, x.order, x.dtype, QParams(x.scale, x.zero_point))
    row, line = width * channels, width * across * channels
    context.strided(
        node.name or "",
        x,
        y,
        [n * height, down, width, across, channels],
        [row, 0, channels, 0, 1],
        [line * down, line, across * channels, channels, 1],
        form={"op": node.op_type, "node": node.name},
    )
    return y


def _linear(context: Context, node: Node, x: Ref, places: list[Array], target: Target8 | None) -> Ref:
    """A picture of rows and columns in one step, between two neighbours each."""
    shape = graph.shape(node.outputs[0])
    tables = []
    for name, position in zip("hw", _of_picture(places)[2:], strict=True):
        index, weight = neighbours(position)
        tables += [context.constant(f"{node.name}.index_{name}", index), context.constant(f"{node.name}.weight_{name}", weight)]
    q = target.q if target else QParams(x.scale, x.zero_point)
    made = context.new(node.outputs[0].name or "", image_shape(shape), x.order, x.dtype, q)
    lo, hi = (target.lo, target.hi) if target else (-128, 127)
    context.builder.step(
        node.name or "",
        Op.RESIZE,
        (x.tensor, *(t.tensor for t in tables)),
        (made.tensor,),
        {"op": node.op_type, "node": node.name, "form": "int8" if target else "float32"},
        scale=ratio(x.scale, q.scale) if x.dtype is DType.S8 else 1.0,
        lo=lo,
        hi=hi,
    )
    return like_output(context, made, shape)


def _weighted(context: Context, node: Node, x: Ref, along: list[Along], places: list[Array], outside: list[Array]) -> Ref:
    """float32 sums of taps along one axis after another; what lies outside of a crop weighs nothing and starts from the fill."""
    if x.dtype is not DType.F32:
        raise Unsupported(f"interpolates {x.dtype.name}; the runtime does it in float32")
    fill = np.float32(graph.attribute(node, "extrapolation_value", 0.0))
    for axis, (a, position, out) in enumerate(zip(along, places, outside, strict=True)):
        if np.array_equal(position, np.arange(a.size_in)):
            continue
        index, weight = _taps(node, np.where(out, np.float32(0), position), a)
        weight = np.where(out[:, None], np.float32(0), weight)
        x = _sums(context, node, x, axis, index, weight, np.where(out, fill, np.float32(0)))
    return x


def _taps(node: Node, position: Array, along: Along) -> tuple[Array, Array]:
    if graph.attribute(node, "mode", "nearest") == "nearest":
        index = nearest_index(position, graph.attribute(node, "nearest_mode", "round_prefer_floor"), along.size_in)
        return index[:, None], np.ones((along.size_out, 1), np.float32)
    return taps(position, along, _kernel(node))


def _sums(context: Context, node: Node, x: Ref, axis: int, index: Array, weight: Array, base: Array) -> Ref:
    """Append the INTERPOLATE step along ``axis``."""
    place = x.order.index(axis)
    shape = tuple(len(base) if a == axis else d for a, d in enumerate(x.shape))
    y = context.new(f"{node.outputs[0].name}.axis{axis}", shape, x.order, DType.F32)
    tables = [
        context.constant(f"{node.name}.{name}{axis}", array.astype(kind))
        for name, array, kind in (("index", index, np.int32), ("weight", weight, np.float32), ("base", base, np.float32))
    ]
    context.builder.step(
        node.name or "", Op.INTERPOLATE, (x.tensor, *(t.tensor for t in tables)), (y.tensor,),
        {"op": node.op_type, "node": node.name, "form": "float32"}, outer=elements(x.dims[:place]), n=x.shape[axis],
        inner=elements(x.dims[place + 1 :]), m=len(base), taps=index.shape[1],
    )  # fmt: skip
    return y


@lowers("Resize", "Upsample")
def resize(context: Context, node: Node) -> None:
    """Nearest on any dtype, linear and cubic in float32."""
    nearest = graph.attribute(node, "mode", "nearest") == "nearest" and _rule(node) != CROP
    x = source(context, node.inputs[0]) if nearest else context.value(_value(node.inputs[0]))
    context.set(node.outputs[0], _resize(context, node, x, None))


@lowers_int8("Resize", "Upsample")
def resize_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Resize between Q/DQ."""
    if not interpolates_in_int8(node):
        raise Unsupported("mode cubic, antialias and crops have no int8 kernel")
    clip = UNCLIPPED if graph.attribute(node, "mode", "nearest") == "linear" else target.clip
    resized = _resize(context, node, source(context, node.inputs[0]), target)
    return context.quantized(resized, target.q, f"{node.outputs[0].name}.int8", clip=clip)
