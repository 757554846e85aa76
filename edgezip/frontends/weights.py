"""What follows a layer folded into its weights: BatchNormalization and constants per channel (in float64, rounded once)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

FOLDABLE = {"Conv", "ConvTranspose", "Gemm"}


def fold(model: Model) -> None:
    """Folds BatchNormalization, and Add and Mul of a constant per channel, into a Conv, ConvTranspose or Gemm of float32 weights.

    y = (W x + b - mean) * gamma / sqrt(var + epsilon) + beta. Only where nobody else reads the layer's output; others stay.
    """
    for node in graph.nodes(model):
        if node.op_type == "BatchNormalization":
            layer = _layer_of(node.inputs[0])
            if layer is not None:
                _fold_norm(model, layer, node)
        elif node.op_type in ("Add", "Mul"):
            _fold_constant(model, node)


def _layer_of(value: Value | None) -> Node | None:
    """The layer that makes the value for one reader alone."""
    layer = value.producer() if value is not None else None
    if value is None or layer is None or layer.op_type not in FOLDABLE or len(value.uses()) != 1 or value.is_graph_output():
        return None
    weight = graph.constant(layer.inputs[1])
    return layer if weight is not None and weight.dtype == np.float32 else None


def _fold_constant(model: Model, node: Node) -> None:
    """Add or Mul of a constant per channel."""
    for value, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        layer, constant = _layer_of(value), graph.constant(other)
        if layer is None or constant is None or constant.dtype != np.float32:
            continue
        per_channel = _per_channel(constant, graph.shape(layer.outputs[0]), channel=1)
        if per_channel is None:
            continue
        if node.op_type == "Add":
            _fold_affine(model, layer, node, None, per_channel)
        else:
            _fold_affine(model, layer, node, per_channel, np.zeros(1))
        return


def _fold_affine(model: Model, layer: Node, node: Node, factor: graph.Array | None, shift: graph.Array) -> None:
    """Lets the layer give ``y * factor + shift``, which ``node`` computed of its y; left alone where that is not finite."""
    made = layer.outputs[0]
    channels = graph.shape(made)[1]
    weight, bias = graph.constant(layer.inputs[1]), _bias(layer)
    if weight is None or bias is None or bias.size not in (1, channels):
        return
    new_bias = np.broadcast_to(bias.reshape(-1), (channels,)) * (1.0 if factor is None else factor) + shift
    new_weight = None if factor is None else _scaled(layer, weight.astype(np.float64), factor).astype(np.float32)
    if not np.isfinite(new_bias.astype(np.float32)).all() or (new_weight is not None and not np.isfinite(new_weight).all()):
        return
    if new_weight is not None:
        _write(model, layer, 1, f"{layer.name}_weight", new_weight)
    _write(model, layer, 2, f"{layer.name}_bias", new_bias.astype(np.float32))
    if layer.op_type == "Gemm":
        for name in ("beta",) if factor is None else ("alpha", "beta"):
            graph.set_attribute(layer, name, None)
    _hand_over(model, made, node)


def _per_channel(array: graph.Array, dims: tuple[int, ...], channel: int) -> graph.Array | None:
    """The constant as (channels,) when it broadcasts to ``dims`` and varies along ``channel`` only."""
    if array.ndim > len(dims):
        return None
    aligned = array.reshape((1,) * (len(dims) - array.ndim) + array.shape)
    if aligned.size != aligned.shape[channel] or aligned.shape[channel] not in (1, dims[channel]):
        return None
    return np.broadcast_to(aligned.reshape(-1).astype(np.float64), (dims[channel],))


def _fold_norm(model: Model, layer: Node, norm: Node) -> None:
    channels = graph.shape(layer.outputs[0])[1]
    parameters = [graph.constant(value) for value in norm.inputs[1:5]]
    if not all(_is_usable(array, channels) for array in parameters):
        return
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in parameters)
    if (variance < 0).any():
        return
    factor = gamma / np.sqrt(variance + graph.attribute(norm, "epsilon", 1e-5))
    if np.isfinite(factor).all():
        _fold_affine(model, layer, norm, factor, beta - mean * factor)


def _is_usable(array: graph.Array | None, channels: int) -> bool:
    return array is not None and array.dtype == np.float32 and array.shape == (channels,) and bool(np.isfinite(array).all())


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
        return np.asarray(weight * factor.reshape(-1, *[1] * (weight.ndim - 1)))
    if layer.op_type == "Gemm":
        alpha = graph.attribute(layer, "alpha", 1.0)
        return np.asarray(alpha * weight * (factor[:, None] if graph.attribute(layer, "transB", 0) else factor[None, :]))
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
