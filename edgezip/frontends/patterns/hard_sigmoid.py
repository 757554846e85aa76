"""``clip(x + 3, 0, 6) / 6`` and the like: a sum with one number, a clip from 0 on, a factor that ends the range at 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgezip import graph
from edgezip.frontends.patterns.match import is_close, made_by, replace, same_type, scalar_of, with_scalar

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({"Mul", "Div", "Clip", "Min"})


def rewrite(model: Model, node: Node) -> bool:
    """``clip(x + 3, 0, 6)`` by 6, or ``clip(x / 6 + 0.5, 0, 1)``."""
    if node.op_type in ("Mul", "Div"):
        for data, number in with_scalar(node):
            factor = number if node.op_type == "Mul" else 1 / number if number else 0.0
            found = clipped_sum(data)
            if found is not None and factor > 0 and is_close(found[2] * factor, 1):
                return _replace(model, node, found[0], factor, found[1] * factor)
        return False
    found = clipped_sum(node.outputs[0])
    if found is None or found[2] != 1:
        return False
    slope, x = _slope(found[0])
    return slope > 0 and _replace(model, node, x, slope, found[1])


def _replace(model: Model, node: Node, x: Value, slope: float, offset: float) -> bool:
    is_finite = math.isfinite(slope) and math.isfinite(offset)
    attrs = {"alpha": slope, "beta": offset}
    return is_finite and same_type(x, node.outputs[0]) and replace(model, node, "HardSigmoid", [x], attrs)


def clipped_sum(value: Value | None) -> tuple[Value, float, float] | None:
    """``(x, offset, top)`` where ``value`` is ``clip(x + offset, 0, top)``."""
    found = _clip(value)
    add = made_by(found[0], "Add") if found is not None else None
    if found is None or add is None:
        return None
    return next(((data, number, found[1]) for data, number in with_scalar(add)), None)


def _clip(value: Value | None) -> tuple[Value | None, float] | None:
    """``(x, top)`` where ``value`` is x clipped to [0, top], by Clip, or by Min of Max or Relu."""
    node = made_by(value, "Clip")
    if node is not None:
        low, top = (_bound(node, position, name) for position, name in ((1, "min"), (2, "max")))
        return (node.inputs[0], top) if low == 0 and top is not None else None
    least = made_by(value, "Min")
    for data, top in _with_number(least) if least is not None else ():
        relu, greatest = made_by(data, "Relu"), made_by(data, "Max")
        if relu is not None:
            return relu.inputs[0], top
        for x, low in _with_number(greatest) if greatest is not None else ():
            if low == 0:
                return x, top
    return None


def _with_number(node: Node) -> list[tuple[Value, float]]:
    """``(data, number)`` of a Min or Max of two, in either order."""
    if len(node.inputs) != 2:
        return []
    found = []
    for data, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        number = scalar_of(other)
        if data is not None and number is not None:
            found.append((data, number))
    return found


def _bound(node: Node, position: int, name: str) -> float | None:
    """A bound of Clip: an attribute up to opset 10, else an input."""
    if len(node.inputs) > position and node.inputs[position] is not None:
        return scalar_of(node.inputs[position])
    held = graph.attribute(node, name)
    return None if held is None else float(held)


def _slope(value: Value) -> tuple[float, Value]:
    """``(slope, x)`` of ``x * slope`` or ``x / number``; (1, value) where it is neither."""
    node = made_by(value, "Mul", "Div")
    for data, number in with_scalar(node) if node is not None else ():
        if number:
            return (number if node is not None and node.op_type == "Mul" else 1 / number), data
    return 1.0, value
