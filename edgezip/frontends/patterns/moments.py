"""Means, variances and inverse roots in the pieces that exporters write, whatever axes of size 1 they drop and add between."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.patterns.match import is_close, made_by, scalar_of, with_scalar

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

Axes = tuple[int, ...]
RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Identity")


def mean_of(value: Value | None) -> tuple[Value, Axes] | None:
    """``(x, axes)`` where ``value`` holds the means of x over ``axes``."""
    value = through_ones(value)
    node = made_by(value, "ReduceMean")
    if node is not None:
        return _reduced(node)
    scaled = made_by(value, "Mul", "Div")
    for data, number in with_scalar(scaled) if scaled is not None else ():
        total = reduced(data, "ReduceSum")
        count = math.prod(graph.shape(total[0])[axis] for axis in total[1]) if total is not None else 0
        if total is not None and is_close(number, count if scaled is not None and scaled.op_type == "Div" else 1 / count):
            return total
    return None


def variance_of(value: Value | None) -> tuple[Value, Axes] | None:
    """``(x, axes)`` where ``value`` is the mean of ``(x - mean)^2`` over ``axes``, or the mean square less the squared mean."""
    value = through_ones(_without_floor(through_ones(value)))
    squares = mean_of(value)
    if squares is not None:
        centre = centred(square_of(squares[0]))
        return centre if centre is not None and centre[1] == squares[1] else None
    node = made_by(value, "Sub")
    if node is None or not _same_shape(node):
        return None
    squares, mean = mean_of(node.inputs[0]), mean_of(square_of(node.inputs[1]))
    is_both = squares is not None and mean is not None and squares[1] == mean[1] and square_of(squares[0]) is mean[0]
    return mean if is_both else None


def centred(value: Value | None) -> tuple[Value, Axes] | None:
    """``(x, axes)`` where ``value`` is ``x - mean(x)``."""
    node = made_by(value, "Sub")
    mean = mean_of(node.inputs[1]) if node is not None else None
    if node is None or mean is None or mean[0] is not node.inputs[0] or not keeps_axes(node.inputs[1], mean):
        return None
    return mean


def square_of(value: Value | None) -> Value | None:
    """x where ``value`` is ``x * x`` or ``x ^ 2``."""
    node = made_by(value, "Mul", "Pow")
    if node is None:
        return None
    if node.op_type == "Mul":
        return node.inputs[0] if node.inputs[0] is node.inputs[1] else None
    return node.inputs[0] if scalar_of(node.inputs[1]) == 2 else None


def root_of(value: Value | None) -> Value | None:
    """x where ``value`` is its square root."""
    value = through_ones(value)
    node = made_by(value, "Sqrt")
    if node is None:
        node = made_by(value, "Pow")
        return node.inputs[0] if node is not None and scalar_of(node.inputs[1]) == 0.5 else None
    return node.inputs[0]


def inverse_root_of(value: Value | None) -> Value | None:
    """x where ``value`` is 1 / its square root."""
    value = through_ones(value)
    node = made_by(value, "Pow")
    if node is not None and scalar_of(node.inputs[1]) == -0.5:
        return node.inputs[0]
    node = made_by(value, "Div", "Reciprocal", "Sqrt")
    if node is None:
        return None
    if node.op_type == "Sqrt":
        inner = made_by(through_ones(node.inputs[0]), "Reciprocal")
        return inner.inputs[0] if inner is not None else None
    return root_of(node.inputs[-1]) if node.op_type == "Reciprocal" or scalar_of(node.inputs[0]) == 1 else None


def with_epsilon(value: Value | None) -> tuple[Value, float] | None:
    """``(x, epsilon)`` of ``x + epsilon``; (value, 0) where nothing is added."""
    value = through_ones(value)
    add = made_by(value, "Add")
    for data, number in with_scalar(add) if add is not None else ():
        if number >= 0:
            return data, number
    return (value, 0.0) if value is not None else None


def keeps_axes(value: Value | None, reduction: tuple[Value, Axes]) -> bool:
    """Whether ``value`` has the shape of x with 1 along the reduced axes, so that it broadcasts along them."""
    dims = graph.shape(reduction[0])
    return value is not None and graph.shape(value) == tuple(1 if a in reduction[1] else d for a, d in enumerate(dims))


def reduced(value: Value | None, operator: str) -> tuple[Value, Axes] | None:
    """``(x, axes)`` where ``value`` is x reduced by ``operator`` over ``axes``."""
    node = made_by(through_ones(value), operator)
    return _reduced(node) if node is not None else None


def through_ones(value: Value | None) -> Value | None:
    """What stands before reshapes that only add or drop axes of size 1."""
    node = made_by(value, *RESHAPES)
    while node is not None and _real(node.inputs[0]) == _real(node.outputs[0]):
        value = node.inputs[0]
        node = made_by(value, *RESHAPES)
    return value


def transposed(model: Model, value: Value, perm: Axes, before: Node) -> Value:
    """A Transpose of ``value`` in front of ``before``."""
    made = graph.new_node(model, "Transpose", [value], f"{before.name}_turned", attrs={"perm": list(perm)}, before=before)
    dims = graph.shape(value)
    graph.set_type(made, graph.dtype(value), [dims[axis] for axis in perm])
    return made


def over_axes(value: Value, dims: tuple[int, ...], axes: Axes) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None:
    """A float32 constant that varies along ``axes`` of ``dims`` alone, in that shape; None when it is not that."""
    held = graph.constant(value)
    if held is None or held.dtype != np.float32 or held.ndim > len(dims):
        return None
    full = held.reshape((1,) * (len(dims) - held.ndim) + held.shape)
    if any(size != 1 for axis, size in enumerate(full.shape) if axis not in axes) or any(
        full.shape[a] not in (1, dims[a]) for a in axes
    ):
        return None
    wanted = [dims[axis] for axis in axes]
    return np.ascontiguousarray(np.broadcast_to(full.reshape([full.shape[axis] for axis in axes]), wanted))


def _without_floor(value: Value | None) -> Value | None:
    """x of ``max(x, 0)``: rounding can make a difference of squares negative."""
    node = made_by(value, "Max", "Relu", "Clip")
    if node is None:
        return value
    if node.op_type == "Relu":
        return node.inputs[0]
    if node.op_type == "Clip":
        has_top = len(node.inputs) > 2 and node.inputs[2] is not None
        return node.inputs[0] if not has_top and len(node.inputs) > 1 and scalar_of(node.inputs[1]) == 0 else value
    found = [data for data, other in (node.inputs, node.inputs[::-1]) if scalar_of(other) == 0] if len(node.inputs) == 2 else []
    return found[0] if found else value


def _same_shape(node: Node) -> bool:
    return len({graph.shape(v) for v in (*node.inputs, *node.outputs) if v is not None}) == 1


def _real(value: Value | None) -> list[int]:
    return [size for size in graph.shape(value) if size != 1] if value is not None else []


def _reduced(node: Node) -> tuple[Value, Axes] | None:
    source = node.inputs[0]
    assert source is not None
    rank = len(graph.shape(source))
    given = node.inputs[1] if len(node.inputs) > 1 else None
    held = graph.constant(given) if given is not None else graph.attribute(node, "axes")
    if held is None and given is not None:
        return None  # chosen at run time
    if held is None or len(held) == 0:
        return None if graph.attribute(node, "noop_with_empty_axes", 0) else (source, tuple(range(rank)))
    return source, tuple(sorted(int(axis) % rank for axis in held))
