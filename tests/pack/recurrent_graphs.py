"""ONNX graphs of one RNN, GRU or LSTM node, made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass(frozen=True)
class Net:
    """Sizes and what the node is given; ``attributes`` go to the node as they are."""

    kind: str
    steps: int = 5
    batch: int = 2
    inputs: int = 6
    hidden: int = 7
    direction: str = "forward"
    bias: bool = True
    state: bool = True
    lengths: tuple[int, ...] | None = None
    runtime_lengths: bool = False
    peephole: bool = False
    outputs: tuple[str, ...] = ("Y", "Y_h", "Y_c")
    layout: int = 0
    opset: int = 20
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1

    def model(self) -> bytes:
        """The file."""
        rng, gates, d = np.random.default_rng(len(self.kind) + self.hidden), GATES[self.kind], self.directions
        lstm = self.kind == "LSTM"
        constants = {
            "W": rng.normal(0, 0.4, (d, gates * self.hidden, self.inputs)),
            "R": rng.normal(0, 0.4, (d, gates * self.hidden, self.hidden)),
        }
        if self.bias:
            constants["B"] = rng.normal(0, 0.4, (d, 2 * gates * self.hidden))
        if self.peephole:
            constants["P"] = rng.normal(0, 0.4, (d, 3 * self.hidden))
        tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
        x = (self.steps, self.batch, self.inputs) if not self.layout else (self.batch, self.steps, self.inputs)
        state = (d, self.batch, self.hidden) if not self.layout else (self.batch, d, self.hidden)
        inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, x)]
        if self.runtime_lengths:
            inputs.append(helper.make_tensor_value_info("lens", TensorProto.INT32, (self.batch,)))
        elif self.lengths:
            tensors.append(numpy_helper.from_array(np.array(self.lengths, np.int32), "lens"))
        if self.state:
            names = ("h0", "c0") if lstm else ("h0",)
            inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, state) for name in names]
        operands = ["X", "W", "R", "B" if self.bias else "", "lens" if self.lengths or self.runtime_lengths else ""]
        operands += ["h0" if self.state else ""] + (["c0" if self.state else "", "P" if self.peephole else ""] if lstm else [])
        while not operands[-1]:
            operands.pop()
        made = [name if name in self.outputs else "" for name in (("Y", "Y_h", "Y_c") if lstm else ("Y", "Y_h"))]
        attributes = {"hidden_size": self.hidden, "direction": self.direction, **self.attributes}
        if self.layout:
            attributes["layout"] = 1
        node = helper.make_node(self.kind, operands, made, name="net", **attributes)
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made if name]
        graph = helper.make_graph([node], "recurrent", inputs, results, tensors)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return bytes(proto.SerializeToString())

    def feeds(self, seed: int = 0) -> dict[str, Array]:
        """Normal numbers for every input; ``lengths`` for the lengths."""
        rng, made = np.random.default_rng(seed), {}
        for info in onnx.load_from_string(self.model()).graph.input:
            dims = tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
            made[info.name] = rng.normal(0, 1, dims).astype(np.float32)
        if self.runtime_lengths:
            made["lens"] = np.array(self.lengths, np.int32)
        return made
