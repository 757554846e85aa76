"""Results whose number of rows depends on the data: they get room for all that there can be, and ``<name>.count`` says how many.

NonMaxSuppression may be read by other nodes: its rows beyond the count are -1, which no box has. Of Compress, NonZero and Unique
the rest repeats the first row, which nothing could tell from a row that is meant; they are bounded only where no node mixes rows
on the way to the results of the model (``counted.py``), and refused elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import counted, graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

Shapes = list[tuple[tuple[int, ...], Any]]  # shape and dtype of each output


def bound(model: Model) -> bool:
    """Declares the largest shape of every such result that has none yet; whether there was one."""
    found = False
    for node in graph.nodes(model):
        rule = None if node.domain else _RULES.get(node.op_type)
        if rule is None or all(graph.has_static_shape(value) for value in node.outputs if value.name):
            continue
        shapes = rule(node)
        for value, (shape, kind) in zip(node.outputs, shapes or [], strict=False):
            if value.name:
                graph.set_type(value, kind, shape)
        found |= shapes is not None
    return found


def _static(value: Value | None) -> tuple[int, ...] | None:
    return None if value is None or value.dtype is None or not graph.has_static_shape(value) else graph.shape(value)


def _keeps_rows(value: Value, axis: int, rank: int) -> bool:
    """Whether no node mixes the rows, which inference may not even have given a rank."""
    if value.shape is None or len(value.shape) != rank:
        return not graph.consumers(value)
    return counted.results(value, axis) is not None


def _is_only_handed_out(node: Node, places: tuple[int, ...]) -> bool:
    return not any(graph.consumers(node.outputs[place]) for place in places if place < len(node.outputs))


def _boxes(node: Node) -> Shapes | None:
    most = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    scores = _static(node.inputs[1])
    if most is None or scores is None or int(most.reshape(-1)[0]) < 1:
        return None
    batch, classes, boxes = scores
    return [((batch * classes * min(int(most.reshape(-1)[0]), boxes), 3), np.int64)]


def _chosen(node: Node) -> Shapes | None:
    """Compress: no more rows than the condition has entries."""
    x, condition = node.inputs[0], _static(node.inputs[1])
    shape = _static(x)
    if x is None or shape is None or condition is None:
        return None
    axis = graph.attribute(node, "axis")
    if not _keeps_rows(node.outputs[0], 0 if axis is None else axis % len(shape), 1 if axis is None else len(shape)):
        return None
    rows = min(condition[0], math.prod(shape) if axis is None else shape[axis])
    if axis is None:
        return [((rows,), graph.dtype(x))]
    axis %= len(shape)
    return [((*shape[:axis], rows, *shape[axis + 1 :]), graph.dtype(x))]


def _places(node: Node) -> Shapes | None:
    """NonZero: a column of indices for each element."""
    shape = _static(node.inputs[0])
    if shape is None or not _keeps_rows(node.outputs[0], 1, 2):
        return None
    return [((max(len(shape), 1), math.prod(shape)), np.int64)]


def _different(node: Node) -> Shapes | None:
    """Unique: all slices may differ. The inverse has an entry for each slice in any case."""
    x = node.inputs[0]
    shape = _static(x)
    if x is None or shape is None or not _is_only_handed_out(node, (0, 1, 3)):
        return None
    axis = graph.attribute(node, "axis")
    rows = math.prod(shape) if axis is None else shape[axis]
    return [((rows,) if axis is None else shape, graph.dtype(x)), *[((rows,), np.int64)] * 3]


def _unpooled(node: Node) -> Shapes | None:
    """MaxUnpool says its own size, at which inference does not look; nothing is left over."""
    size, x = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None, node.inputs[0]
    shape = _static(x)
    if size is None or x is None or shape is None or size.size != len(shape) or (size < 1).any():
        return None
    return [(tuple(int(d) for d in size.reshape(-1)), graph.dtype(x))]


_RULES: dict[str, Callable[[Node], Shapes | None]] = {
    "Compress": _chosen,
    "MaxUnpool": _unpooled,
    "NonMaxSuppression": _boxes,
    "NonZero": _places,
    "Unique": _different,
}
