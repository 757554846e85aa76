"""Choice and search: extremes' places, the k best, elements by index, suppression of overlapping boxes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import counted, graph
from edgezip.pack.builder import Ref, elements, plain
from edgezip.pack.context import Context, QParams, Unsupported, constant_of
from edgezip.pack.lower.movement import gather_axis, source
from edgezip.pack.lower.registry import lowers
from edgezip.program import DType, Fold, Op, Reduce, Scatter

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]


def value_of(value: Value | None) -> Value:
    """A required input."""
    assert value is not None
    return value


def _form(node: Node) -> dict[str, Any]:
    return {"op": node.op_type, "node": node.name, "form": "float32"}


def folded(x: Ref, axis: int) -> dict[str, int]:
    """Sizes before, along and behind ``axis`` of a value in plain order."""
    return {"outer": elements(x.shape[:axis]), "n": x.shape[axis], "inner": elements(x.shape[axis + 1 :])}


def result(context: Context, node: Node, dtype: DType, output: int = 0, like: Ref | None = None) -> Ref:
    """A new value in plain order for an output of the node."""
    value = node.outputs[output]
    shape = graph.shape(value)
    q = QParams(like.scale, like.zero_point) if like is not None else None
    return context.new(value.name or f"{node.name}.{output}", shape, plain(len(shape)), dtype, q)


@lowers("ArgMax", "ArgMin")
def arg(context: Context, node: Node) -> None:
    """The place of the extreme along one axis; of equal ones the first, or the last."""
    x = context.plain(source(context, node.inputs[0]))
    axis = int(graph.attribute(node, "axis", 0)) % max(len(x.shape), 1)
    y = result(context, node, DType.S64)
    kind = Reduce.MAX if node.op_type == "ArgMax" else Reduce.MIN
    last = int(graph.attribute(node, "select_last_index", 0))
    context.builder.step(node.name or "", Op.ARG, (x.tensor,), (y.tensor,), _form(node), kind=kind, last=last, **folded(x, axis))
    context.set(node.outputs[0], y)


@lowers("TopK")
def top_k(context: Context, node: Node) -> None:
    """Values and places of the k best of an axis, best first."""
    x = context.plain(context.value(value_of(node.inputs[0])))
    axis = int(graph.attribute(node, "axis", -1)) % max(len(x.shape), 1)
    values, places = result(context, node, x.dtype), result(context, node, DType.S64, 1)
    sizes = {**folded(x, axis), "k": graph.shape(node.outputs[0])[axis], "largest": int(graph.attribute(node, "largest", 1))}
    context.builder.step(node.name or "", Op.TOPK, (x.tensor,), (values.tensor, places.tensor), _form(node), **sizes)
    context.set(node.outputs[0], values)
    context.set(node.outputs[1], places)


@lowers("CumSum", "CumProd")
def cumulate(context: Context, node: Node) -> None:
    """Running sums or products along one axis."""
    x = context.plain(context.value(value_of(node.inputs[0])))
    held = constant_of(node.inputs[1])
    if held is None:
        raise Unsupported("has an axis that is computed at run time")
    y = result(context, node, x.dtype)
    flags = {name: int(graph.attribute(node, name, 0)) for name in ("exclusive", "reverse")}
    kind = Fold.SUM if node.op_type == "CumSum" else Fold.PRODUCT
    sizes = folded(x, int(held.reshape(-1)[0]) % max(len(x.shape), 1))
    context.builder.step(node.name or "", Op.CUMULATE, (x.tensor,), (y.tensor,), _form(node), kind=kind, **flags, **sizes)
    context.set(node.outputs[0], y)


# --- by index -------------------------------------------------------------------------------------


def _index(context: Context, node: Node) -> Ref:
    index = context.plain(context.value(value_of(node.inputs[1])))
    if index.dtype not in (DType.S32, DType.S64):
        raise Unsupported(f"has indices of type {index.dtype.name}")
    return index


def _by_element(node: Node, x: Ref, index: Ref) -> dict[str, Any]:
    axis = int(graph.attribute(node, "axis", 0)) % len(x.shape)
    rows = elements(index.shape)
    sizes = {"axis": axis, "rank": len(x.shape), "rows": rows, "inner": 1, "batch_rows": rows}
    return {**sizes, "dims": index.shape, "extents": x.shape, "strides": x.strides()}


def _by_tuple(x: Ref, index: Ref, batch: int = 0) -> dict[str, Any]:
    depth = index.shape[-1]
    batch_rows = elements(index.shape[batch:-1])
    strides = x.strides()
    sizes = {"axis": -1, "depth": depth, "rows": elements(index.shape[:-1]), "inner": elements(x.shape[batch + depth :])}
    stride = strides[batch - 1] if batch else 0
    places = {"extents": x.shape[batch : batch + depth], "strides": strides[batch : batch + depth]}
    return {**sizes, "batch_rows": batch_rows, "batch_stride": stride, **places}


@lowers("GatherElements", "GatherND")
def take(context: Context, node: Node) -> None:
    """Elements, or slices, that an index tensor names one by one."""
    x, index = context.plain(source(context, node.inputs[0])), _index(context, node)
    y = result(context, node, x.dtype, like=x)
    by_element = node.op_type == "GatherElements"
    p = _by_element(node, x, index) if by_element else _by_tuple(x, index, int(graph.attribute(node, "batch_dims", 0)))
    context.builder.step(node.name or "", Op.TAKE, (x.tensor, index.tensor), (y.tensor,), _form(node), **p)
    context.set(node.outputs[0], y)


REDUCTIONS = {"none": Scatter.SET, "add": Scatter.ADD, "mul": Scatter.MUL, "min": Scatter.MIN, "max": Scatter.MAX}


@lowers("ScatterElements", "ScatterND", "Scatter")
def scatter(context: Context, node: Node) -> None:
    """A copy with the named elements replaced or joined, in order."""
    x, index = context.plain(context.value(value_of(node.inputs[0]))), _index(context, node)
    updates = context.plain(context.value(value_of(node.inputs[2])))
    y = result(context, node, x.dtype)
    p = _by_tuple(x, index) if node.op_type == "ScatterND" else _by_element(node, x, index)
    p["reduction"] = REDUCTIONS[graph.attribute(node, "reduction", "none")]
    if p["reduction"] and x.dtype is DType.BOOL:
        raise Unsupported("joins bool values")
    inputs = (x.tensor, index.tensor, updates.tensor)
    context.builder.step(node.name or "", Op.SCATTER, inputs, (y.tensor,), _form(node), **p)
    context.set(node.outputs[0], y)


# --- detection ------------------------------------------------------------------------------------


def _number(node: Node, position: int, default: float) -> float:
    value = node.inputs[position] if len(node.inputs) > position else None
    held = constant_of(value)
    if value is not None and held is None:
        raise Unsupported("has limits that are computed at run time")
    return default if held is None else float(held.reshape(-1)[0])


@lowers("NonMaxSuppression")
def suppress(context: Context, node: Node) -> None:
    """Room for the most boxes there can be; rows beyond the count are -1, and the count is a further output."""
    boxes, scores = (context.plain(context.value(value_of(value))) for value in node.inputs[:2])
    batch, classes, count = scores.shape
    bound = graph.shape(node.outputs[0])[0]
    y = context.new(node.outputs[0].name or "", (bound, 3), (0, 1), DType.S64)
    number = context.new(f"{node.outputs[0].name}.count", (1,), (0,), DType.S64)
    most = int(min(_number(node, 2, 0), count))
    context.builder.step(
        node.name or "", Op.NMS, (boxes.tensor, scores.tensor), (y.tensor, number.tensor), _form(node),
        batch=batch, boxes=count, classes=classes, bound=bound, most=most,
        center=int(graph.attribute(node, "center_point_box", 0)), iou=_number(node, 3, 0.0), score=_number(node, 4, -math.inf),
    )  # fmt: skip
    context.set(node.outputs[0], y)
    if graph.get_metadata(node, graph.ROWS_ARE_READ) is None:
        context.counts.append((f"{node.outputs[0].name}.count", number))


# --- as many rows as the data says ---------------------------------------------------------------------


def _count(context: Context, node: Node, number: Ref, axes: dict[int, int]) -> None:
    """``<name>.count`` of the results that have the rows of the outputs ``axes`` (axis of each), more than are meant."""
    for place, axis in axes.items():
        if place >= len(node.outputs):
            continue
        found = counted.results(node.outputs[place], axis)
        if found is None:
            raise Unsupported("has rows that only the data count, and nodes behind it mix them")
        context.counts += [(f"{name}.count", number) for name in found]


def _where(context: Context, node: Node, condition: Ref, dims: tuple[int, ...] = ()) -> tuple[Ref, Ref]:
    """Places where a condition holds, and their number: indices into ``dims``, a row for each axis, or one list of places."""
    n = elements(condition.shape)
    places = context.new(f"{node.name}.places", (len(dims), n) if dims else (n,), (0, 1) if dims else (0,), DType.S64)
    number = context.new(f"{node.name}.count", (1,), (0,), DType.S64)
    context.builder.step(
        node.name or "",
        Op.PLACES,
        (condition.tensor,),
        (places.tensor, number.tensor),
        _form(node),
        n=n,
        rank=len(dims),
        dims=dims,
    )
    return places, number


def _rows(context: Context, node: Node, x: Ref, axis: int, places: Ref) -> None:
    """The first output: slices of ``x`` along ``axis`` by index."""
    shape = graph.shape(node.outputs[0])
    y = gather_axis(context, node, x, axis, places, shape, plain(len(shape)), node.outputs[0].name or "")
    context.set(node.outputs[0], y)


@lowers("Compress")
def compress(context: Context, node: Node) -> None:
    """Slices of an axis, or elements, that a condition chooses."""
    x = context.plain(source(context, node.inputs[0]))
    condition = context.plain(context.value(value_of(node.inputs[1])))
    axis = graph.attribute(node, "axis")
    if axis is None:
        x, axis = context.reshaped(x, (elements(x.shape),)), 0
    axis %= len(x.shape)
    if condition.shape[0] > x.shape[axis]:
        raise Unsupported("has more conditions than slices")
    places, number = _where(context, node, condition)
    _rows(context, node, x, axis, places)
    _count(context, node, number, {0: axis})


@lowers("NonZero")
def non_zero(context: Context, node: Node) -> None:
    """Indices of the elements that are not 0, one column each."""
    x = context.plain(context.value(value_of(node.inputs[0])))
    holds = x if x.dtype is DType.BOOL else context.like(x, f"{node.name}.holds", DType.BOOL)
    if holds is not x:
        context.copy(node.name or "", x, holds)
    places, number = _where(context, node, context.reshaped(holds, (elements(x.shape),)), x.shape or (1,))
    context.set(node.outputs[0], places)
    _count(context, node, number, {0: 1})


@lowers("Unique")
def unique(context: Context, node: Node) -> None:
    """Different slices of an axis, or elements; where each stands first, which one each is, and how often it occurs."""
    held, x = context.plain(source(context, node.inputs[0])), context.plain(context.value(value_of(node.inputs[0])))
    axis = graph.attribute(node, "axis")
    if axis is None:
        held, x, axis = (*(context.reshaped(ref, (elements(x.shape),)) for ref in (held, x)), 0)
    axis %= len(x.shape)
    n = x.shape[axis]
    names = ("first", "inverse", "counts")
    made = [context.new(f"{node.name}.{name}", (n,), (0,), DType.S64) for name in names]
    number = context.new(f"{node.name}.count", (1,), (0,), DType.S64)
    outputs = tuple(ref.tensor for ref in (*made, number))
    is_sorted = int(graph.attribute(node, "sorted", 1))
    context.builder.step(
        node.name or "", Op.UNIQUE, (x.tensor,), outputs, _form(node), **folded(x, axis), sorted=is_sorted
    )  # fmt: skip
    _rows(context, node, held, axis, made[0])
    for value, ref in zip(node.outputs[1:], made, strict=False):
        context.set(value, ref)
    _count(context, node, number, {0: axis, 1: 0, 3: 0})
