"""Values without elements: constants of their shape, whatever would have made them; only results of the model may stay empty.

An exporter cuts a tensor where nothing is left of it (the past of a first step, the fourth part of three). The runtime moves no
such tensor: who reads one reads a constant, Concat leaves it out, and a result of the model that is empty is handed out as
it is. Where a window or an image operator makes one, the input is too small for the model: that is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.errors import UnsupportedModelError

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

TOO_SMALL = {  # their result has no elements when the input is smaller than the window
    "AveragePool",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LpPool",
    "MaxPool",
    "QLinearConv",
    "Resize",
    "Upsample",
}


def is_empty(value: Value) -> bool:
    """Whether the value is known to have no elements."""
    return value.dtype is not None and graph.has_static_shape(value) and 0 in graph.shape(value)


def settle(model: Model, where: str) -> bool:
    """Replaces every empty value by a constant, in place; inputs of the model that are empty are gone then. Whether any was.

    Raises UnsupportedModelError that names every window operator whose input is too small.
    """
    _refuse_too_small(model, where)
    changed = _drop_parts(model)
    for value in [value for value in graph.input_values(model) if is_empty(value)]:
        _replace(model, value)
        model.graph.inputs.remove(value)
        changed = True
    for node in graph.nodes(model):
        if _hands_out(node):
            continue
        found = [value for value in node.outputs if value.name and is_empty(value) and _is_read(value)]
        for value in found:
            _replace(model, value)
        if found and not any(_is_read(value) for value in node.outputs):
            model.graph.remove(node, safe=True)
        changed |= bool(found)
    return changed


def _refuse_too_small(model: Model, where: str) -> None:
    found = [
        f"node '{node.name}' ({node.op_type}) makes '{value.name}' of shape {'x'.join(map(str, graph.shape(value)))}"
        for node in graph.nodes(model)
        for value in node.outputs
        if node.op_type in TOO_SMALL and value.name and is_empty(value)
    ]
    if found:
        raise UnsupportedModelError(
            f"{len(found)} tensors have no elements: {'; '.join(found[:8])}",
            where=where,
            hint="check --shape: is the input large enough? or cut these nodes off and export again",
        )


def _is_read(value: Value) -> bool:
    return bool(value.uses()) or graph.is_graph_output(value)


def _hands_out(node: Node) -> bool:
    """Whether the node is what ``_replace`` leaves of an empty result."""
    source = node.inputs[0] if node.op_type == "Identity" and node.inputs else None
    return source is not None and source.is_initializer() and graph.is_graph_output(node.outputs[0])


def _replace(model: Model, value: Value) -> None:
    graph.count_note(model, "values without elements: constants")
    held = graph.add_initializer(model, f"{value.name}.empty", np.zeros(graph.shape(value), graph.dtype(value)))
    if graph.is_graph_output(value):  # a node of its own hands the constant out, under the name of the result
        handed = graph.new_node(model, "Identity", [held], f"{value.name}.out", like=value)
        for place, result in enumerate(model.graph.outputs):
            if result is value:
                model.graph.outputs[place] = handed
        name = str(value.name)
        graph.rename(value, f"{name}.none")
        graph.rename(handed, name)
    graph.replace_uses(value, held)


def _drop_parts(model: Model) -> bool:
    """Takes the empty parts out of every Concat that has others."""
    changed = False
    for node in graph.nodes(model):
        if node.op_type != "Concat" or node.domain:
            continue
        kept = [value for value in node.inputs if value is not None and not is_empty(value)]
        if not kept or len(kept) == len(node.inputs):
            continue
        for place, value in enumerate(kept):
            node.replace_input_with(place, value)
        node.resize_inputs(len(kept))
        changed = True
    return changed
