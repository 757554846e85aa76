"""How far rows that only the data count may go through a graph: operators that keep each row to itself.

A result of NonZero or Compress has room for all rows that there can be; those beyond the count repeat the first. Whatever mixes
rows (a sum over them, a sort, their number taken from a shape) would be wrong without a word, so it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Node, Value


@dataclass(frozen=True, slots=True)
class Rows:
    """The axis along which a value of ``rank`` axes has as many slices as the data say."""

    axis: int
    rank: int


Held = dict[int, Rows]  # by identity of the value
ALONE = {
    "Identity", "Cast", "Abs", "Neg", "Not", "Relu", "LeakyRelu", "Elu", "Celu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish",
    "Swish", "Mish", "Tanh", "Gelu", "Exp", "Log", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Erf",
    "Softplus", "Softsign", "IsNaN", "IsInf", "Clip", "Dropout", "BitwiseNot", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
TOGETHER = {
    "Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Sum", "Mean", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual",
    "Greater", "GreaterOrEqual", "Where", "PRelu", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
}  # fmt: skip


def results(value: Value, axis: int) -> dict[str, int] | None:
    """Graph outputs that have the rows of ``value``, each with their axis; None when some node mixes rows."""
    maker = value.producer()
    rank = None if value.shape is None else len(value.shape)
    if maker is None or maker.graph is None or rank is None:
        return None
    held, found = {id(value): Rows(axis, rank)}, {}
    if graph.is_graph_output(value):
        found[str(value.name)] = axis
    for node in maker.graph:
        if not any(id(own) in held for own in node.inputs):
            continue
        if node.op_type == "Shape" and _only_expands(node, held):
            continue
        rows = _rows_behind(node, held)
        if rows is None or any(graph.consumers(other) or graph.is_graph_output(other) for other in node.outputs[1:]):
            return None
        held[id(node.outputs[0])] = rows
        if graph.is_graph_output(node.outputs[0]):
            found[str(node.outputs[0].name)] = rows.axis
    return found


def _rows_behind(node: Node, held: Held) -> Rows | None:
    if node.domain:
        return None
    rule = _together if node.op_type in TOGETHER else _alone if node.op_type in ALONE else _RULES.get(node.op_type)
    return rule(node, held) if rule is not None else None


def _of(node: Node, held: Held, position: int = 0) -> Rows | None:
    value = node.inputs[position] if position < len(node.inputs) else None
    return None if value is None else held.get(id(value))


def _only_first(node: Node, held: Held) -> Rows | None:
    return None if any(id(value) in held for value in node.inputs[1:]) else _of(node, held)


def _only_expands(node: Node, held: Held) -> bool:
    """A shape that goes nowhere but into the Expand of a value with the same rows: that leaves it as it is."""
    uses = graph.consumers(node.outputs[0])
    rows = _of(node, held)
    whole = not graph.attribute(node, "start", 0) and graph.attribute(node, "end") is None
    return whole and not graph.is_graph_output(node.outputs[0]) and all(
        user.op_type == "Expand" and position == 1 and _of(user, held) == rows for user, position in uses
    )  # fmt: skip


def _alone(node: Node, held: Held) -> Rows | None:
    """One element after another; the scale of an axis other than the rows' is a constant."""
    rows = _only_first(node, held)
    if rows is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        scale = graph.constant(node.inputs[1])
        return rows if scale is not None and scale.size == 1 else None
    return rows


def _together(node: Node, held: Held) -> Rows | None:
    """Elementwise with broadcasting: every operand has the same rows, or one slice for all of them."""
    known = [rows for rows in (_of(node, held, i) for i in range(len(node.inputs))) if rows is not None]
    behind = known[0].rank - known[0].axis  # counted from the last axis, where broadcasting aligns
    rank = 0
    for position, value in enumerate(node.inputs):
        rows = _of(node, held, position)
        if rows is not None:
            if rows.rank - rows.axis != behind:
                return None
            rank = max(rank, rows.rank)
        elif value is not None:
            if value.shape is None:
                return None
            dims = list(value.shape)
            if len(dims) >= behind and dims[len(dims) - behind] != 1:
                return None
            rank = max(rank, len(dims))
    return Rows(rank - behind, rank)


def _axes(node: Node, rank: int) -> list[int] | None:
    """Axes as second input or attribute, from 0 on; None when they are not known."""
    given = graph.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    listed = given.reshape(-1).tolist() if given is not None else graph.attribute(node, "axes")
    return None if listed is None else [int(axis) % rank for axis in listed]


def _transpose(node: Node, held: Held) -> Rows | None:
    rows = _of(node, held)
    if rows is None:
        return None
    perm = graph.attribute(node, "perm") or tuple(range(rows.rank))[::-1]
    return Rows(list(perm).index(rows.axis), rows.rank)


def _squeeze(node: Node, held: Held) -> Rows | None:
    rows = _only_first(node, held)
    axes = _axes(node, rows.rank) if rows is not None else None
    if rows is None or axes is None or rows.axis in axes:
        return None
    return Rows(rows.axis - sum(axis < rows.axis for axis in axes), rows.rank - len(axes))


def _unsqueeze(node: Node, held: Held) -> Rows | None:
    rows = _only_first(node, held)
    given = graph.constant(node.inputs[1]) if rows is not None and len(node.inputs) > 1 else None
    listed = graph.attribute(node, "axes") if given is None else given.reshape(-1).tolist()
    if rows is None or listed is None:
        return None
    rank = rows.rank + len(listed)
    new = {int(axis) % rank for axis in listed}
    return Rows([axis for axis in range(rank) if axis not in new][rows.axis], rank)


def _expand(node: Node, held: Held) -> Rows | None:
    """Only by its own shape, see ``_only_expands``."""
    shape = node.inputs[1]
    maker = None if shape is None else graph.producer(shape)
    return _of(node, held) if maker is not None and maker.op_type == "Shape" and _of(maker, held) == _of(node, held) else None


def _gather_nd(node: Node, held: Held) -> Rows | None:
    """Places that were counted, out of a table that was not."""
    index, table = _of(node, held, 1), node.inputs[0]
    if index is None or _of(node, held) is not None or index.axis == index.rank - 1 or graph.attribute(node, "batch_dims", 0):
        return None
    depth = node.inputs[1].shape[index.rank - 1] if node.inputs[1] is not None and node.inputs[1].shape is not None else None
    if table is None or table.shape is None or not isinstance(depth, int):
        return None
    return Rows(index.axis, index.rank - 1 + len(table.shape) - depth)


def _gather(node: Node, held: Held) -> Rows | None:
    table, index = _of(node, held), _of(node, held, 1)
    x, places = node.inputs[0], node.inputs[1]
    if x is None or x.shape is None or places is None or places.shape is None or (table and index):
        return None
    axis, rank = int(graph.attribute(node, "axis", 0)) % len(x.shape), len(x.shape) + len(places.shape) - 1
    if index is not None:
        return Rows(axis + index.axis, rank)
    if table is None or axis == table.axis:
        return None
    return Rows(table.axis if table.axis < axis else table.axis + len(places.shape) - 1, rank)


def _slice(node: Node, held: Held) -> Rows | None:
    rows = _only_first(node, held)
    given = graph.constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    listed = graph.attribute(node, "axes") if given is None else given.reshape(-1).tolist()
    if rows is None or listed is None or rows.axis in {int(axis) % rows.rank for axis in listed}:
        return None
    return rows


def _within(node: Node, held: Held) -> Rows | None:
    """Along one axis, or all from one on, other than the rows'."""
    rows = _only_first(node, held)
    if rows is None:
        return None
    axis = int(graph.attribute(node, "axis", -1)) % rows.rank
    return rows if (axis > rows.axis if node.op_type == "LayerNormalization" else axis != rows.axis) else None


def _reduce(node: Node, held: Held) -> Rows | None:
    rows = _only_first(node, held)
    axes = _axes(node, rows.rank) if rows is not None else None
    if rows is None or not axes or rows.axis in axes:
        return None
    if graph.attribute(node, "keepdims", 1):
        return rows
    return Rows(rows.axis - sum(axis < rows.axis for axis in axes), rows.rank - len(axes))


def _product(node: Node, held: Held) -> Rows | None:
    """Rows of the left operand by a matrix."""
    rows, matrix = _only_first(node, held), node.inputs[1]
    if rows is None or matrix is None or matrix.shape is None or len(matrix.shape) != 2 or graph.attribute(node, "transA", 0):
        return None
    return rows if rows.axis < rows.rank - 1 else None


_RULES: dict[str, Callable[[Node, Held], Rows | None]] = {
    "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Expand": _expand, "GatherND": _gather_nd,
    "Gather": _gather, "Slice": _slice, "Softmax": _within, "LogSoftmax": _within, "LayerNormalization": _within,
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"), _reduce),
    "MatMul": _product, "Gemm": _product,
}  # fmt: skip
