"""Resize: nearest by index lists, linear by neighbours and weights; every coordinate rule becomes a table on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref
from edgezip.pack.context import UNCLIPPED, Context, QParams, Unsupported, constant_of, ratio
from edgezip.pack.lower.geometry import image, image_shape, like_output
from edgezip.pack.lower.movement import gather_axis, source
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.program import DType, Op

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]


def coordinates(mode: str, size_in: int, size_out: int, scale: float) -> Array:
    """float32 position in the input of each output index (ONNX Resize, coordinate_transformation_mode)."""
    index, scale32 = np.arange(size_out, dtype=np.float32), np.float32(scale)
    match mode:
        case "half_pixel":
            return (index + np.float32(0.5)) / scale32 - np.float32(0.5)
        case "pytorch_half_pixel":
            return (index + np.float32(0.5)) / scale32 - np.float32(0.5) if size_out > 1 else np.zeros(1, np.float32)
        case "half_pixel_symmetric":
            adjust = np.float32(size_out / (scale * size_in))
            centre = np.float32(size_in / 2)
            return centre * (1 - adjust) + (index + np.float32(0.5)) / scale32 - np.float32(0.5)
        case "align_corners":
            return index * np.float32((size_in - 1) / (size_out - 1)) if size_out > 1 else np.zeros(1, np.float32)
        case "asymmetric":
            return index / scale32
    raise Unsupported(f"has coordinate_transformation_mode {mode}")


def nearest_index(position: Array, rule: str, size_in: int) -> Array:
    """int32 input index of each position (ONNX Resize, nearest_mode)."""
    rules: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda p: np.ceil(p - np.float32(0.5)),
        "round_prefer_ceil": lambda p: np.floor(p + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if rule not in rules:
        raise Unsupported(f"has nearest_mode {rule}")
    index: Array = np.clip(rules[rule](position), 0, size_in - 1).astype(np.int32)
    return index


def neighbours(position: Array, size_in: int) -> tuple[Array, Array]:
    """int32 (2, n) indices below and above each position and the float32 weight of the one above."""
    inside = np.clip(position, 0, size_in - 1).astype(np.float32)
    below = np.floor(inside).astype(np.int32)
    return np.stack([below, np.minimum(below + 1, size_in - 1)]), (inside - below).astype(np.float32)


def _scales(node: Node, x: tuple[int, ...], y: tuple[int, ...]) -> list[float]:
    position = 2 if node.op_type == "Resize" else 1
    held = constant_of(node.inputs[position]) if len(node.inputs) > position and node.inputs[position] is not None else None
    if graph.attribute(node, "axes") is not None or graph.attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("has axes or keep_aspect_ratio_policy")
    if int(graph.attribute(node, "antialias", 0)):
        raise Unsupported("has antialias")
    if held is not None and held.size == len(x):
        _check_whole(node, x, held)
        return [float(v) for v in held]
    return [o / i for o, i in zip(y, x, strict=True)]


def _check_whole(node: Node, x: tuple[int, ...], scales: Array) -> None:
    """align_corners needs the output's size; where scale times size is not whole, ONNX and ONNX Runtime disagree on it."""
    sizes = np.asarray(x) * scales.astype(np.float64)
    aligned = graph.attribute(node, "coordinate_transformation_mode", "half_pixel") == "align_corners"
    if aligned and not np.allclose(sizes, np.rint(sizes), rtol=0, atol=1e-3):
        raise Unsupported("has align_corners and scales that give no whole size: export it with sizes instead")


def _value(value: Value | None) -> Value:
    assert value is not None
    return value


def _resize(context: Context, node: Node, x: Ref, target: Target8 | None) -> Ref:
    shape_in, shape = graph.shape(_value(node.inputs[0])), graph.shape(node.outputs[0])
    if shape_in[:2] != shape[:2]:
        raise Unsupported("changes batch or channels")
    scales = _scales(node, shape_in, shape)
    spatial = ([1.0] if len(shape) == 3 else []) + scales[2:]
    x = image(context, x)
    sizes = image_shape(shape)[2:]
    rule = graph.attribute(node, "coordinate_transformation_mode", "half_pixel" if node.op_type == "Resize" else "asymmetric")
    places = [coordinates(rule, i, o, s) for i, o, s in zip(x.shape[2:], sizes, spatial, strict=True)]
    mode = graph.attribute(node, "mode", "nearest")
    if mode == "nearest":
        made = _nearest(context, node, x, places)
    elif mode == "linear":
        made = _linear(context, node, x, places, target)
    else:
        raise Unsupported(f"has mode {mode}")
    return like_output(context, made, shape)


def _nearest(context: Context, node: Node, x: Ref, places: list[Array]) -> Ref:
    rule = graph.attribute(node, "nearest_mode", "round_prefer_floor" if node.op_type == "Resize" else "floor")
    indices_of = {axis: nearest_index(position, rule, x.shape[axis]) for axis, position in zip((2, 3), places, strict=True)}
    factors = [_repetition(index, x.shape[axis]) for axis, index in indices_of.items()]
    if all(factors) and factors != [1, 1]:
        return _repeated(context, node, x, factors[0], factors[1])
    for axis, index in indices_of.items():
        if np.array_equal(index, np.arange(x.shape[axis])):
            continue
        shape = tuple(len(index) if a == axis else d for a, d in enumerate(x.shape))
        indices = context.constant(f"{node.name}.index{axis}", index)
        x = gather_axis(context, node, x, axis, indices, shape, x.order, f"{node.outputs[0].name}.axis{axis}")
    return x


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
    tables = []
    for name, position, size in zip("hw", places, x.shape[2:], strict=True):
        index, weight = neighbours(position, size)
        tables += [context.constant(f"{node.name}.index_{name}", index), context.constant(f"{node.name}.weight_{name}", weight)]
    q = target.q if target else QParams(x.scale, x.zero_point)
    made = context.new(node.outputs[0].name or "", (*x.shape[:2], len(places[0]), len(places[1])), x.order, x.dtype, q)
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
    return made


@lowers("Resize", "Upsample")
def resize(context: Context, node: Node) -> None:
    """Nearest on any dtype, linear in float32."""
    linear = graph.attribute(node, "mode", "nearest") == "linear"
    x = context.value(_value(node.inputs[0])) if linear else source(context, node.inputs[0])
    context.set(node.outputs[0], _resize(context, node, x, None))


@lowers_int8("Resize", "Upsample")
def resize_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Resize between Q/DQ."""
    clip = UNCLIPPED if graph.attribute(node, "mode", "nearest") == "linear" else target.clip
    resized = _resize(context, node, source(context, node.inputs[0]), target)
    return context.quantized(resized, target.q, f"{node.outputs[0].name}.int8", clip=clip)
