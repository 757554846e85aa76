"""``one_hot(index) @ table``, with the one-hot written as a comparison with 0, 1, 2 ...: Gather of the table's rows.

An index outside of the table chooses a row of zeros, as no comparison holds for it: the table gets such a row at its end, and the
index is clipped to [-1, rows], which both mean that row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.patterns.match import has_opset, made_by
from edgezip.frontends.patterns.moments import through_ones

if TYPE_CHECKING:
    from edgezip.graph import Array, Model, Node, Value

LAST = frozenset({"MatMul"})
OPSET = 12  # Clip of integers


def rewrite(model: Model, node: Node) -> bool:
    """The product."""
    table = graph.constant(node.inputs[1])
    hot = made_by(node.inputs[0], "Cast")
    equal = made_by(hot.inputs[0], "Equal") if hot is not None else None
    if table is None or table.ndim != 2 or table.dtype != np.float32 or not np.isfinite(table).all() or equal is None:
        return False
    rows = graph.shape(node.outputs[0])[:-1]
    for index, classes in ((equal.inputs[0], equal.inputs[1]), (equal.inputs[1], equal.inputs[0])):
        held = graph.constant(classes)
        if index is None or held is None or not _counts(held, len(table)) or graph.shape(index) != (*rows, 1):
            continue
        if has_opset(model, OPSET):
            _gather(model, node, through_ones(index) or index, table, rows)
            return True
    return False


def _counts(held: Array, rows: int) -> bool:
    """Whether the constant is 0, 1, 2 ... along its last axis, int32 or int64."""
    is_integer = held.dtype in (np.int32, np.int64)
    return is_integer and held.size == held.shape[-1] == rows and bool((held.reshape(-1) == np.arange(rows)).all())


def _gather(model: Model, node: Node, index: Value, table: Array, rows: tuple[int, ...]) -> None:
    kind = graph.dtype(index)
    ends = [
        graph.add_initializer(model, f"{node.name}_{name}", np.array(n, kind)) for name, n in (("low", -1), ("high", len(table)))
    ]
    clipped = graph.new_node(model, "Clip", [index, *ends], f"{node.name}_index", before=node, like=index)
    padded = graph.add_initializer(model, f"{node.name}_rows", np.vstack([table, np.zeros_like(table[:1])]))
    result = node.outputs[0]
    made = graph.new_node(model, "Gather", [padded, clipped], f"{node.name}_Gather", before=node)
    graph.set_type(made, table.dtype, (*graph.shape(index), table.shape[1]))
    if graph.shape(made) != graph.shape(result):
        dims = graph.add_initializer(model, f"{node.name}_shape", np.array((*rows, table.shape[1]), np.int64))
        made = graph.new_node(model, "Reshape", [made, dims], f"{node.name}_rows", before=node, like=result)
    graph.replace_uses(result, made, outputs=True)
    graph.remove_node(model, node)
