"""GELU in pieces, by what they compute: a chain of elementwise nodes from one tensor is tried on numbers, so every spelling of
``x / 2 (1 + erf(x / sqrt 2))`` and of its approximation by tanh (Hendrycks and Gimpel 2016) is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.frontends.patterns.match import has_opset, made_by, replace, same_type, scalar_of

if TYPE_CHECKING:
    from edgezip.graph import Array, Model, Node, Value

LAST = frozenset({"Mul", "Div"})
OPSET = 20
MAX_NODES = 14  # the longest spelling seen has ten
POINTS = np.concatenate([np.linspace(-9, 9, 721), [-40.0, -1e-3, 1e-3, 40.0]])
CLOSE = 4e-6  # of |x|: constants such as 0.7978845 are rounded to float32, and some exporters write 0.79788

_erf = np.vectorize(math.erf, otypes=[float])
_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power, "Neg": np.negative,
    "Erf": _erf, "Tanh": np.tanh, "Identity": np.array,
}  # fmt: skip
_SHAPES: dict[str, tuple[str, Any]] = {
    "Erf": ("none", 0.5 * POINTS * (1 + _erf(POINTS / math.sqrt(2)))),
    "Tanh": ("tanh", 0.5 * POINTS * (1 + np.tanh(math.sqrt(2 / math.pi) * (POINTS + 0.044715 * POINTS**3)))),
}


def rewrite(model: Model, node: Node) -> bool:
    """The last product or quotient of the chain."""
    values, hearts = _behind(node)
    if len(hearts) != 1:
        return False
    approximate, wanted = _SHAPES[hearts.pop()]
    for x in values:
        if same_type(x, node.outputs[0]) and _is_close(_computed(node.outputs[0], x), wanted):
            return has_opset(model, OPSET) and replace(model, node, "Gelu", [x], {"approximate": approximate})
    return False


def _behind(node: Node) -> tuple[list[Value], set[str]]:
    """Values that the node is computed from and that are read more than once, nearest first; and the hearts on the way."""
    values: dict[int, Value] = {}
    hearts: set[str] = set()
    pending, seen = [node], 0
    while pending and seen < MAX_NODES:
        current = pending.pop(0)
        seen += 1
        hearts |= {current.op_type} & set(_SHAPES)
        for value in current.inputs:
            if value is None or id(value) in values or graph.constant(value) is not None:
                continue
            values[id(value)] = value
            maker = made_by(value, *_OPERATORS)
            if maker is not None:
                pending.append(maker)
    return [value for value in values.values() if len(graph.consumers(value)) > 1], hearts


def _is_close(computed: Array | None, wanted: Array) -> bool:
    return computed is not None and bool((np.abs(computed - wanted) <= CLOSE * np.abs(POINTS)).all())


def _computed(value: Value, x: Value) -> Array | None:
    """``value`` in float64 where x takes POINTS; None when it depends on more than x and single numbers."""
    if value is x:
        return POINTS
    number = scalar_of(value)
    if number is not None:
        return np.full(len(POINTS), number)
    maker = made_by(value, *_OPERATORS)
    if maker is None:
        return None
    operands = [_computed(operand, x) if operand is not None else None for operand in maker.inputs]
    if any(operand is None for operand in operands):
        return None
    with np.errstate(all="ignore"):
        result: Array = _OPERATORS[maker.op_type](*operands)
    return result
