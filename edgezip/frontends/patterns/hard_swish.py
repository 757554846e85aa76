"""``x * clip(x + 3, 0, 6) / 6`` in every order of its factors, and ``x * HardSigmoid(x)``: HardSwish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgezip import graph
from edgezip.frontends.patterns.hard_sigmoid import clipped_sum
from edgezip.frontends.patterns.match import has_opset, is_close, made_by, pairs, replace, same_type, with_scalar

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({"Mul", "Div"})
OPSET = 14


def rewrite(model: Model, node: Node) -> bool:
    """The pieces that end in a product of two tensors, or in the division by 6."""
    x = _of_two(node) if node.op_type == "Mul" else None
    if x is None:
        x = _by_six(node)
    return x is not None and same_type(x, node.outputs[0]) and has_opset(model, OPSET) and replace(model, node, "HardSwish", [x])


def _of_two(node: Node) -> Value | None:
    """x of ``x * hard_sigmoid(x)``, and of ``(x / 6) * clip(x + 3, 0, 6)``."""
    for x, other in pairs(node):
        gate = made_by(other, "HardSigmoid")
        if gate is not None and gate.inputs[0] is x and _is_by_six(gate):
            return x
        sixth = made_by(x, "Mul", "Div")
        for inner, number in with_scalar(sixth) if sixth is not None else ():
            if _is_sixth(sixth, number) and _is_gate(inner, other):
                return inner
    return None


def _by_six(node: Node) -> Value | None:
    """x of ``(x * clip(x + 3, 0, 6)) / 6``."""
    for data, number in with_scalar(node):
        product = made_by(data, "Mul")
        if product is None or not _is_sixth(node, number):
            continue
        for x, other in pairs(product):
            if _is_gate(x, other):
                return x
    return None


def _is_by_six(gate: Node) -> bool:
    alpha, beta = (float(graph.attribute(gate, name, default)) for name, default in (("alpha", 0.2), ("beta", 0.5)))
    return is_close(alpha, 1 / 6) and beta == 0.5


def _is_sixth(node: Node | None, number: float) -> bool:
    return node is not None and (is_close(number, 6) if node.op_type == "Div" else is_close(number, 1 / 6))


def _is_gate(x: Value, value: Value) -> bool:
    """Whether ``value`` is ``clip(x + 3, 0, 6)``."""
    found = clipped_sum(value)
    return found is not None and found[0] is x and found[1:] == (3.0, 6.0)
