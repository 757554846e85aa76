"""``(x - mean) / sqrt(variance + epsilon)``, and the scale and bias behind it: LayerNormalization.

Over the last axes it stands alone; over others (channels of a picture) between two Transposes, which are free where memory
lies that way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.patterns.match import has_opset, made_by, pairs, same_type
from edgezip.frontends.patterns.moments import (
    Axes,
    centred,
    inverse_root_of,
    keeps_axes,
    mean_of,
    over_axes,
    root_of,
    transposed,
    variance_of,
    with_epsilon,
)

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

LAST = frozenset({"Div", "Mul", "Add", "Sub"})
OPSET = 17
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class _Norm:
    """What LayerNormalization needs; scale and bias in the shape of the normalised axes."""

    x: Value
    axes: Axes
    epsilon: float
    scale: Floats | None = field(default=None, compare=False)
    bias: Floats | None = field(default=None, compare=False)


def rewrite(model: Model, node: Node) -> bool:
    """The division, the scale behind it, or the bias behind that; each of the latter goes into the operator made before."""
    norm = _divided(node)
    if norm is None and node.op_type == "Mul":
        norm = _multiplied(node)
    if norm is None and node.op_type in ("Add", "Sub"):
        norm = _unfolded(node)
    if norm is not None:
        return same_type(norm.x, node.outputs[0]) and has_opset(model, OPSET) and _replace(model, node, norm)
    return _takes(model, node)


def _divided(node: Node) -> _Norm | None:
    """``(x - mean) / sqrt(variance + epsilon)``."""
    return _of(centred(node.inputs[0]), root_of(node.inputs[1]), node.inputs[1]) if node.op_type == "Div" else None


def _multiplied(node: Node) -> _Norm | None:
    """``(x - mean) * (1 / sqrt(variance + epsilon))``, with a scale in the second factor or not."""
    for left, right in pairs(node):
        centre = centred(left)
        if centre is not None:
            return _scaled(centre, right)
    return None


def _unfolded(node: Node) -> _Norm | None:
    """``x * g + (bias - mean * g)`` with ``g = scale / sqrt(variance + epsilon)``, as TensorFlow writes it."""
    for left, right in pairs(node):
        product = made_by(left, "Mul")
        offset = made_by(right, "Sub") if node.op_type == "Add" else None
        shift = made_by(offset.inputs[1] if offset is not None else right, "Mul")
        if product is None or shift is None or (offset is None and node.op_type == "Add"):
            continue
        for x, factor in pairs(product):
            for mean, same in pairs(shift):
                found = mean_of(mean)
                if same is factor and found is not None and found[0] is x and keeps_axes(mean, found):
                    norm = _scaled(found, factor)
                    return _biased(norm, offset.inputs[0]) if norm is not None and offset is not None else norm
    return None


def _scaled(centre: tuple[Value, Axes], factor: Value) -> _Norm | None:
    norm = _of(centre, inverse_root_of(factor), factor)
    if norm is not None:
        return norm
    product = made_by(factor, "Mul")
    for inverse, constant in pairs(product) if product is not None else ():
        norm = _of(centre, inverse_root_of(inverse), inverse)
        scale = over_axes(constant, graph.shape(centre[0]), centre[1])
        if norm is not None and scale is not None:
            return _Norm(norm.x, norm.axes, norm.epsilon, scale)
    return None


def _biased(norm: _Norm, constant: Value | None) -> _Norm | None:
    bias = over_axes(constant, graph.shape(norm.x), norm.axes) if constant is not None else None
    return _Norm(norm.x, norm.axes, norm.epsilon, norm.scale, bias) if bias is not None else None


def _of(centre: tuple[Value, Axes] | None, radicand: Value | None, root: Value | None) -> _Norm | None:
    """Both halves are about the same x and axes."""
    inner = with_epsilon(radicand) if radicand is not None else None
    if centre is None or inner is None or not keeps_axes(root, centre):
        return None
    spread = variance_of(inner[0])
    return _Norm(*centre, inner[1]) if spread is not None and spread[0] is centre[0] and spread[1] == centre[1] else None


def _replace(model: Model, node: Node, norm: _Norm) -> bool:
    dims = graph.shape(norm.x)
    others = tuple(axis for axis in range(len(dims)) if axis not in norm.axes)
    perm = (*others, *norm.axes)
    is_last = perm == tuple(range(len(dims)))
    x = norm.x if is_last else transposed(model, norm.x, perm, node)
    held = [(norm.scale if norm.scale is not None else np.ones([dims[a] for a in norm.axes], np.float32), "scale")]
    if norm.bias is not None:
        held.append((norm.bias, "bias"))
    constants = [graph.add_initializer(model, f"{node.name}_{name}", array) for array, name in held]
    attrs = {"axis": -len(norm.axes), "epsilon": norm.epsilon}
    name = f"{node.name}_LayerNormalization"
    made = graph.new_node(model, "LayerNormalization", [x, *constants], name, attrs=attrs, name=name, before=node, like=x)
    if not is_last:
        made = transposed(model, made, tuple(perm.index(axis) for axis in range(len(dims))), node)
    graph.replace_uses(node.outputs[0], made, outputs=True)
    graph.remove_node(model, node)
    return True


def _takes(model: Model, node: Node) -> bool:
    """A constant factor or summand of the only reader goes into the operator."""
    if node.op_type not in ("Mul", "Add"):
        return False
    for value, constant in pairs(node):
        found = _made(value)
        if found is None:
            continue
        operator, axes = found
        array = over_axes(constant, graph.shape(value), axes)
        if (
            array is None
            or graph.shape(node.outputs[0]) != graph.shape(value)
            or not _absorb(model, operator, node.op_type, array)
        ):
            continue
        graph.replace_uses(node.outputs[0], value, outputs=True)
        graph.remove_node(model, node)
        return True
    return False


def _made(value: Value) -> tuple[Node, Axes] | None:
    """The LayerNormalization that makes ``value`` for one reader, and the axes of ``value`` that it works on."""
    if len(graph.consumers(value)) != 1 or graph.is_graph_output(value):
        return None
    turn = made_by(value, "Transpose")
    inner = turn.inputs[0] if turn is not None else value
    operator = made_by(inner, "LayerNormalization")
    if inner is None or operator is None or any(v.uses() for v in operator.outputs[1:]):
        return None
    if turn is not None and (len(graph.consumers(inner)) != 1 or graph.is_graph_output(inner)):
        return None
    rank = len(graph.shape(inner))
    perm = tuple(graph.attribute(turn, "perm")) if turn is not None else tuple(range(rank))
    first = int(graph.attribute(operator, "axis", -1)) % rank
    return operator, tuple(perm.index(axis) for axis in range(first, rank))


def _absorb(model: Model, operator: Node, kind: str, array: Floats) -> bool:
    """A factor needs a scale of ones and no bias behind it, a summand needs that there is no bias yet."""
    has_bias = len(operator.inputs) > 2 and operator.inputs[2] is not None
    scale = graph.constant(operator.inputs[1])
    if has_bias or scale is None or (kind == "Mul" and not (scale == 1).all()):
        return False
    made = graph.add_initializer(model, f"{operator.name}_{'scale' if kind == 'Mul' else 'bias'}", array)
    if kind == "Add" and len(operator.inputs) < 3:
        operator.resize_inputs(3)
    operator.replace_input_with(1 if kind == "Mul" else 2, made)
    return True
