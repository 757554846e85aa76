"""LayerNormalization and RMSNormalization of the last axes, in float32."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack.builder import Ref, plain
from edgezip.pack.context import Context, Unsupported, constant_of
from edgezip.pack.lower.registry import lowers
from edgezip.program import DType, Norm, Op

if TYPE_CHECKING:
    from edgezip.graph import Node

Array = np.ndarray[Any, Any]
KINDS = {
    "LayerNormalization": Norm.LAYER,
    "RMSNormalization": Norm.RMS,
    "SimplifiedLayerNormalization": Norm.RMS,
}
IN_F32, IN_S8, SUM = 1, 2, 4  # ez_norm_params.results


def _row(node: Node, position: int, columns: int) -> Array | None:
    """A constant along the normalised axes as one row, or None when it is absent."""
    if len(node.inputs) <= position or node.inputs[position] is None:
        return None
    held = constant_of(node.inputs[position])
    if held is None or held.size not in (1, columns):
        raise Unsupported("has a scale or bias that is not a constant along the normalised axes")
    return np.broadcast_to(np.asarray(held, np.float32).reshape(-1), (columns,))


@lowers(*KINDS)
def layer_norm(context: Context, node: Node) -> None:
    """One NORM step over rows of all axes from ``axis`` on."""
    if any(graph.consumers(output) or graph.is_graph_output(output) for output in node.outputs[1:]):
        raise Unsupported("has a mean or deviation that is read; only the normalised result is supported")
    assert node.inputs[0] is not None
    x = context.plain(context.value(node.inputs[0]))
    if x.dtype is not DType.F32:
        raise Unsupported(f"works on {x.dtype.name}; the runtime has it for float32")
    axis = int(graph.attribute(node, "axis", -1)) % len(x.shape)
    columns = math.prod(x.shape[axis:])
    rows = (*x.shape[:axis], columns)
    scale, bias = _row(node, 1, columns), _row(node, 2, columns)
    constants = (
        context.constant(f"{node.name}.scale", np.ones(columns, np.float32) if scale is None else scale).tensor,
        -1 if bias is None else context.constant(f"{node.name}.bias", bias).tensor,
    )
    made = context.new(node.outputs[0].name or "", rows, plain(len(rows)), DType.F32)
    source = context.relabelled(x, rows, plain(len(rows)))
    form = {"op": node.op_type, "node": node.name, "form": "float32"}
    epsilon = float(np.float32(graph.attribute(node, "epsilon", 1e-5)))
    params = {"kind": KINDS[node.op_type], "results": IN_F32, "epsilon": epsilon}
    context.builder.step(node.name or "", Op.NORM, (source.tensor, *constants), (made.tensor,), form, **params)
    result: Ref = context.relabelled(made, x.shape, plain(len(x.shape)))
    context.set(node.outputs[0], result)
