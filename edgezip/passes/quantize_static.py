"""Post-training int8 as QDQ ONNX: asymmetric activations per tensor, symmetric weights per output channel, int32 biases.

Any runtime runs the result. Weights lie in [-127, 127] (EZ-N1 rule 1); each weight scale is bounded from below so that the int32
bias and the accumulator cannot overflow (a known failure of other tools: onnxruntime #21000).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.passes.place_qdq import Placement, output_axis
from edgezip.passes.round_weights import BIAS_LIMIT, quantize_weights
from edgezip.passes.stored_weights import stored_weights

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

Array = np.ndarray[Any, Any]


def quantize_static(model: Model, placement: Placement, params: Mapping[str, tuple[float, int]]) -> Model:
    """``model`` with QuantizeLinear and DequantizeLinear as ``placement`` says; the original is not touched.

    ``params``: (scale, zero point) of each point. The placement must have been made on this very model.
    """
    quantised = graph.clone(model)
    by_name = {node.name: node for node in graph.nodes(quantised)}
    taken = graph.names(quantised)
    for node in placement.products:
        _quantize_product(quantised, by_name[node.name], params, taken)
    values = graph.values(quantised)
    for name, uses in placement.points.items():
        scale, zero = params[name]
        there = None if uses is None else [(by_name[user.name], index) for user, index in uses]
        parameters = np.array(scale, np.float32), np.array(zero, np.int8)
        graph.insert_qdq(quantised, values[name], *parameters, uses=there, taken=taken)
    graph.sort(quantised)
    return quantised


def input_scale(node: Node, params: Mapping[str, tuple[float, int]]) -> float | None:
    """Scale of the int8 tensor that feeds the node, through operators that only move data."""
    value: Value | None = node.inputs[0]
    while value is not None:
        if value.name in params:
            return params[value.name or ""][0]
        maker = graph.producer(value)
        value = maker.inputs[0] if maker is not None else None
    return None


def _quantize_product(model: Model, node: Node, params: Mapping[str, tuple[float, int]], taken: set[str]) -> None:
    axis = output_axis(node)
    bias_value = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
    bias = graph.constant(bias_value)
    sx = input_scale(node, params)
    scale = _quantize_weight(model, node, axis, bias, sx or 1.0, taken)
    if bias is not None and bias_value is not None and sx is not None and bias.ndim == 1:
        _quantize_bias(model, node, bias_value, bias, np.float64(sx) * scale.astype(np.float64), taken)


def _quantize_weight(model: Model, node: Node, axis: int | None, bias: Array | None, sx: float, taken: set[str]) -> Array:
    """The scales, (outputs,) or (1,); weights that are integers already keep theirs."""
    ready = stored_weights(node, axis)
    if ready is not None:
        return _as_stored(model, ready, axis, bias, sx)
    weight = node.inputs[1]
    held = graph.constant(weight)
    assert weight is not None
    assert held is not None
    values, scale = quantize_weights(held, axis, bias, sx)
    stored = scale[0].reshape(()) if axis is None else scale
    graph.quantize_weight(
        model, weight, values, stored, np.zeros(stored.shape, np.int8), axis=axis, uses=[(node, 1)], taken=taken
    )
    return scale


def _as_stored(model: Model, ready: Node, axis: int | None, bias: Array | None, sx: float) -> Array:
    """The scales of integers that a pass before made. Where one is so fine that the bias would leave int32, the row gets coarser.

    Such rows hold next to nothing: channels that training left dead.
    """
    stored, scale = (np.asarray(graph.constant(value)) for value in ready.inputs[:2])
    old = scale.astype(np.float32).reshape(-1)
    if bias is None or axis is None:
        return old
    largest = np.abs(bias.astype(np.float64).reshape(-1))
    floor = (largest if largest.size == old.size else largest.max(keepdims=True)) / (sx * BIAS_LIMIT)
    new = np.maximum(old, floor).astype(np.float32)
    if (new == old).all():
        return old
    ratio = (old.astype(np.float64) / new).reshape([-1 if a == axis and old.size > 1 else 1 for a in range(stored.ndim)])
    names = [str(value.name) for value in ready.inputs[:2] if value is not None]
    graph.replace_weight(model, names[0], np.rint(stored.astype(np.float64) * ratio).astype(stored.dtype))
    graph.replace_weight(model, names[1], new.reshape(scale.shape))
    return new


def _quantize_bias(model: Model, node: Node, value: Value, bias: Array, steps: Array, taken: set[str]) -> None:
    if node.op_type == "Gemm" and float(graph.attribute(node, "beta", 1.0)) != 1.0:
        return
    outputs = len(bias)
    scale = np.broadcast_to(steps, (outputs,)).astype(np.float32)
    stored = np.rint(bias.astype(np.float64) / np.broadcast_to(steps, (outputs,))).astype(np.int32)
    graph.quantize_weight(model, value, stored, scale, np.zeros(outputs, np.int32), axis=0, uses=[(node, 2)], taken=taken)
