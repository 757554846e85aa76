"""Builds the ONNX graph: float operators between QuantizeLinear and DequantizeLinear wherever the file has int8."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgezip import graph
from edgezip.errors import InvalidModelError, UnsupportedModelError
from edgezip.frontends.tflite.schema import Array, Operator, Subgraph, Tensor
from edgezip.frontends.tflite.settle import Settler

OPSET = 20  # the first with Gelu
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
Converter = Callable[["Emitter", Operator], None]
CONVERTERS: dict[str, Converter] = {}


def converts(*names: str) -> Callable[[Converter], Converter]:
    """Registers the function that emits these builtin operators."""

    def register(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass(slots=True)
class Variable:
    """What the session carries: ``name`` is its value at the start of a run, ``value`` what it is by now."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    value: str
    is_read: bool = False  # at the start of a run, before it is written


class Emitter:
    """One graph in the making. Names of tensors are kept where they are unique."""

    def __init__(self, subgraph: Subgraph) -> None:
        self.graph = subgraph
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._constants = {i: t.data for i, t in enumerate(subgraph.tensors) if t.data is not None}
        self._names = self._unique_names()
        self._values: dict[int, str] = {}  # tensor -> its value as floats (or integers, when it is not quantised)
        self._taken = set(self._names)
        self._op: Operator | None = None
        self._handles: dict[int, str] = {}  # resource tensor -> name of its variable
        self._variables: dict[int | str, Variable] = {}  # by tensor, or by the name behind a handle
        self._settler = Settler(self)

    def _unique_names(self) -> list[str]:
        seen: set[str] = set()
        names = []
        for i, tensor in enumerate(self.graph.tensors):
            name = tensor.name if tensor.name not in seen else f"{tensor.name}_{i}"
            while name in seen:
                name += "_"
            seen.add(name)
            names.append(name)
        return names

    # --- what an operator reads -----------------------------------------------------------------------------------------

    def tensor(self, op: Operator, position: int) -> Tensor:
        """Input ``position`` of ``op``; raises InvalidModelError when it is absent."""
        return self.graph.tensors[self._index(op, position)]

    def has(self, op: Operator, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(op.inputs) and op.inputs[position] >= 0

    def _index(self, op: Operator, position: int) -> int:
        self._op = op
        if not self.has(op, position):
            raise self.fail(op, f"input {position} is missing")
        return op.inputs[position]

    def constant(self, op: Operator, position: int) -> Array:
        """The raw elements of a constant input; raises UnsupportedModelError when it is computed at run time."""
        index = self._index(op, position)
        if index not in self._constants:
            raise UnsupportedModelError(
                f"input {position} ({self._names[index]}) must be a constant", where=self.place(op), hint="convert with it frozen"
            )
        return self._constants[index]

    def is_constant(self, op: Operator, position: int) -> bool:
        """Whether input ``position`` is a constant."""
        return self.has(op, position) and op.inputs[position] in self._constants

    def floats(self, op: Operator, position: int) -> Array:
        """A constant input as float32, dequantised."""
        data, tensor = self.constant(op, position), self.tensor(op, position)
        if not tensor.scale.size:
            return data.astype(np.float32)
        along = [1] * data.ndim
        if tensor.scale.size > 1:
            along[tensor.axis] = -1
        steps = data.astype(np.float32) - tensor.zero_point.astype(np.float32).reshape(along)
        return np.asarray(steps * tensor.scale.reshape(along), np.float32)

    def integers(self, op: Operator, position: int) -> list[int]:
        """A constant input of integers, flat."""
        values = self.constant(op, position)
        if values.dtype.kind not in "iu":
            raise self.fail(op, f"input {position} must hold integers, not {values.dtype}")
        return [int(v) for v in values.reshape(-1)]

    def value(self, op: Operator, position: int) -> str:
        """The ONNX value of an input: dequantised where the tensor is quantised."""
        index = self._index(op, position)
        if index not in self._values:
            self._values[index] = self._read(index)
        return self._values[index]

    def _read(self, index: int) -> str:
        tensor, name = self.graph.tensors[index], self._names[index]
        if index not in self._constants:
            return self.dequantize(name, tensor) if tensor.scale.size else name
        data = self._constants[index]
        if tensor.scale.size:
            return self.dequantize(self.initializer(data, name), tensor, tensor.axis)
        return self.initializer(data.astype(np.float32) if data.dtype == np.float16 else data, name)

    # --- variables --------------------------------------------------------------------------------------------------------

    def name_variable(self, op: Operator, name: str) -> None:
        """The result of ``op`` is the handle of the variable called ``name``."""
        self._handles[op.outputs[0]] = name

    def variable(self, op: Operator, position: int, like: int = -1) -> str:
        """The value, by now, of the variable at an input: a variable tensor, or a handle to one of tensor ``like``'s shape."""
        held = self._variable(op, position, like)
        held.is_read = held.is_read or held.value == held.name
        return held.value

    def keep(self, op: Operator, position: int, value: str, like: int = -1) -> None:
        """From here on the variable is ``value``."""
        self._variable(op, position, like).value = value

    def _variable(self, op: Operator, position: int, like: int) -> Variable:
        index = self._index(op, position)
        if index not in self._handles and not self.graph.tensors[index].is_variable:
            raise self.fail(op, f"input {position} ({self._names[index]}) is no variable")
        key: int | str = self._handles.get(index, index)
        if key not in self._variables:
            tensor = self.graph.tensors[index if isinstance(key, int) else like]
            name = self._names[index] if isinstance(key, int) else self._fresh(key or "variable")
            kind = np.dtype(np.float32) if tensor.scale.size or tensor.dtype.itemsize < 4 else tensor.dtype
            self._variables[key] = Variable(name, tensor.shape, kind, name)
        return self._variables[key]

    def _initial(self, key: int | str) -> Array | None:
        """What CALL_ONCE assigned; None: zeros."""
        given = self.graph.initial.get(key) if isinstance(key, str) else None
        return None if given is None or not given.any() else given

    def _carry(self) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto], dict[str, str]]:
        """Inputs, outputs and metadata of the variables that go from run to run; one that is never written is a constant."""
        inputs, outputs, pairs, initial = [], [], {}, {}
        for key, held in self._variables.items():
            start = self._initial(key)
            if start is not None and start.shape != held.shape:
                raise InvalidModelError(f"variable '{key}' is given {start.shape}, read as {held.shape}", where=self.graph.where)
            if held.is_read and held.value == held.name:
                constant = np.zeros(held.shape, held.dtype) if start is None else start.astype(held.dtype)
                self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(constant), held.name))
            elif held.is_read:
                kind, following = helper.np_dtype_to_tensor_dtype(held.dtype), self._fresh(f"{held.name}.next")
                self._nodes.append(helper.make_node("Identity", [held.value], [following]))
                inputs.append(helper.make_tensor_value_info(held.name, kind, list(held.shape)))
                outputs.append(helper.make_tensor_value_info(following, kind, list(held.shape)))
                pairs[held.name] = following
                if start is not None:
                    initial[held.name] = base64.b64encode(np.ascontiguousarray(start, held.dtype).tobytes()).decode()
        metadata = {graph.STATE: pairs, graph.STATE_INITIAL: initial}
        return inputs, outputs, {name: json.dumps(content) for name, content in metadata.items() if content}

    # --- what it makes ---------------------------------------------------------------------------------------------------

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """A new node; returns the name of its output, or a list of names when ``outputs`` is not 1."""
        number = self._op.index if self._op else 0
        names = [self._fresh(f"{kind}_{number}") for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def annotate(self, name: str, key: str, text: str) -> None:
        """Metadata of the node that makes ``name``."""
        node = next(node for node in reversed(self._nodes) if name in node.output)
        node.metadata_props.add(key=key, value=text)

    def initializer(self, array: Array | np.generic, base: str = "constant") -> str:
        """A constant; returns its name."""
        name = self._fresh(base)
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _fresh(self, base: str) -> str:
        name, number = base, 0
        while name in self._taken:
            number += 1
            name = f"{base}.{number}"
        self._taken.add(name)
        return name

    def dequantize(self, name: str, tensor: Tensor, axis: int = 0) -> str:
        """The float values of a quantised value."""
        scale, zero = self._parameters(tensor)
        return str(self.node("DequantizeLinear", [name, scale, zero], **({"axis": axis} if tensor.scale.size > 1 else {})))

    def _parameters(self, tensor: Tensor) -> tuple[str, str]:
        one = tensor.scale.size == 1
        scale, zero = (tensor.scale[0], tensor.zero_point[0]) if one else (tensor.scale, tensor.zero_point)
        return self.initializer(np.asarray(scale, np.float32), "scale"), self.initializer(
            np.asarray(zero, tensor.dtype), "zero_point"
        )

    def give(self, op: Operator, name: str, position: int = 0) -> None:
        """Output ``position`` of ``op`` is ``name``: quantised where the file says so."""
        if position >= len(op.outputs):
            raise self.fail(op, f"output {position} is missing")
        index = op.outputs[position]
        tensor = self.graph.tensors[index]
        if tensor.scale.size > 1:
            raise UnsupportedModelError("activations quantised by channel are not supported", where=self.place(op))
        if tensor.scale.size:
            self._nodes.append(helper.make_node("QuantizeLinear", [name, *self._parameters(tensor)], [self._names[index]]))
        else:
            self._call(name, self._names[index])

    def _call(self, name: str, wanted: str) -> None:
        """The value takes the tensor's name: the last node's result by itself, any other through an Identity."""
        last = self._nodes[-1] if self._nodes else None
        if last is not None and len(last.output) == 1 and last.output[0] == name and name not in self._values.values():
            last.output[0] = wanted
        else:
            self._nodes.append(helper.make_node("Identity", [name], [wanted]))

    def give_constant(self, op: Operator, array: Array) -> None:
        """The output of ``op`` is known now."""
        self.give_value(op.outputs[0], array)

    def shape_of(self, op: Operator, position: int = 0) -> tuple[int, ...]:
        """The declared shape of an output."""
        if position >= len(op.outputs):
            raise self.fail(op, f"output {position} is missing")
        return self.graph.tensors[op.outputs[position]].shape

    def reversed(self, name: str, axes: Sequence[int]) -> str:
        """The value with the order along these axes turned round."""
        rows = [[-1] * len(axes), [-(1 << 31)] * len(axes), list(axes), [-1] * len(axes)]
        return str(self.node("Slice", [name, *(self.initializer(np.array(row, np.int64), "integers") for row in rows)]))

    def is_quantised(self, index: int) -> bool:
        """Whether a tensor has a scale: its value in the graph is then float."""
        return bool(self.graph.tensors[index].scale.size)

    def value_type(self, op: Operator, position: int) -> Any:
        """The dtype of ``value``."""
        tensor = self.tensor(op, position)
        return np.float32 if tensor.scale.size or tensor.dtype == np.float16 else tensor.dtype

    def nchw(self, name: str) -> str:
        """NHWC -> NCHW."""
        return str(self.node("Transpose", [name], perm=TO_NCHW))

    def nhwc(self, name: str) -> str:
        """NCHW -> NHWC."""
        return str(self.node("Transpose", [name], perm=TO_NHWC))

    # --- for who looks at what an operator made ----------------------------------------------------------------------------

    def convert(self, op: Operator) -> None:
        """Adds the nodes of one operator; shape arithmetic is computed instead, and true shapes are written back."""
        before = len(self._nodes)
        CONVERTERS[op.name](self, op)
        if self._settler.settle(op, self._nodes[before:]):
            del self._nodes[before:]

    def known(self, index: int) -> Array | None:
        """The elements of a tensor that is constant."""
        return self._constants.get(index)

    def give_value(self, index: int, array: Array) -> None:
        """A tensor is known now, and has that shape."""
        self._constants[index] = array
        self.graph.tensors[index].shape = array.shape

    def constants(self) -> list[onnx.TensorProto]:
        """The initializers so far."""
        return self._initializers

    # --- errors ------------------------------------------------------------------------------------------------------------

    def place(self, op: Operator) -> str:
        """Where in the file an operator stands."""
        return f"{self.graph.where}, operator {op.index} ({op.name})"

    def fail(self, op: Operator, what: str) -> InvalidModelError:
        """The error of an operator that contradicts itself."""
        return InvalidModelError(what, where=self.place(op), hint="export the model again")

    def options(self, op: Operator, kind: str) -> Any:
        """The operator's options, which must be of ``kind``."""
        if type(op.options).__name__ != kind:
            raise self.fail(op, f"options are {type(op.options).__name__}, not {kind}")
        return op.options

    # --- the whole -----------------------------------------------------------------------------------------------------------

    def model(self) -> bytes:
        """The bytes of the ONNX model, with every output's declared shape."""
        for index in {*self.graph.outputs} & {*self._constants}:  # a result that needed no operator
            self._nodes.append(helper.make_node("Identity", [self.initializer(self._constants[index])], [self._names[index]]))
        inputs, outputs, metadata = self._carry()
        body = helper.make_graph(
            self._nodes,
            "tflite",
            [*(self.info(i) for i in self.graph.inputs), *inputs],
            [*(self.info(i) for i in self.graph.outputs), *outputs],
            self._initializers,
        )
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="edgezip", ir_version=10)
        helper.set_model_props(model, metadata)
        return bytes(model.SerializeToString())

    def info(self, index: int) -> onnx.ValueInfoProto:
        """Name, type and shape of a tensor's stored form."""
        tensor = self.graph.tensors[index]
        kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
        return helper.make_tensor_value_info(self._names[index], kind, list(tensor.shape))
