"""BatchNormalization that could not be folded into a convolution: x * factor + offset for each channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref
from edgezip.pack.context import Context, Unsupported, constant_of
from edgezip.pack.lower.affine import Affine, affine_int8
from edgezip.pack.lower.elementwise import emit_binary
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.program import Binary

if TYPE_CHECKING:
    from edgezip.graph import Node

Array = np.ndarray[Any, Any]


def _factor_and_offset(node: Node) -> tuple[Array, Array]:
    """float64 (channels,) each."""
    scale, shift, mean, variance = (constant_of(v) for v in node.inputs[1:5])
    if scale is None or shift is None or mean is None or variance is None:
        raise Unsupported("has statistics that are computed at run time")
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + float(graph.attribute(node, "epsilon", 1e-5)))
    return factor, shift.astype(np.float64) - mean.astype(np.float64) * factor


@lowers("BatchNormalization")
def batch_normalization(context: Context, node: Node) -> None:
    """A product and an addition in float32."""
    factor, offset = _factor_and_offset(node)
    assert node.inputs[0] is not None
    x = context.value(node.inputs[0])
    column = (-1, *[1] * (len(x.shape) - 2))
    product, y = context.like(x, f"{node.outputs[0].name}.scaled"), context.like(x, node.outputs[0].name or "")
    for kind, name, values, source, made in (
        (Binary.MUL, "scale", factor, x, product),
        (Binary.ADD, "shift", offset, product, y),
    ):
        constant = context.constant(f"{node.name}.{name}", values.astype(np.float32).reshape(column))
        emit_binary(context, node, kind, source, constant, made, {})
    context.set(node.outputs[0], y)


@lowers_int8("BatchNormalization")
def batch_normalization_int8(context: Context, node: Node, target: Target8) -> Ref:
    """One depthwise product."""
    assert node.inputs[0] is not None
    x = context.int8(node.inputs[0])
    assert x is not None
    return affine_int8(context, node, x, Affine(node.inputs[0], 1, *_factor_and_offset(node)), target)
