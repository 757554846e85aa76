"""``exp(x - max) / sum(exp(x - max))`` over one axis, and the same without the maximum: Softmax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgezip.frontends.patterns.match import has_opset, made_by, pairs, replace, same_type, scalar_of
from edgezip.frontends.patterns.moments import keeps_axes, reduced, through_ones

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({"Div", "Mul"})
OPSET = 13  # the form of one axis


def rewrite(model: Model, node: Node) -> bool:
    """The division by the sum, or the product with its reciprocal."""
    for powers, total in _quotients(node):
        exp, summed = made_by(powers, "Exp"), reduced(total, "ReduceSum")
        if exp is None or summed is None or summed[0] is not powers or len(summed[1]) != 1 or not keeps_axes(total, summed):
            continue
        x = _less_maximum(exp.inputs[0], summed[1][0])
        if x is not None and same_type(x, node.outputs[0]) and has_opset(model, OPSET):
            return replace(model, node, "Softmax", [x], {"axis": summed[1][0]})
    return False


def _quotients(node: Node) -> list[tuple[Value, Value]]:
    """(dividend, divisor)."""
    if node.op_type == "Div":
        return list(pairs(node))
    found = []
    for left, right in pairs(node):
        inverse = made_by(right, "Reciprocal")
        if inverse is not None and inverse.inputs[0] is not None:
            found.append((left, inverse.inputs[0]))
    return found


def _less_maximum(value: Value | None, axis: int) -> Value | None:
    """x of ``x - max(x)`` along the axis; the value itself where nothing is taken off: the quotient is the same."""
    node = made_by(value, "Sub")
    if node is None:
        return value
    greatest = reduced(_without_infinity(through_ones(node.inputs[1])), "ReduceMax")
    if (
        greatest is None
        or greatest[0] is not node.inputs[0]
        or greatest[1] != (axis,)
        or not keeps_axes(node.inputs[1], greatest)
    ):
        return value
    return node.inputs[0]


def _without_infinity(value: Value | None) -> Value | None:
    """x of ``max(x, -inf)``, as JAX writes it."""
    node = made_by(value, "Max")
    for data, other in (node.inputs, node.inputs[::-1]) if node is not None and len(node.inputs) == 2 else ():
        if scalar_of(other) == -math.inf:
            return data
    return value
