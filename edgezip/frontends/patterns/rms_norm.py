"""``x / sqrt(mean(x^2) + epsilon) * scale`` over the last axes: RMSNormalization (Zhang and Sennrich 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.patterns.match import has_opset, made_by, pairs, replace, same_type
from edgezip.frontends.patterns.moments import (
    inverse_root_of,
    keeps_axes,
    mean_of,
    over_axes,
    root_of,
    square_of,
    with_epsilon,
)

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({"Div", "Mul"})
OPSET = 23


def rewrite(model: Model, node: Node) -> bool:
    """The division or product, or the scale behind it, which goes into the operator made before."""
    if node.op_type == "Mul" and _takes_scale(model, node):
        return True
    found = _found(node)
    if found is None or not same_type(found[0], node.outputs[0]) or not has_opset(model, OPSET):
        return False
    x, count, epsilon = found
    ones = np.ones(graph.shape(x)[-count:], np.float32)
    scale = graph.add_initializer(model, f"{node.name}_scale", ones)
    return replace(model, node, "RMSNormalization", [x, scale], {"axis": -count, "epsilon": epsilon})


def _found(node: Node) -> tuple[Value, int, float] | None:
    """x, how many axes, epsilon."""
    if node.op_type == "Div":
        x, root = node.inputs[0], node.inputs[1]
        return _norm(x, root_of(root), root) if x is not None else None
    for x, inverse in pairs(node):
        found = _norm(x, inverse_root_of(inverse), inverse)
        if found is not None:
            return found
    return None


def _norm(x: Value, radicand: Value | None, root: Value | None) -> tuple[Value, int, float] | None:
    inner = with_epsilon(radicand) if radicand is not None else None
    squares = mean_of(inner[0]) if inner is not None else None
    if inner is None or squares is None or square_of(squares[0]) is not x or not keeps_axes(root, squares):
        return None
    rank, count = len(graph.shape(x)), len(squares[1])
    return (x, count, inner[1]) if squares[1] == tuple(range(rank - count, rank)) else None


def _takes_scale(model: Model, node: Node) -> bool:
    """A constant factor of the only reader."""
    for value, constant in pairs(node):
        operator = made_by(value, "RMSNormalization")
        held = graph.constant(operator.inputs[1]) if operator is not None else None
        if (
            operator is None
            or held is None
            or not (held == 1).all()
            or len(graph.consumers(value)) != 1
            or graph.is_graph_output(value)
        ):
            continue
        dims = graph.shape(value)
        first = int(graph.attribute(operator, "axis", -1)) % len(dims)
        scale = over_axes(constant, dims, tuple(range(first, len(dims))))
        if scale is None or graph.shape(node.outputs[0]) != dims:
            continue
        operator.replace_input_with(1, graph.add_initializer(model, f"{operator.name}_scale", scale))
        graph.replace_uses(node.outputs[0], value, outputs=True)
        graph.remove_node(model, node)
        return True
    return False
