"""``x + x * gate`` with a gate for each channel (squeeze-excite with a skip): ``x * (gate + 1)``, one pass over x less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.patterns.match import made_by, pairs, replace, same_type

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({"Add"})


def rewrite(model: Model, node: Node) -> bool:
    """The addition of x, in either order; nobody else reads the product."""
    for x, other in pairs(node):
        product = made_by(other, "Mul")
        if product is None or len(graph.consumers(other)) != 1 or graph.is_graph_output(other):
            continue
        for same, gate in pairs(product):
            if same is x and _is_gate(gate, x) and same_type(x, node.outputs[0]):
                return _replace(model, node, x, gate)
    return False


def _is_gate(gate: Value, x: Value) -> bool:
    """One number for a channel, which the sum with 1 costs nothing of; whatever the size of x."""
    dims = graph.shape(gate)
    for_channels = len(dims) == len(graph.shape(x)) >= 3 and (set(dims[2:]) == {1} or set(dims[1:-1]) == {1})
    return for_channels and graph.constant(gate) is None


def _replace(model: Model, node: Node, x: Value, gate: Value) -> bool:
    one = graph.add_initializer(model, graph.unique_name(model, f"{node.name}_one"), np.asarray(1, np.float32))
    more = graph.new_node(model, "Add", [gate, one], f"{gate.name}_and_one", before=node, like=gate)
    return replace(model, node, "Mul", [x, more])
