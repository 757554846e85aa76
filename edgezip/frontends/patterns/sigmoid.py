"""``1 / (1 + exp(-x))``, and with any other numerator: that times the sigmoid (SiLU where the numerator is x)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgezip import graph
from edgezip.frontends.patterns.match import is_close, made_by, replace, same_type, scalar_of, with_scalar

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({"Div", "Reciprocal"})


def rewrite(model: Model, node: Node) -> bool:
    """A number or tensor divided by the sum, or its reciprocal."""
    x = _exponent(node.inputs[-1])
    if x is None or not same_type(x, node.outputs[0]):
        return False
    above = node.inputs[0]
    if node.op_type == "Reciprocal" or is_close(scalar_of(above), 1):
        return replace(model, node, "Sigmoid", [x])
    gate = graph.new_node(model, "Sigmoid", [x], f"{node.name}_sigmoid", before=node, like=node.outputs[0])
    return replace(model, node, "Mul", [above, gate])


def _exponent(denominator: Value | None) -> Value | None:
    """x of ``1 + exp(-x)``."""
    add = made_by(denominator, "Add")
    for data, number in with_scalar(add) if add is not None else ():
        power = made_by(data, "Exp")
        negative = made_by(power.inputs[0], "Neg") if power is not None else None
        if is_close(number, 1) and negative is not None:
            return negative.inputs[0]
    return None
