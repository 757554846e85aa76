"""Weights that an earlier pass stored as integers: static quantisation takes them as they are, reports count their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Node

Array = np.ndarray[Any, Any]
NARROW = {"int8", "int4", "int2"}
BITS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8}  # that a code takes up in a file


@dataclass(frozen=True, slots=True)
class Stored:
    """Integers behind a DequantizeLinear, and the bytes that they, their scales and zero points take up in a file."""

    codes: Array
    file_bytes: int


def stored_constants(node: Node) -> list[Stored]:
    """Of all inputs of the node."""
    found = []
    for value in node.inputs:
        maker = graph.producer(value) if value is not None else None
        if maker is None or maker.op_type != "DequantizeLinear":
            continue
        held = [array for array in map(graph.constant, maker.inputs) if array is not None]
        if len(held) == len(maker.inputs):
            sizes = [-(-array.size * BITS.get(array.dtype.name, 8 * array.itemsize) // 8) for array in held]
            found.append(Stored(held[0], sum(sizes)))
    return found


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
