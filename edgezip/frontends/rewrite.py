"""Forms that the runtime has in other words: each is written anew with the same numbers, so that no later stage knows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends import recurrent, spectral, whole_bytes

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value


def run(model: Model) -> None:
    """Rewrites in place; shapes are known."""
    if graph.opset(model) < 13 and any(_flattens(node) for node in graph.nodes(model)):
        graph.raise_opset(model, 13)
    for node in graph.nodes(model):
        rule = None if node.domain else _RULES.get(node.op_type)
        if rule is not None:
            rule(model, node)
            if node.graph is None and node.op_type in _NOTES:
                graph.count_note(model, _NOTES[node.op_type])
    whole_bytes.widen(model)


def _flattens(node: Node) -> bool:
    """Softmax up to opset 12 works on all axes from its own on; with one axis of more than one element that is the new form."""
    if node.op_type != "Softmax" or node.inputs[0] is None:
        return False
    dims = graph.shape(node.inputs[0])
    axis = int(graph.attribute(node, "axis", 1)) % max(len(dims), 1)
    return axis < len(dims) - 1


def _gemm(model: Model, node: Node) -> None:
    """A stands as it is, C is a row of constants: a transposed A and any other C get nodes of their own."""
    if graph.attribute(node, "transA", 0):
        source = node.inputs[0]
        assert source is not None
        turned = graph.new_node(model, "Transpose", [source], f"{node.name}_a", attrs={"perm": [1, 0]}, before=node)
        graph.set_type(turned, graph.dtype(source), graph.shape(source)[::-1])
        node.replace_input_with(0, turned)
        graph.set_attribute(node, "transA", 0)
    added = node.inputs[2] if len(node.inputs) > 2 else None
    if added is not None and not _is_row(added, graph.shape(node.outputs[0])[1]):
        _add_behind(model, node, added)


def _is_row(added: Value, columns: int) -> bool:
    made_by = graph.producer(added)
    stored = made_by.inputs[0] if made_by is not None and made_by.op_type == "DequantizeLinear" else added
    return graph.constant(stored) is not None and graph.shape(added) in ((columns,), (1, columns), (1,), (1, 1), ())


def _add_behind(model: Model, node: Node, added: Value) -> None:
    """``beta * C`` is added by a node of its own."""
    beta = np.float32(graph.attribute(node, "beta", 1.0))
    node.resize_inputs(2)
    graph.set_attribute(node, "beta", None)
    if beta != 1:
        factor = graph.add_initializer(model, f"{node.name}_beta", np.asarray(beta, graph.dtype(added)))
        added = graph.new_node(model, "Mul", [added, factor], f"{node.name}_c", before=node, like=added)
    graph.insert_after(model, node.outputs[0], "Add", extra_inputs=[added], name=f"{node.name}_add")


def _sum(model: Model, node: Node) -> None:
    """Sum of many is Add of two, from left to right as ONNX Runtime does it."""
    terms = [value for value in node.inputs if value is not None]
    total = terms[0]
    for number, term in enumerate(terms[1:-1]):
        made = graph.new_node(model, "Add", [total, term], f"{node.name}_{number}", before=node)
        graph.set_type(made, graph.dtype(total), np.broadcast_shapes(graph.shape(total), graph.shape(term)))
        total = made
    operator = "Add" if len(terms) > 1 else "Identity"
    result = node.outputs[0]
    made = graph.new_node(
        model, operator, [total, *terms[-1:]] if len(terms) > 1 else [total], f"{node.name}_sum", before=node, like=result
    )
    graph.replace_uses(result, made, outputs=True)
    graph.remove_node(model, node)


_RULES: dict[str, Callable[[Model, Node], None]] = {
    "DFT": spectral.transform,
    "GRU": recurrent.time_first,
    "Gemm": _gemm,
    "LSTM": recurrent.time_first,
    "RNN": recurrent.time_first,
    "STFT": spectral.short_time,
    "Sum": _sum,
}
_NOTES = {"DFT": "DFT: a product with a table of cosines", "STFT": "STFT: a convolution with a table of cosines"}
