"""x * factor + offset with one pair of numbers for each channel, in int8: a depthwise product with one tap.

Exact but for the offset, which is rounded to 1/127 of a step of x: the graph's float constants are never quantised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref, elements
from edgezip.pack.context import Context
from edgezip.pack.lower.convolution import Filter, emit_int8
from edgezip.pack.lower.geometry import Window
from edgezip.pack.lower.registry import Target8
from edgezip.program import DType

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]
POINT = Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
TOP_WEIGHT = 127
TOP_BIAS = 2**30


@dataclass(frozen=True, slots=True)
class Affine:
    """``data * factor + offset`` along ``axis``; float64 (channels,)."""

    data: Value
    axis: int
    factor: Array
    offset: Array


def affine_of(node: Node) -> Affine | None:
    """An Add, Sub, Mul or Div of a tensor and a float constant that varies along one axis at most; else None."""
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    constants = [graph.constant(value) for value in node.inputs]
    if (constants[0] is None) == (constants[1] is None):
        return None
    first = constants[0] is not None  # the constant stands first
    held, data = (constants[0], node.inputs[1]) if first else (constants[1], node.inputs[0])
    assert held is not None
    assert data is not None
    shape = graph.shape(data)
    if graph.shape(node.outputs[0]) != shape or (node.op_type == "Div" and (first or not np.all(held))):
        return None
    wide = (1,) * (len(shape) - held.ndim) + held.shape
    varying = [axis for axis, size in enumerate(wide) if size != 1]
    if len(varying) > 1 or not shape:
        return None
    axis = varying[0] if varying else len(shape) - 1
    values = np.broadcast_to(held.reshape(-1).astype(np.float64), (shape[axis],))
    one, zero = np.ones_like(values), np.zeros_like(values)
    pairs = {
        "Add": (one, values),
        "Sub": (-one, values) if first else (one, -values),
        "Mul": (values, zero),
        "Div": (1 / values if node.op_type == "Div" else one, zero),
    }
    return Affine(data, axis, *pairs[node.op_type])


def affine_int8(context: Context, node: Node, x: Ref, affine: Affine, target: Target8) -> Ref:
    """The step for ``affine`` on the int8 value ``x``."""
    x = context.ordered(x, tuple([a for a in x.order if a != affine.axis] + [affine.axis]))
    channels = x.shape[affine.axis]
    rows = context.relabelled(x, (1, channels, 1, elements(x.shape) // channels), (0, 2, 3, 1))
    step_x = np.float64(np.float32(x.scale))
    unit = np.maximum(np.abs(affine.factor) / TOP_WEIGHT, np.abs(affine.offset) / (step_x * TOP_BIAS))
    scale = np.where(unit > 0, unit, 1).astype(np.float32)
    weights = np.clip(np.rint(affine.factor / scale), -TOP_WEIGHT, TOP_WEIGHT).astype(np.int8)
    bias = np.rint(affine.offset / (step_x * scale.astype(np.float64))).astype(np.int64)
    made = context.new(node.outputs[0].name or "", rows.shape, rows.order, DType.S8, target.q)
    grid = (rows.shape[2], rows.shape[3])
    emit_int8(context, node, rows, made, Filter(weights.reshape(-1, 1, 1), bias, POINT, channels, grid), scale, target)
    return context.relabelled(made, x.shape, x.order)
