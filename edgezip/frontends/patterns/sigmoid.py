"""``1 / (1 + exp(-x))``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgezip.frontends.patterns.match import is_close, made_by, replace, same_type, scalar_of, with_scalar

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({"Div", "Reciprocal"})


def rewrite(model: Model, node: Node) -> bool:
    """One divided by the sum, or its reciprocal."""
    if node.op_type == "Div" and not is_close(scalar_of(node.inputs[0]), 1):
        return False
    x = _exponent(node.inputs[-1])
    return x is not None and same_type(x, node.outputs[0]) and replace(model, node, "Sigmoid", [x])


def _exponent(denominator: Value | None) -> Value | None:
    """x of ``1 + exp(-x)``."""
    add = made_by(denominator, "Add")
    for data, number in with_scalar(add) if add is not None else ():
        power = made_by(data, "Exp")
        negative = made_by(power.inputs[0], "Neg") if power is not None else None
        if is_close(number, 1) and negative is not None:
            return negative.inputs[0]
    return None
