"""Simplification that keeps every number: nodes without effect, BatchNorm into weights, dead nodes, duplicate constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends import weights

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

# these copy their input when shape and dtype do not change
COPIES = {"Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Cast"}


def run(model: Model) -> None:
    """Simplifies a model whose shapes are known, in place."""
    for node in graph.nodes(model):
        if has_no_effect(node):
            _bypass(model, node)
    before = _norms(model)
    weights.fold(model)
    if before > _norms(model):
        graph.count_note(model, "BatchNormalization: folded into the layer before", before - _norms(model))
    graph.remove_unused(model)
    _merge_equal_constants(model)


def _norms(model: Model) -> int:
    return sum(node.op_type == "BatchNormalization" for node in graph.nodes(model))


def inputs_without_initializers(model: Model) -> None:
    """Old files list the weights among the inputs, as defaults that may be overridden; here they are constants."""
    from onnx_ir.passes.common import RemoveInitializersFromInputsPass

    RemoveInitializersFromInputsPass()(model)


def name_nodes(model: Model) -> None:
    """Unnamed nodes are called by operator and place (``Conv_12``); a second node of the same name gets a suffix.

    A first output that is left out (Y of an LSTM whose last state alone is read) gets a name too: all rules look at it.
    """
    taken: set[str] = set()
    for node in graph.nodes(model):
        if node.name:
            taken.add(node.name)
    seen: set[str] = set()
    for index, node in enumerate(graph.nodes(model)):
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        base = f"{node.op_type}_{index}" if not node.name else f"{node.name}_{index}"
        name, count = base, 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        node.name = name
        taken.add(name)
        seen.add(name)
    for node in graph.nodes(model):
        if not node.outputs[0].name:
            graph.rename(node.outputs[0], graph.unique_name(model, f"{node.name}_output"))


def has_no_effect(node: Node) -> bool:
    """Whether the node only hands its first input on."""
    source = node.inputs[0] if node.inputs else None
    if (
        source is None
        or not node.outputs
        or graph.shape(source) != graph.shape(node.outputs[0])
        or source.dtype != node.outputs[0].dtype
    ):
        return False
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return False  # the mask of a Dropout is read
    if node.op_type == "Dropout":
        return not _trains(node)
    if node.op_type == "Transpose":
        perm = graph.attribute(node, "perm")
        return perm is not None and list(perm) == sorted(perm)
    if node.op_type == "Pad":
        return (pads := _pads(node)) is not None and not pads.any()
    if node.op_type == "Concat":
        return len(node.inputs) == 1
    if node.op_type == "Clip":
        return all(bound is None for bound in node.inputs[1:]) and not node.attributes
    if node.op_type == "Slice":
        return _steps_forward(node)
    return node.op_type in COPIES


def _trains(node: Node) -> bool:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    mode = graph.constant(node.inputs[2])
    return mode is None or bool(mode.any())


def _pads(node: Node) -> graph.Array | None:
    return graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None


def _steps_forward(node: Node) -> bool:
    """A slice of its input's own shape is all of it, unless it goes backwards."""
    steps = graph.constant(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(1, np.int64)
    return steps is not None and bool((steps == 1).all())


def _bypass(model: Model, node: Node) -> None:
    """Lets readers of the output read the input; a node between a graph input or constant and a graph output stays."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    if result.is_graph_output():
        if source.producer() is None or source.is_graph_output():
            return
        name = str(result.name)
        graph.replace_uses(result, source)
        index = next(i for i, value in enumerate(model.graph.outputs) if value is result)
        model.graph.outputs[index] = source
        graph.remove_node(model, node)
        source.name = name
        return
    graph.replace_uses(result, source)
    graph.remove_node(model, node)


def _merge_equal_constants(model: Model) -> None:
    """One initializer for equal small constants: integers and scalars, and none of quantisation, where passes own each scale.

    Rows of floats may be parameters that are equal only before training.
    """
    first: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
    for value in graph.initializers(model):
        array = graph.constant(value)
        if array is None or array.size > 16 or array.dtype == object or (array.dtype.kind == "f" and array.ndim):
            continue
        if value.is_graph_output() or _quantizes(value):
            continue
        key = (str(array.dtype), array.shape, np.ascontiguousarray(array).tobytes())
        kept = first.setdefault(key, value)
        if kept is not value:
            graph.replace_uses(value, kept)
            model.graph.initializers.pop(str(value.name))


def _quantizes(value: Value) -> bool:
    return any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node, _ in graph.consumers(value))
