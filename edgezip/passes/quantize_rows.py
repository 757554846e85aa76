"""Weights of Gemm and MatMul as int8 columns; their rows are quantised at run time (EZ-N1 rule 8).

Any runtime runs the result in float: the weights stand behind DequantizeLinear, and only the metadata of the node says the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.passes.place_qdq import output_axis
from edgezip.passes.round_weights import quantize_weights

if TYPE_CHECKING:
    from edgezip.graph import Model


def quantize_rows(model: Model, names: set[str]) -> None:
    """Writes the weights of these nodes as int8, one scale for each output, in place; integers of an earlier pass stay."""
    for node in graph.nodes(model):
        if node.name not in names:
            continue
        weight, axis = node.inputs[1], output_axis(node)
        held = graph.constant(weight)
        if held is not None and weight is not None and axis is not None:
            values, scale = quantize_weights(held, axis)
            graph.quantize_weight(model, weight, values, scale, np.zeros(len(scale), np.int8), axis=axis, uses=[(node, 1)])
        graph.set_metadata(node, *graph.DYNAMIC_ROWS)
