"""Pooling and reductions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref, elements, plain
from edgezip.pack.context import UNCLIPPED, Context, QParams, Unsupported, constant_of, ratio
from edgezip.pack.lower.arithmetic import emit_fold, window
from edgezip.pack.lower.elementwise import emit_binary
from edgezip.pack.lower.geometry import Window, image, image_shape, like_output, window_of
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.pack.weights import params_of
from edgezip.program import Binary, DType, Fold, Op, Pool, Reduce, Unary
from edgezip.program import Window as Window_

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

REDUCE = {"ReduceMean": Reduce.MEAN, "ReduceSum": Reduce.SUM, "ReduceMax": Reduce.MAX, "ReduceMin": Reduce.MIN}


def _value(value: Value | None) -> Value:
    assert value is not None
    return value


def _window(node: Node, x: Ref) -> Window:
    if node.op_type.startswith("Global"):
        return Window((x.shape[2], x.shape[3]), (1, 1), (1, 1), (0, 0), (0, 0))
    shape, spatial = graph.shape(node.outputs[0]), graph.shape(_value(node.inputs[0]))[2:]
    return window_of(node, tuple(graph.attribute(node, "kernel_shape")), spatial, shape[2:])


def _pool(context: Context, node: Node, x: Ref, target: Target8 | None) -> Ref:
    if len(node.outputs) > 1 and graph.consumers(node.outputs[1]):
        raise Unsupported("gives indices of the maxima")
    x = image(context, x)
    window = _window(node, x)
    shape = graph.shape(node.outputs[0])
    kind = Pool.MAX if "Max" in node.op_type else Pool.AVERAGE
    own = QParams(x.scale, x.zero_point)
    q = own if kind is Pool.MAX or target is None else target.q
    made = context.new(node.outputs[0].name or "", image_shape(shape), (0, 2, 3, 1), x.dtype, q)
    delivers = target is not None and q == target.q  # else a requantising copy follows, and clips
    lo, hi = target.clip if target is not None and delivers else UNCLIPPED
    include = int(graph.attribute(node, "count_include_pad", 0))
    if include and int(graph.attribute(node, "ceil_mode", 0)):
        raise Unsupported("has count_include_pad with ceil_mode")
    context.builder.step(
        node.name or "",
        Op.POOL,
        (x.tensor,),
        (made.tensor,),
        {"op": node.op_type, "node": node.name, "form": "int8" if target else "float32"},
        kind=kind,
        kernel_h=window.kernel[0],
        kernel_w=window.kernel[1],
        stride_h=window.stride[0],
        stride_w=window.stride[1],
        dilation_h=window.dilation[0],
        dilation_w=window.dilation[1],
        pad_top=window.pad[0],
        pad_left=window.pad[1],
        pad_bottom=window.pad_end[0],
        pad_right=window.pad_end[1],
        count_include_pad=include,
        scale=ratio(x.scale, q.scale) if x.dtype is DType.S8 else 1.0,
        lo=lo,
        hi=hi,
    )
    return like_output(context, made, shape)


def _needs_window(node: Node) -> bool:
    """Whether the pooling is one that the fast kernel does not take: other ranks, places of maxima, uint8, odd counting."""
    places = len(node.outputs) > 1 and bool(graph.consumers(node.outputs[1]) or graph.is_graph_output(node.outputs[1]))
    source = _value(node.inputs[0])
    odd = int(graph.attribute(node, "count_include_pad", 0)) and int(graph.attribute(node, "ceil_mode", 0))
    return places or bool(odd) or len(graph.shape(source)) not in (3, 4) or graph.dtype(source) == np.uint8


def _geometry(node: Node) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations, pads before and behind, for any number of spatial axes."""
    kernel = list(graph.attribute(node, "kernel_shape"))
    count = len(kernel)
    stride, dilation = (list(graph.attribute(node, name, (1,) * count)) for name in ("strides", "dilations"))
    pads = list(graph.attribute(node, "pads", (0,) * 2 * count))
    auto = graph.attribute(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        spatial, out = graph.shape(_value(node.inputs[0]))[2:], graph.shape(node.outputs[0])[2:]
        total = [
            max((o - 1) * s + (k - 1) * d + 1 - i, 0)
            for o, s, k, d, i in zip(out, stride, kernel, dilation, spatial, strict=True)
        ]
        begin = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
        pads = [*begin, *(t - b for t, b in zip(total, begin, strict=True))]
    elif auto == "VALID":
        pads = [0] * 2 * count
    return kernel, stride, dilation, pads[:count], pads[count:]


@lowers("LpPool")
def lp_pool(context: Context, node: Node) -> None:
    """The p-norm of each window."""
    window(context, node, Window_.LP, _geometry(node))


@lowers("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
def pool(context: Context, node: Node) -> None:
    """Pooling in float32 (the maximum also in int8, whose scale it keeps)."""
    source = _value(node.inputs[0])
    x = context.int8(source) if "Max" in node.op_type else None
    if x is None and not node.op_type.startswith("Global") and _needs_window(node):
        window(context, node, Window_.MAX if "Max" in node.op_type else Window_.AVERAGE, _geometry(node))
        return
    context.set(node.outputs[0], _pool(context, node, x if x is not None else context.value(source), None))


@lowers_int8("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
def pool_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Pooling between Q/DQ."""
    x = context.int8(_value(node.inputs[0]))
    assert x is not None
    clip = UNCLIPPED if "Max" not in node.op_type or params_of(x) == target.q else target.clip
    return context.quantized(_pool(context, node, x, target), target.q, f"{node.outputs[0].name}.int8", clip=clip)


def _axes(node: Node, rank: int) -> list[int]:
    axes = graph.attribute(node, "axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        held = constant_of(node.inputs[1])
        if held is None:
            raise Unsupported("has axes computed at run time")
        axes = held.reshape(-1).tolist()
    if not axes:
        return [] if int(graph.attribute(node, "noop_with_empty_axes", 0)) else list(range(rank))
    return sorted(int(axis) % rank for axis in axes)


@lowers("ReduceProd")
def product(context: Context, node: Node) -> None:
    """Product over axes, ascending."""
    x = context.value(_value(node.inputs[0]))
    context.set(node.outputs[0], emit_fold(context, node, Fold.PRODUCT, x, _axes(node, len(x.shape))))


def _reduce(context: Context, node: Node, x: Ref, target: Target8 | None, kind: Reduce | None = None) -> Ref:
    rank = len(x.shape)
    axes = _axes(node, rank)
    kind = REDUCE[node.op_type] if kind is None else kind
    places = [i for i, axis in enumerate(x.order) if axis in axes]
    if places and places != list(range(places[0], places[0] + len(places))):  # bring the axes together, innermost
        x = context.ordered(x, tuple([a for a in x.order if a not in axes] + axes))
        places = list(range(rank - len(axes), rank))
    dims = x.dims
    first, last = (places[0], places[-1] + 1) if places else (rank, rank)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    moves = kind in (Reduce.MAX, Reduce.MIN)
    q = None if x.dtype is not DType.S8 else QParams(x.scale, x.zero_point) if moves or target is None else target.q
    y = context.new(node.outputs[0].name or "", kept, x.order, x.dtype, q)
    params: dict[str, Any] = {"scale": ratio(x.scale, q.scale) if q else 1.0, "lo": -128, "hi": 127}
    if target is not None and not moves:
        params |= {"lo": target.lo, "hi": target.hi}
    context.builder.step(
        node.name or "",
        Op.REDUCE,
        (x.tensor,),
        (y.tensor,),
        {"op": node.op_type, "node": node.name, "form": "int8" if q else "float32"},
        kind=kind,
        outer=elements(dims[:first]),
        n=elements(dims[first:last]),
        inner=elements(dims[last:]),
        **params,
    )
    shape = graph.shape(node.outputs[0])
    if shape == kept:
        return y
    remaining = [axis for axis in range(rank) if axis not in axes]
    order = tuple(remaining.index(axis) for axis in y.order if axis in remaining)
    return context.relabelled(y, shape, order or plain(len(shape)))


@lowers(*REDUCE)
def reduce(context: Context, node: Node) -> None:
    """Sum, mean or extreme over axes, in float32; sums and extremes of whole numbers."""
    x = context.value(_value(node.inputs[0]))
    if x.dtype is not DType.F32 and node.op_type != "ReduceMean":
        kinds = {"ReduceSum": Fold.SUM, "ReduceMax": Fold.MAX, "ReduceMin": Fold.MIN}
        context.set(node.outputs[0], emit_fold(context, node, kinds[node.op_type], x, _axes(node, len(x.shape))))
        return
    context.set(node.outputs[0], _reduce(context, node, context.value(_value(node.inputs[0])), None))


@lowers("ReduceL2", "ReduceSumSquare")
def reduce_squares(context: Context, node: Node) -> None:
    """The sum of squares over axes in float32, and its root."""
    x = context.value(_value(node.inputs[0]))
    if x.dtype is not DType.F32:
        raise Unsupported(f"works on {x.dtype.name}; the runtime has it for float32")
    squares = context.like(x, f"{node.outputs[0].name}.squares")
    emit_binary(context, node, Binary.MUL, x, x, squares, {})
    y = _reduce(context, node, squares, None, Reduce.SUM)
    if node.op_type == "ReduceL2":
        root = context.like(y, node.outputs[0].name or "")
        form = {"op": node.op_type, "node": node.name, "form": "float32"}
        context.builder.step(node.name or "", Op.UNARY, (y.tensor,), (root.tensor,), form, kind=Unary.SQRT, alpha=0.0, beta=0.0)
        y = root
    context.set(node.outputs[0], y)


@lowers_int8(*REDUCE)
def reduce_int8(context: Context, node: Node, target: Target8) -> Ref:
    """Sum, mean or extreme over axes between Q/DQ."""
    x = context.int8(_value(node.inputs[0]))
    assert x is not None
    clip = target.clip if REDUCE[node.op_type] in (Reduce.MAX, Reduce.MIN) else UNCLIPPED
    return context.quantized(_reduce(context, node, x, target), target.q, f"{node.outputs[0].name}.int8", clip=clip)
