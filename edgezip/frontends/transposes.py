"""Channels-last islands: transposes to NHWC sink behind elementwise operators until they meet one that undoes them.

Converters of channels-last frameworks put a pair of transposes around every convolution. What stands between two convolutions
then hides from the fusion and quantisation rules. Only Transpose(0, 2, 3, 1) sinks, so other models are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Array, Model, Node, Value

TO_NHWC = (0, 2, 3, 1)
BACK = (0, 3, 1, 2)
UNARY = {
    "Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Clip", "Exp", "Sqrt", "Neg", "Abs", "Log",
    "Floor", "Ceil", "Gelu", "Reciprocal", "Softplus", "Erf", "Not", "Cast", "Identity", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
BROADCAST = {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Where", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual",
}  # fmt: skip
REDUCTIONS = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"}


def sink(model: Model) -> None:
    """Moves transposes down and cancels the pairs, in place; every number stays."""
    for node in graph.nodes(model):
        if node.op_type == "Transpose":
            _join(node)
        elif not node.domain and len(node.outputs) == 1 and (rule := _RULES.get(node.op_type)):
            rule(model, node)


def _source(value: Value | None) -> Value | None:
    """What a transpose to NHWC read, None when ``value`` is not the result of one."""
    made_by = graph.producer(value) if value is not None else None
    if made_by is None or made_by.op_type != "Transpose" or tuple(graph.attribute(made_by, "perm") or ()) != TO_NHWC:
        return None
    return made_by.inputs[0]


def _join(node: Node) -> None:
    """A transpose of a transpose is one; when they undo each other, ``has_no_effect`` removes it."""
    perm = graph.attribute(node, "perm")
    source = _source(node.inputs[0])
    if source is None or perm is None:
        return
    node.replace_input_with(0, source)
    graph.set_attribute(node, "perm", [TO_NHWC[axis] for axis in perm])


def _transpose_behind(model: Model, node: Node) -> None:
    """The node's result is NCHW now: its readers get it as NHWC."""
    result = node.outputs[0]
    kind, dims = graph.dtype(result), graph.shape(result)
    graph.set_type(result, kind, [dims[axis] for axis in BACK])
    made = graph.insert_after(model, result, "Transpose", attrs={"perm": list(TO_NHWC)}, name=f"{result.name}_nhwc")
    graph.set_type(made, kind, dims)


def _unary(model: Model, node: Node) -> None:
    source = _source(node.inputs[0])
    others = [graph.constant(value) for value in node.inputs[1:] if value is not None]
    if source is None or any(array is None or array.size != 1 for array in others):
        return
    if node.op_type == "QuantizeLinear" and graph.is_graph_output(node.outputs[0]):
        return  # a quantised output is what the quantiser writes, not a transpose of it
    node.replace_input_with(0, source)
    _transpose_behind(model, node)


def _broadcast(model: Model, node: Node) -> None:
    """All inputs are NHWC transposes or constants; constants are turned as well."""
    turned: list[Value | Array] = []
    for value in node.inputs:
        source = _source(value)
        array = graph.constant(value) if source is None else None
        if source is None and (array is None or array.ndim > 4):
            return
        turned.append(source if source is not None else _turned(array))  # type: ignore[arg-type]  # one of them is there
    if all(isinstance(item, np.ndarray) for item in turned) or len(graph.shape(node.outputs[0])) != 4:
        return
    for index, item in enumerate(turned):
        if isinstance(item, np.ndarray):
            if item.size == 1:
                continue
            name = graph.unique_name(model, f"{node.name}_constant_{index}")
            node.replace_input_with(index, graph.add_initializer(model, name, item))
        else:
            node.replace_input_with(index, item)
    _transpose_behind(model, node)


def _turned(array: Array) -> Array:
    """A constant that broadcasts to NHWC, for NCHW."""
    return np.ascontiguousarray(array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(BACK))


def _concat(model: Model, node: Node) -> None:
    sources = [_source(value) for value in node.inputs]
    if not sources or any(source is None for source in sources):
        return
    graph.set_attribute(node, "axis", TO_NHWC[int(graph.attribute(node, "axis")) % 4])
    for index, source in enumerate(sources):
        assert source is not None
        node.replace_input_with(index, source)
    _transpose_behind(model, node)


def _pad(model: Model, node: Node) -> None:
    source, pads = _source(node.inputs[0]), graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if source is None or pads is None or pads.size != 8 or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return
    order = pads.reshape(2, 4)[:, list(BACK)].reshape(-1)
    node.replace_input_with(0, source)
    node.replace_input_with(1, graph.add_initializer(model, graph.unique_name(model, f"{node.name}_pads"), order))
    _transpose_behind(model, node)


def _reduce(model: Model, node: Node) -> None:
    """Over constant axes that are kept as 1, or whose removal leaves the order of the others."""
    source, axes = _source(node.inputs[0]), graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if source is None or axes is None:
        return
    reduced = [int(axis) % 4 for axis in axes.reshape(-1)]
    left = [TO_NHWC[axis] for axis in range(4) if axis not in reduced]
    keep = bool(graph.attribute(node, "keepdims", 1))
    if not keep and left != sorted(left):
        return
    inner = np.array(sorted(TO_NHWC[axis] for axis in reduced), np.int64)
    node.replace_input_with(0, source)
    node.replace_input_with(1, graph.add_initializer(model, graph.unique_name(model, f"{node.name}_axes"), inner))
    if keep:
        _transpose_behind(model, node)


_RULES: dict[str, Callable[[Model, Node], None]] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BROADCAST, _broadcast),
    **dict.fromkeys(REDUCTIONS, _reduce),
    "Concat": _concat,
    "Pad": _pad,
}
