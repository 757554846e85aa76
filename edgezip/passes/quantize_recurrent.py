"""Weights of RNN, GRU and LSTM nodes as int8 rows; their activations are quantised row by row at run time (EZ-N1 rule 8).

Any runtime runs the result in float: the weights stand behind DequantizeLinear, and only the metadata of the node says the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.passes.round_weights import quantize_weights

if TYPE_CHECKING:
    from edgezip.graph import Array, Model, Node

WEIGHTS = (1, 2)  # inputs of the node: of its input, of its state


def quantize_recurrent(model: Model, names: set[str]) -> None:
    """Writes the weights of these nodes as int8, one scale for each row of each direction, in place."""
    for node in graph.nodes(model):
        if node.name not in names:
            continue
        for position in WEIGHTS:
            held = graph.constant(node.inputs[position])
            assert held is not None
            _quantize(model, node, position, held)
        graph.set_metadata(node, *graph.DYNAMIC_ROWS)


def _quantize(model: Model, node: Node, position: int, held: Array) -> None:
    """One direction keeps its shape; two stand in one matrix, since a scale belongs to one axis."""
    directions, rows, columns = held.shape
    values, scale = quantize_weights(held.reshape(directions * rows, columns), 0)
    zeros = np.zeros(len(scale), np.int8)
    weight = node.inputs[position]
    assert weight is not None
    if directions == 1:
        graph.quantize_weight(model, weight, values.reshape(held.shape), scale, zeros, axis=1, uses=[(node, position)])
        return
    matrix = graph.add_initializer(model, f"{weight.name}_rows", held.reshape(directions * rows, columns))
    dims = graph.add_initializer(model, f"{weight.name}_shape", np.array(held.shape, np.int64))
    shaped = graph.new_node(model, "Reshape", [matrix, dims], f"{weight.name}_both", before=node, like=weight)
    node.replace_input_with(position, shaped)
    maker = graph.producer(shaped)
    assert maker is not None
    graph.quantize_weight(model, matrix, values, scale, zeros, axis=0, uses=[(maker, 0)])
    if not graph.consumers(weight):
        graph.remove_unused(model)
