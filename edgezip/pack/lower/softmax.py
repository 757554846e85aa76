"""Softmax along one axis, brought innermost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref
from edgezip.pack.context import Context, Unsupported
from edgezip.pack.lower.registry import Target8, lowers, lowers_int8
from edgezip.program import DType, Op

if TYPE_CHECKING:
    from edgezip.graph import Node, Value


def _value(value: Value | None) -> Value:
    assert value is not None
    return value


def _innermost(context: Context, node: Node, x: Ref) -> Ref:
    old = graph.attribute(node, "axis") is None and context.opset < 13
    axis = int(graph.attribute(node, "axis", 1 if old else -1)) % len(x.shape)
    if context.opset < 13 and any(size != 1 for size in x.shape[axis + 1 :]):
        raise Unsupported("flattens several axes (the form of opset 12 and older)")
    if x.order[-1] == axis:
        return x
    return context.ordered(x, tuple([a for a in x.order if a != axis] + [axis]))


@lowers("Softmax")
def softmax(context: Context, node: Node) -> None:
    """float32."""
    x = _innermost(context, node, context.value(_value(node.inputs[0])))
    y = context.like(x, node.outputs[0].name or "")
    form = {"op": "Softmax", "node": node.name, "form": "float32"}
    context.builder.step(node.name or "", Op.SOFTMAX, (x.tensor,), (y.tensor,), form, scale=1.0)
    context.set(node.outputs[0], y)


@lowers_int8("Softmax")
def softmax_int8(context: Context, node: Node, target: Target8) -> Ref:
    """int8 through a table of exp(-d * sx), d = 0..255."""
    x = context.int8(_value(node.inputs[0]))
    assert x is not None
    x = _innermost(context, node, x)
    table: Any = np.exp(-np.arange(256) * np.float64(np.float32(x.scale))).astype(np.float32)
    exponents = context.constant(f"{node.name}.exp", table)
    y = context.like(x, node.outputs[0].name or "", DType.S8, target.q)
    scale = float(np.float32(1 / np.float64(np.float32(target.q.scale))))
    form = {"op": "Softmax", "node": node.name, "form": "int8"}
    context.builder.step(node.name or "", Op.SOFTMAX, (x.tensor, exponents.tensor), (y.tensor,), form, scale=scale)
    return context.quantized(y, target.q, f"{node.outputs[0].name}.clipped", clip=target.clip)
