"""A float32 ONNX file as a TFLite file, channels last: the operators of the bench's networks and no more.

So LiteRT gets the same weights as every other peer, without a converter that brings a training framework along. Activations
are fused and padding is named SAME where it is, as TensorFlow's own converter does. The schema's classes come with
ai-edge-litert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
NONE, RELU, RELU6 = 0, 1, 3  # schema: ActivationFunctionType
SAME, VALID = 0, 1  # schema: Padding


def convert(source: Path, target: Path) -> None:
    """Writes ``target``; raises NotImplementedError for an operator that is not known here."""
    import flatbuffers

    model = onnx.shape_inference.infer_shapes(onnx.load(str(source)))
    writer = _Writer(model.graph)
    writer.write()
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(writer.model.Pack(builder), file_identifier=b"TFL3")
    target.write_bytes(bytes(builder.Output()))


class _Writer:
    """One pass over the nodes; ``index`` maps a value's name to its tensor."""

    def __init__(self, graph: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.s = schema
        self.graph = graph
        self.constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.constants |= {n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in graph.node if n.op_type == "Constant"}
        infos = [*graph.input, *graph.value_info, *graph.output]
        self.shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in infos}
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.index: dict[str, int] = {}
        self.fused: dict[str, str] = {}  # output of a node that was fused -> the value that stands for it
        self.model, self.sub = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, "EdgeZip bench"
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [schema.BufferT()], [], [self.sub]
        self.sub.tensors, self.sub.operators = [], []

    def write(self) -> None:
        """All nodes, inputs and outputs."""
        inputs = [item.name for item in self.graph.input if item.name not in self.constants]
        self.sub.inputs = [self._activation(name) for name in inputs]
        for node in self.graph.node:
            if node.op_type == "Constant" or node.output[0] in self.fused:
                continue
            handler: Callable[[Any, dict[str, Any]], None] | None = getattr(self, f"_{node.op_type.lower()}", None)
            if handler is None:
                raise NotImplementedError(f"{node.op_type} ({node.name})")
            handler(node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        outputs = [item.name for item in self.graph.output]
        self.sub.outputs = [self._of(name) for name in outputs]
        self._sign(inputs, outputs)

    def _sign(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Names inputs and outputs; the quantiser calibrates by them."""
        signature = self.s.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [], []
        for names, maps in ((inputs, signature.inputs), (outputs, signature.outputs)):
            for name in names:
                item = self.s.TensorMapT()
                item.name, item.tensorIndex = name, self._of(name)
                maps.append(item)
        self.model.signatureDefs = [signature]

    # --- tensors ---------------------------------------------------------------------------------------------------------

    def _tensor(self, name: str, shape: Sequence[int], data: Array | None = None) -> int:
        tensor = self.s.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, [int(d) for d in shape], 0
        tensor.type = self.s.TensorType.FLOAT32 if data is None or data.dtype == np.float32 else self.s.TensorType.INT32
        if data is not None:
            buffer = self.s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.sub.tensors.append(tensor)
        return len(self.sub.tensors) - 1

    def _constant(self, name: str, data: Array) -> int:
        return self._tensor(name, data.shape, data)

    def _activation(self, name: str, shape: Sequence[int] | None = None) -> int:
        shape = self._last(self.shapes[name]) if shape is None else shape
        self.index[name] = self._tensor(name, shape)
        return self.index[name]

    @staticmethod
    def _last(shape: Sequence[int]) -> list[int]:
        return [shape[0], *shape[2:], shape[1]] if len(shape) == 4 else list(shape)

    def _of(self, name: str) -> int:
        """The tensor of a value; constants of elementwise operators turn with the channels."""
        name = self.fused.get(name, name)
        if name not in self.index:
            data = self.constants[name].astype(np.float32)
            if data.ndim in (3, 4):
                data = np.moveaxis(data.reshape((1,) * (4 - data.ndim) + data.shape), 1, -1)
            self.index[name] = self._constant(name, data)
        return self.index[name]

    # --- operators -------------------------------------------------------------------------------------------------------

    def _add_operator(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **values: Any) -> None:
        code = getattr(self.s.BuiltinOperator, kind)
        known = [c.builtinCode for c in self.model.operatorCodes]
        if code not in known:
            item = self.s.OperatorCodeT()
            item.builtinCode, item.deprecatedBuiltinCode, item.version = code, min(code, 127), 1
            self.model.operatorCodes.append(item)
            known.append(code)
        operator = self.s.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = known.index(code), list(inputs), list(outputs)
        if options:
            operator.builtinOptionsType = getattr(self.s.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.s, f"{options}T")()
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self.sub.operators.append(operator)

    def _fuse(self, node: Any) -> int:
        """The activation behind ``node`` when it is the only user; that node is then written with this one."""
        users = self.users.get(node.output[0], [])
        if len(users) != 1 or node.output[0] in [o.name for o in self.graph.output]:
            return NONE
        kind = RELU if users[0].op_type == "Relu" else RELU6 if self._bounds(users[0]) == (0, 6) else NONE
        if kind != NONE:
            self.fused[users[0].output[0]] = node.output[0]
        return kind

    def _bounds(self, node: Any) -> tuple[float, float] | None:
        if node.op_type != "Clip" or len(node.input) != 3:
            return None
        return self.constants[node.input[1]].item(), self.constants[node.input[2]].item()

    def _padded(self, x: int, attributes: dict[str, Any], kernel: Sequence[int], lowest: float = 0.0) -> tuple[int, int]:
        """(input, SAME or VALID): explicit padding becomes an operator of its own where SAME does not mean it."""
        pads, strides = list(attributes.get("pads", [0] * 4)), list(attributes.get("strides", [1, 1]))
        dilations = attributes.get("dilations", [1, 1])
        shape = list(self.sub.tensors[x].shape)
        if not any(pads):
            return x, VALID
        same = []
        for axis in range(2):
            size, reach = shape[1 + axis], (kernel[axis] - 1) * dilations[axis] + 1
            total = max((-(-size // strides[axis]) - 1) * strides[axis] + reach - size, 0)
            same.append((total // 2, total - total // 2))
        if [pads[0], pads[1], pads[2], pads[3]] == [same[0][0], same[1][0], same[0][1], same[1][1]]:
            return x, SAME
        around = np.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
        wide = [shape[0], shape[1] + pads[0] + pads[2], shape[2] + pads[1] + pads[3], shape[3]]
        name = f"{self.sub.tensors[x].name}_padded{len(self.sub.tensors)}"
        padded, amounts = self._tensor(name, wide), self._constant(f"{name}_amounts", around)
        if lowest == 0.0:
            self._add_operator("PAD", [x, amounts], [padded], "PadOptions")
        else:
            filler = self._constant(f"{name}_filler", np.array([lowest], np.float32))
            self._add_operator("PADV2", [x, amounts, filler], [padded], "PadV2Options")
        return padded, VALID

    def _conv(self, node: Any, attributes: dict[str, Any]) -> None:
        weight = self.constants[node.input[1]]
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        x, padding = self._padded(self._of(node.input[0]), attributes, weight.shape[2:])
        group, channels = attributes.get("group", 1), self.sub.tensors[x].shape[3]
        is_depthwise = group == channels and weight.shape[1] == 1 and group > 1
        if not is_depthwise and group != 1:
            raise NotImplementedError(f"grouped convolution ({node.name})")
        shaped = weight.transpose(1, 2, 3, 0) if is_depthwise else weight.transpose(0, 2, 3, 1)
        inputs = [x, self._constant(f"{node.name}_w", shaped), self._constant(f"{node.name}_b", bias)]
        strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
        common = {"padding": padding, "strideH": strides[0], "strideW": strides[1], "fusedActivationFunction": self._fuse(node)}
        common |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
        y = [self._activation(node.output[0])]
        if is_depthwise:
            common["depthMultiplier"] = len(weight) // channels
            self._add_operator("DEPTHWISE_CONV_2D", inputs, y, "DepthwiseConv2DOptions", **common)
        else:
            self._add_operator("CONV_2D", inputs, y, "Conv2DOptions", **common)

    def _convtranspose(self, node: Any, attributes: dict[str, Any]) -> None:
        weight = self.constants[node.input[1]]
        if any(attributes.get("pads", [0])) or attributes.get("group", 1) != 1:
            raise NotImplementedError(f"padded or grouped transposed convolution ({node.name})")
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(weight.shape[1], np.float32)
        shape = self._constant(f"{node.name}_shape", np.array(self._last(self.shapes[node.output[0]]), np.int32))
        inputs = [shape, self._constant(f"{node.name}_w", weight.transpose(1, 2, 3, 0)), self._of(node.input[0])]
        inputs.append(self._constant(f"{node.name}_b", bias))
        stride = attributes["strides"]
        y = [self._activation(node.output[0])]
        values = {"padding": VALID, "strideH": stride[0], "strideW": stride[1]}
        self._add_operator("TRANSPOSE_CONV", inputs, y, "TransposeConvOptions", **values)

    def _gemm(self, node: Any, attributes: dict[str, Any]) -> None:
        weight = self.constants[node.input[1]]
        weight = weight if attributes.get("transB", 0) else weight.T
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        inputs = [self._of(node.input[0]), self._constant(f"{node.name}_w", weight), self._constant(f"{node.name}_b", bias)]
        values = {"fusedActivationFunction": self._fuse(node)}
        self._add_operator("FULLY_CONNECTED", inputs, [self._activation(node.output[0])], "FullyConnectedOptions", **values)

    _matmul = _gemm

    def _unary(self, kind: str, node: Any, options: str = "", **values: Any) -> None:
        x = self._of(node.input[0])
        self._add_operator(kind, [x], [self._activation(node.output[0])], options, **values)

    def _relu(self, node: Any, attributes: dict[str, Any]) -> None:
        self._unary("RELU", node)

    def _sigmoid(self, node: Any, attributes: dict[str, Any]) -> None:
        self._unary("LOGISTIC", node)

    def _hardswish(self, node: Any, attributes: dict[str, Any]) -> None:
        self._unary("HARD_SWISH", node)

    def _clip(self, node: Any, attributes: dict[str, Any]) -> None:
        if self._bounds(node) != (0, 6):
            raise NotImplementedError(f"Clip other than 0..6 ({node.name})")
        self._unary("RELU6", node)

    def _softmax(self, node: Any, attributes: dict[str, Any]) -> None:
        self._unary("SOFTMAX", node, "SoftmaxOptions", beta=1.0)

    def _hardsigmoid(self, node: Any, attributes: dict[str, Any]) -> None:
        """alpha x + beta in 0..1, written as RELU6(6 alpha x + 6 beta) / 6."""
        name, x = node.output[0], self._of(node.input[0])
        shape = self.sub.tensors[x].shape
        for step, (kind, value, activation) in enumerate(
            (
                ("MUL", 6 * attributes.get("alpha", 0.2), NONE),
                ("ADD", 6 * attributes.get("beta", 0.5), RELU6),
                ("MUL", 1 / 6, NONE),
            )
        ):
            y = self._activation(name) if step == 2 else self._tensor(f"{name}_{step}", shape)
            operand = self._constant(f"{name}_operand{step}", np.array(value, np.float32))
            self._add_operator(kind, [x, operand], [y], f"{kind.title()}Options", fusedActivationFunction=activation)
            x = y

    def _binary(self, kind: str, node: Any) -> None:
        inputs = [self._of(name) for name in node.input]
        values = {"fusedActivationFunction": self._fuse(node)}
        self._add_operator(kind, inputs, [self._activation(node.output[0])], f"{kind.title()}Options", **values)

    def _add(self, node: Any, attributes: dict[str, Any]) -> None:
        if not self._fuse_hard_swish(node):
            self._binary("ADD", node)

    def _mul(self, node: Any, attributes: dict[str, Any]) -> None:
        self._binary("MUL", node)

    def _sub(self, node: Any, attributes: dict[str, Any]) -> None:
        self._binary("SUB", node)

    def _div(self, node: Any, attributes: dict[str, Any]) -> None:
        self._binary("DIV", node)

    def _fuse_hard_swish(self, add: Any) -> bool:
        """x clip(x + 3, 0, 6) / 6, written out as older exporters do, is one operator."""
        chain, x = [add], add.input[0]
        for kind in ("Clip", "Mul", "Div"):
            users = self.users.get(chain[-1].output[0], [])
            if len(users) != 1 or users[0].op_type != kind:
                return False
            chain.append(users[0])
        three, six = self.constants.get(add.input[1]), self.constants.get(chain[3].input[1])
        if three is None or six is None or self._bounds(chain[1]) != (0, 6) or x not in chain[2].input:
            return False
        if float(three.ravel()[0]) != 3 or float(six.ravel()[0]) != 6:
            return False
        source, name = self._of(x), chain[3].output[0]
        for node in chain[1:]:
            self.fused[node.output[0]] = name
        self._add_operator("HARD_SWISH", [source], [self._activation(name)])
        return True

    def _concat(self, node: Any, attributes: dict[str, Any]) -> None:
        inputs = [self._of(name) for name in node.input]
        axis = attributes["axis"] % len(self.shapes[node.output[0]])
        axis = {1: 3}.get(axis, axis - 1) if len(self.shapes[node.output[0]]) == 4 and axis else axis
        y = self._activation(node.output[0])
        self._add_operator("CONCATENATION", inputs, [y], "ConcatenationOptions", axis=axis, fusedActivationFunction=NONE)

    def _pool(self, kind: str, node: Any, attributes: dict[str, Any], lowest: float) -> None:
        kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
        x, padding = self._padded(self._of(node.input[0]), attributes, kernel, lowest)
        values = {"padding": padding, "strideH": strides[0], "strideW": strides[1]}
        values |= {"filterHeight": kernel[0], "filterWidth": kernel[1], "fusedActivationFunction": NONE}
        self._add_operator(kind, [x], [self._activation(node.output[0])], "Pool2DOptions", **values)

    def _maxpool(self, node: Any, attributes: dict[str, Any]) -> None:
        # Behind a ReLU a border of zeros never wins: a plain PAD, which quantises well.
        source = next((n for n in self.graph.node if n.output[0] == node.input[0]), None)
        self._pool("MAX_POOL_2D", node, attributes, 0.0 if source is not None and source.op_type == "Relu" else -1e4)

    def _averagepool(self, node: Any, attributes: dict[str, Any]) -> None:
        self._pool("AVERAGE_POOL_2D", node, attributes, 0.0)

    def _globalaveragepool(self, node: Any, attributes: dict[str, Any]) -> None:
        x, axes = self._of(node.input[0]), self._constant(f"{node.name}_axes", np.array([1, 2], np.int32))
        self._add_operator("MEAN", [x, axes], [self._activation(node.output[0])], "ReducerOptions", keepDims=True)

    def _resize(self, node: Any, attributes: dict[str, Any]) -> None:
        if attributes.get("mode") != b"nearest":
            raise NotImplementedError(f"Resize other than nearest ({node.name})")
        size = np.array(self.shapes[node.output[0]][2:], np.int32)
        inputs = [self._of(node.input[0]), self._constant(f"{node.name}_size", size)]
        y = self._activation(node.output[0])
        self._add_operator("RESIZE_NEAREST_NEIGHBOR", inputs, [y], "ResizeNearestNeighborOptions", alignCorners=False)

    def _flatten(self, node: Any, attributes: dict[str, Any]) -> None:
        x = self._of(node.input[0])
        shape = list(self.sub.tensors[x].shape)
        if len(shape) == 4 and shape[1] * shape[2] > 1:  # the next layer counts channels first
            turned = self._tensor(f"{node.name}_first", [shape[0], shape[3], shape[1], shape[2]])
            order = self._constant(f"{node.name}_order", np.array([0, 3, 1, 2], np.int32))
            self._add_operator("TRANSPOSE", [x, order], [turned], "TransposeOptions")
            x = turned
        target = self.shapes[node.output[0]]
        wanted = self._constant(f"{node.name}_shape", np.array(target, np.int32))
        self._add_operator("RESHAPE", [x, wanted], [self._activation(node.output[0])], "ReshapeOptions", newShape=target)

    _reshape = _flatten
