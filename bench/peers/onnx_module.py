"""A float32 ONNX graph as a torch module, for peers that start from torch: the operators of the bench's networks and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional


class OnnxModule(nn.Module):  # type: ignore[misc]  # torch is not installed where the project is checked
    """Runs the nodes one after another; those with weights are layers, so that quantisers find them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(str(path)).graph
        self.constants = {item.name: np.array(numpy_helper.to_array(item)) for item in graph.initializer}
        self.constants |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
        self.inputs = [item.name for item in graph.input if item.name not in self.constants]
        self.outputs = [item.name for item in graph.output]
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        self.attributes = [{a.name: helper.get_attribute_value(a) for a in node.attribute} for node in self.nodes]
        self.layers = nn.ModuleDict()
        for index, node in enumerate(self.nodes):
            if node.op_type in _LAYERS:
                bias = self.constants[node.input[2]] if len(node.input) > 2 else None
                self.layers[str(index)] = _LAYERS[node.op_type](self.constants[node.input[1]], bias, self.attributes[index])

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """Outputs in the graph's order."""
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        for index, (node, attributes) in enumerate(zip(self.nodes, self.attributes, strict=True)):
            if str(index) in self.layers:
                values[node.output[0]] = self.layers[str(index)](values[node.input[0]])
            else:
                operands = [values[name] if name in values else self._constant(name) for name in node.input]
                values[node.output[0]] = _PLAIN[node.op_type](operands, attributes)
        return tuple(values[name] for name in self.outputs)

    def _constant(self, name: str) -> Any:
        if not name:
            return None
        array = self.constants[name]
        return float(array.ravel()[0]) if array.size == 1 else torch.from_numpy(array)


def _filled(layer: Any, weight: Any, bias: Any) -> Any:
    layer.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(weight)), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(torch.from_numpy(bias), requires_grad=False)
    return layer


def _linear(weight: Any, bias: Any, attributes: dict[str, Any]) -> Any:
    weight = weight if attributes.get("transB", 0) else weight.T
    return _filled(nn.Linear(weight.shape[1], weight.shape[0], bias is not None), weight, bias)


def _conv(weight: Any, bias: Any, attributes: dict[str, Any]) -> Any:
    group, stride = attributes.get("group", 1), tuple(attributes.get("strides", [1, 1]))
    pads, dilation = list(attributes.get("pads", [0] * 4)), tuple(attributes.get("dilations", [1, 1]))
    is_even = pads[:2] == pads[2:]
    shape = (weight.shape[1] * group, weight.shape[0], tuple(weight.shape[2:]), stride, tuple(pads[:2]) if is_even else 0)
    layer = _filled(nn.Conv2d(*shape, dilation, group, bias is not None), weight, bias)
    return layer if is_even else nn.Sequential(nn.ZeroPad2d((pads[1], pads[3], pads[0], pads[2])), layer)


def _transposed(weight: Any, bias: Any, attributes: dict[str, Any]) -> Any:
    group, stride = attributes.get("group", 1), tuple(attributes["strides"])
    shape = (weight.shape[0], weight.shape[1] * group, tuple(weight.shape[2:]), stride)
    return _filled(nn.ConvTranspose2d(*shape, groups=group, bias=bias is not None), weight, bias)


def _max_pool(x: list[Any], attributes: dict[str, Any]) -> Any:
    return functional.max_pool2d(
        x[0], attributes["kernel_shape"], attributes.get("strides", [1, 1]), attributes.get("pads", [0, 0])[:2]
    )


def _hard_sigmoid(x: list[Any], attributes: dict[str, Any]) -> Any:
    return torch.clamp(x[0] * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5), 0.0, 1.0)


_LAYERS: dict[str, Any] = {"Conv": _conv, "ConvTranspose": _transposed, "Gemm": _linear}
_PLAIN: dict[str, Any] = {
    "MaxPool": _max_pool,
    "HardSigmoid": _hard_sigmoid,
    "Resize": lambda x, _: functional.interpolate(x[0], scale_factor=[float(s) for s in x[2][2:]], mode="nearest"),
    "Concat": lambda x, attributes: torch.cat(x, attributes["axis"]),
    "Relu": lambda x, _: functional.relu(x[0]),
    "Clip": lambda x, _: functional.hardtanh(x[0], x[1], x[2]),
    "Sigmoid": lambda x, _: torch.sigmoid(x[0]),
    "Add": lambda x, _: x[0] + x[1],
    "Mul": lambda x, _: x[0] * x[1],
    "Sub": lambda x, _: x[0] - x[1],
    "Div": lambda x, _: x[0] / x[1],
    "GlobalAveragePool": lambda x, _: functional.adaptive_avg_pool2d(x[0], 1),
    "Flatten": lambda x, _: x[0].flatten(1),
}
