"""Weights that an earlier pass stored as integers: static quantisation takes them as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Node

NARROW = {"int8", "int4", "int2"}


def stored_weights(node: Node, output_axis: int | None) -> Node | None:
    """The DequantizeLinear of the node's weights when an int8 kernel can take its integers; None for any other weights.

    They are symmetric, of at most 8 bits, with one scale for the tensor or one along ``output_axis``.
    """
    value = node.inputs[1] if len(node.inputs) > 1 else None
    maker = graph.producer(value) if value is not None else None
    if maker is None or maker.op_type != "DequantizeLinear" or graph.attribute(maker, "block_size", 0):
        return None
    held, scale = (graph.constant(each) for each in maker.inputs[:2])
    zero = graph.constant(maker.inputs[2]) if len(maker.inputs) > 2 and maker.inputs[2] is not None else None
    if held is None or scale is None or held.dtype.name not in NARROW or (zero is not None and zero.astype(np.int32).any()):
        return None
    if held.astype(np.int32).min(initial=0) < -127:
        return None
    axis = int(graph.attribute(maker, "axis", 1)) % held.ndim
    return maker if scale.size == 1 or axis == output_axis else None
