"""After each operator: shape arithmetic computed, and the true shapes of what it made, where the file has them for a batch of 1.

A file with an unknown dimension declares 1 in its place for every tensor behind it, also where two dimensions were joined or a
batch was cut into blocks; TensorFlow Lite infers all shapes anew when it loads such a file, and so does this.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

if TYPE_CHECKING:
    from edgezip.frontends.tflite.emitter import Emitter
    from edgezip.frontends.tflite.schema import Array, Operator

# of integers that are known: what exporters compute of SHAPE; SHAPE itself is known at once
ARITHMETIC = {
    "ADD", "CAST", "CONCATENATION", "DIV", "EXPAND_DIMS", "FLOOR_DIV", "FLOOR_MOD", "GATHER", "MAXIMUM", "MINIMUM", "MUL", "PACK",
    "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RESHAPE", "SLICE", "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "TRANSPOSE",
    "UNPACK",
}  # fmt: skip
MOST_ELEMENTS = 1024
INLINE_BYTES = 4096  # larger constants hold no shapes: inference sees their type only


class Settler:
    """Looks at the nodes that each operator added to an emitter's graph."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.types = {info.name: info for info in map(emitter.info, emitter.graph.inputs)}

    def settle(self, op: Operator, added: list[onnx.NodeProto]) -> bool:
        """Whether the operator was computed: its outputs are constants and the nodes ``added`` are not needed."""
        if not added:
            return False
        if self._is_arithmetic(op):
            return self._compute(op, added)
        if self.emitter.graph.is_dynamic:
            self._infer(op, added)
        return False

    def _is_arithmetic(self, op: Operator) -> bool:
        if op.name not in ARITHMETIC or not op.inputs:
            return False
        held = [self.emitter.known(index) for index in op.inputs if index >= 0]
        return all(array is not None and array.dtype.kind in "iu" and array.size <= MOST_ELEMENTS for array in held) and not any(
            self.emitter.is_quantised(index) for index in (*op.inputs, *op.outputs) if index >= 0
        )

    def _compute(self, op: Operator, added: list[onnx.NodeProto]) -> bool:
        from onnx.reference import ReferenceEvaluator

        read = {name for node in added for name in node.input}
        outputs = [helper.make_empty_tensor_value_info(self.emitter.info(index).name) for index in op.outputs]
        constants = [tensor for tensor in self.emitter.constants() if tensor.name in read]
        body = helper.make_graph(added, "arithmetic", [], outputs, constants)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)])).run(None, {})
        for index, result in zip(op.outputs, results, strict=True):
            array: Array = np.asarray(result)
            self.emitter.give_value(index, array.astype(self.emitter.graph.tensors[index].dtype))
        return True

    def _infer(self, op: Operator, added: list[onnx.NodeProto]) -> None:
        """Writes the inferred shapes of the outputs into the graph's tensors; what stays unknown keeps its declared shape."""
        made = {name for node in added for name in node.output}
        read = {name for node in added for name in node.input} - made
        constants = {tensor.name: tensor for tensor in self.emitter.constants() if tensor.name in read}
        small = [tensor for tensor in constants.values() if len(tensor.raw_data) <= INLINE_BYTES]
        large = [t for t in constants.values() if len(t.raw_data) > INLINE_BYTES]
        inputs = [self.types[name] for name in read if name in self.types]
        inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in large]
        body = helper.make_graph(added, "operator", inputs, [], small)
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)])
        found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
        self.types |= {info.name: info for info in found}
        for index in op.outputs:
            info = self.types.get(self.emitter.info(index).name)
            if info is not None and all(dim.HasField("dim_value") for dim in info.type.tensor_type.shape.dim):
                self.emitter.graph.tensors[index].shape = tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
