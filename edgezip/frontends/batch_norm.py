"""BatchNormalization folded into the convolution or Gemm in front of it (computed in float64, rounded once)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

FOLDABLE = {"Conv", "ConvTranspose", "Gemm"}


def fold(model: Model) -> None:
    """Folds BatchNormalization into a Conv, ConvTranspose or Gemm with constant float32 weights and no other reader.

    y = (W x + b - mean) * gamma / sqrt(var + epsilon) + beta. Others stay as they are.
    """
    for node in graph.nodes(model):
        if node.op_type == "BatchNormalization":
            layer = node.inputs[0].producer() if node.inputs[0] is not None else None
            if layer is not None and layer.op_type in FOLDABLE:
                _fold_into(model, layer, node)


def _fold_into(model: Model, layer: Node, norm: Node) -> None:
    made = layer.outputs[0]
    weight, bias = graph.constant(layer.inputs[1]), _bias(layer)
    parameters = [graph.constant(value) for value in norm.inputs[1:5]]
    if len(made.uses()) != 1 or made.is_graph_output() or weight is None or weight.dtype != np.float32 or bias is None:
        return
    if any(array is None for array in parameters):
        return
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in parameters)
    factor = gamma / np.sqrt(variance + graph.attribute(norm, "epsilon", 1e-5))
    channels = len(factor)
    if bias.size not in (1, channels) or not np.isfinite(factor).all():
        return
    new_weight = _scaled(layer, weight.astype(np.float64), factor).astype(np.float32)
    new_bias = ((np.broadcast_to(bias.reshape(-1), (channels,)) - mean) * factor + beta).astype(np.float32)
    if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
        return
    _write(model, layer, 1, f"{layer.name}_weight", new_weight)
    _write(model, layer, 2, f"{layer.name}_bias", new_bias)
    if layer.op_type == "Gemm":
        for name in ("alpha", "beta"):
            graph.set_attribute(layer, name, None)
    _hand_over(model, made, norm)


def _bias(layer: Node) -> graph.Array | None:
    """The layer's bias in float64, beta of Gemm applied; zero when there is none, None when it is not constant."""
    value = layer.inputs[2] if len(layer.inputs) > 2 else None
    if value is None:
        return np.zeros(1)
    array = graph.constant(value)
    return None if array is None else array.astype(np.float64) * graph.attribute(layer, "beta", 1.0)


def _scaled(layer: Node, weight: graph.Array, factor: graph.Array) -> graph.Array:
    """The weight with every output channel multiplied by its factor."""
    if layer.op_type == "Conv":
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    if layer.op_type == "Gemm":
        alpha = graph.attribute(layer, "alpha", 1.0)
        return alpha * weight * (factor[:, None] if graph.attribute(layer, "transB", 0) else factor[None, :])
    group = graph.attribute(layer, "group", 1)  # ConvTranspose: (inputs, outputs per group, kernel...)
    per_group = factor.reshape(group, 1, -1)
    split = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
    scaled: graph.Array = (split * per_group[..., None]).reshape(weight.shape)
    return scaled


def _write(model: Model, layer: Node, index: int, name: str, array: graph.Array) -> None:
    """Puts the array into the layer's own initializer, or into a new one when others share it or there is none."""
    value = layer.inputs[index] if len(layer.inputs) > index else None
    if value is not None and value.is_initializer() and len(value.uses()) == 1 and not value.is_graph_output():
        graph.replace_weight(model, str(value.name), array)
        return
    fresh = graph.add_initializer(model, name, array)
    if len(layer.inputs) <= index:
        layer.resize_inputs(index + 1)
    layer.replace_input_with(index, fresh)


def _hand_over(model: Model, made: Value, norm: Node) -> None:
    """Readers of the norm's output read the layer's; a graph output keeps its name."""
    result = norm.outputs[0]
    name = str(result.name)
    is_output = result.is_graph_output()
    if is_output:
        model.graph.outputs[next(i for i, value in enumerate(model.graph.outputs) if value is result)] = made
    graph.replace_uses(result, made)
    graph.remove_node(model, norm)
    if is_output:
        made.name = name
