"""Bias correction: rounding the weights shifts each output's mean by (W' - W) E[x]; the shift is taken out of the int32 bias.

Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019, section 4.2, with E[x] from the
calibration samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node

Array = np.ndarray[Any, Any]
LIMIT = 2**30


def correct_bias(model: Model, float_model: Model, means: Mapping[str, Array]) -> Model:
    """``model`` (QDQ) with corrected biases; ``means`` are per-channel means of float tensors by name. Edits ``model``."""
    originals = {node.name: node for node in graph.nodes(float_model)}
    for node in graph.nodes(model):
        original = originals.get(node.name)
        if node.op_type in ("Conv", "Gemm") and original is not None and len(node.inputs) > 2:
            mean = means.get((original.inputs[0].name if original.inputs[0] is not None else "") or "")
            if mean is not None:
                _correct(model, node, original, mean)
    return model


def _correct(model: Model, node: Node, original: Node, mean: Array) -> None:
    weight, bias = (graph.producer(v) if v is not None else None for v in node.inputs[1:3])
    if weight is None or bias is None or weight.op_type != "DequantizeLinear" or bias.op_type != "DequantizeLinear":
        return
    before = graph.constant(original.inputs[1])
    stored, scale = graph.constant(weight.inputs[0]), graph.constant(weight.inputs[1])
    steps, unit = graph.constant(bias.inputs[0]), graph.constant(bias.inputs[1])
    if before is None or stored is None or scale is None or steps is None or unit is None or scale.ndim != 1:
        return
    axis = int(graph.attribute(weight, "axis", 1))
    shape = [-1 if a == axis else 1 for a in range(stored.ndim)]
    error = stored.astype(np.float64) * scale.astype(np.float64).reshape(shape) - before.astype(np.float64)
    shift = _mean_shift(node, np.moveaxis(error, axis, 0), mean)
    if shift is None:
        return
    corrected = np.clip(steps.astype(np.float64) - np.rint(shift / unit.astype(np.float64)), -LIMIT, LIMIT)
    name = bias.inputs[0].name if bias.inputs[0] is not None else None
    graph.replace_weight(model, str(name), corrected.astype(np.int32))


def _mean_shift(node: Node, error: Array, mean: Array) -> Array | None:
    """(outputs,): the error of the weights, outputs first, applied to the input's mean; None when shapes do not tell."""
    outputs = len(error)
    if node.op_type == "Gemm":
        rows = error.reshape(outputs, -1) * float(graph.attribute(node, "alpha", 1.0))
        return rows @ mean if rows.shape[1] == mean.size else None
    groups = int(graph.attribute(node, "group", 1))
    per_input = error.reshape(outputs, error.shape[1], -1).sum(axis=2)
    if mean.size != per_input.shape[1] * groups:
        return None
    by_group = np.repeat(mean.reshape(groups, -1), outputs // groups, axis=0)
    return np.asarray((per_input * by_group).sum(axis=1))
