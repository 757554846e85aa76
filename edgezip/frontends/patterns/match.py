"""How patterns look at a graph: producers, constants, operands in either order; and how they replace what they found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import UnsupportedModelError

if TYPE_CHECKING:
    from edgezip.graph import Array, Model, Node, Value

CLOSE = 1e-6  # relative: exporters round 1/6 or sqrt(2) to float32, or to float16


def made_by(value: Value | None, *operators: str) -> Node | None:
    """The node that makes ``value``, if it is one of ``operators``."""
    node = graph.producer(value) if value is not None else None
    return node if node is not None and not node.domain and node.op_type in operators else None


def pairs(node: Node) -> Iterator[tuple[Value, Value]]:
    """The two operands of a node, in both orders for Add and Mul."""
    if len(node.inputs) == 2 and node.inputs[0] is not None and node.inputs[1] is not None:
        yield node.inputs[0], node.inputs[1]
        if node.op_type in ("Add", "Mul"):
            yield node.inputs[1], node.inputs[0]


def array_of(value: Value | None) -> Array | None:
    """A float constant."""
    held = graph.constant(value) if value is not None else None
    return held if held is not None and held.dtype.kind == "f" else None


def scalar_of(value: Value | None) -> float | None:
    """The number of a float constant that has one element."""
    held = array_of(value)
    return float(held.reshape(())) if held is not None and held.size == 1 else None


def with_scalar(node: Node) -> Iterator[tuple[Value, float]]:
    """``(data, number)`` of a node of two operands whose second (Add and Mul: either) is one number."""
    for data, other in pairs(node):
        number = scalar_of(other)
        if number is not None and scalar_of(data) is None:
            yield data, number


def is_close(number: float | None, wanted: float) -> bool:
    """Whether a constant is the wanted one as exporters round it."""
    return number is not None and abs(number - wanted) <= CLOSE * abs(wanted)


def has_opset(model: Model, version: int) -> bool:
    """Whether the model has operators of ``version`` (at most 24): it is raised to it where that can be done."""
    try:
        graph.raise_opset(model, version)
    except UnsupportedModelError:
        return False
    return True


def replace(
    model: Model, node: Node, op_type: str, inputs: Sequence[Value | None], attrs: Mapping[str, Any] | None = None
) -> bool:
    """Lets ``op_type`` of ``inputs`` stand for the one result of ``node``, which goes; always true."""
    result = node.outputs[0]
    made = graph.new_node(
        model, op_type, inputs, str(result.name), attrs=attrs, name=f"{node.name}_{op_type}", before=node, like=result
    )
    graph.replace_uses(result, made, outputs=True)
    graph.remove_node(model, node)
    return True


def same_type(value: Value, result: Value) -> bool:
    """Whether a function of ``value`` alone can be ``result``: equal shape, both float32."""
    return graph.shape(value) == graph.shape(result) and graph.dtype(value) == np.float32 and graph.dtype(result) == np.float32
