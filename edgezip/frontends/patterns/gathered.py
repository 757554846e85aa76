"""Elementwise work on the rows that Gather takes out of a constant table goes onto the table, where folding does it once.

A row of the table must not be larger work than the rows taken: a table of at most as many rows as there are indices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgezip import graph
from edgezip.frontends.patterns.match import made_by

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({
    "Add", "Sub", "Mul", "Div", "Gelu", "Relu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Erf", "LayerNormalization",
    "RMSNormalization", "Clip", "LeakyRelu", "Elu", "Exp", "Sqrt", "Neg", "Abs",
})  # fmt: skip


def rewrite(model: Model, node: Node) -> bool:
    """``f(Gather(table, index))`` is ``Gather(f(table), index)``."""
    found = [(place, gather) for place, value in enumerate(node.inputs) if (gather := _rows(value)) is not None]
    if len(found) != 1 or len(node.outputs) != 1:
        return False
    place, gather = found[0]
    table, result = gather.inputs[0], node.outputs[0]
    assert table is not None
    width = graph.shape(table)[1]
    if graph.shape(result) != graph.shape(gather.outputs[0]) or graph.dtype(result) != graph.dtype(table):
        return False
    if any(value is not None and not _is_of_columns(value, width) for p, value in enumerate(node.inputs) if p != place):
        return False
    if node.op_type in ("LayerNormalization", "RMSNormalization") and graph.attribute(node, "axis", -1) not in (
        -1,
        len(graph.shape(result)) - 1,
    ):
        return False
    for position, value in enumerate(node.inputs):
        held = graph.constant(value)
        if position != place and value is not None and held is not None and held.ndim > 1:
            node.replace_input_with(position, graph.add_initializer(model, f"{value.name}_row", held.reshape(-1)))
    node.replace_input_with(place, table)
    if "Normalization" in node.op_type:
        graph.set_attribute(node, "axis", -1)
    dims = graph.shape(result)
    graph.set_type(result, graph.dtype(table), graph.shape(table))
    model.graph.remove(node)
    model.graph.insert_before(gather, node)
    made = graph.new_node(model, "Gather", [result, gather.inputs[1]], f"{node.name}_rows", before=gather)
    graph.set_type(made, graph.dtype(table), dims)
    uses = [use for use in graph.consumers(result) if use[0] is not graph.producer(made)]
    graph.replace_uses(result, made, uses=uses, outputs=True)
    return True


def _rows(value: Value | None) -> Node | None:
    """The Gather that takes rows out of a constant table for one reader."""
    gather = made_by(value, "Gather")
    if gather is None or value is None or len(graph.consumers(value)) != 1 or graph.is_graph_output(value):
        return None
    table = gather.inputs[0]
    if table is None or int(graph.attribute(gather, "axis", 0)) != 0 or len(graph.shape(table)) != 2:
        return None
    is_known = graph.constant(table) is not None or _is_made_of_constants(table)
    return gather if is_known and graph.shape(table)[0] <= math.prod(graph.shape(value)[:-1]) else None


def _is_made_of_constants(value: Value) -> bool:
    """Whether the table is what an earlier node of this very pattern computes from constants."""
    maker = made_by(value, *LAST)
    return maker is not None and all(
        operand is None or graph.constant(operand) is not None or _is_made_of_constants(operand) for operand in maker.inputs
    )


def _is_of_columns(value: Value, width: int) -> bool:
    """A constant that is the same for all rows."""
    held = graph.constant(value)
    return held is not None and (held.size == 1 or (held.size == held.shape[-1] == width))
