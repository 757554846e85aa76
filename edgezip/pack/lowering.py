"""From an ONNX model (float, or with Q/DQ) to the steps of a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import UnsupportedModelError
from edgezip.pack import fuse, tables
from edgezip.pack.builder import Builder, Ref, channels_last, plain
from edgezip.pack.context import NUMBERS, Context, NoKernel, QParams, Unsupported, constant_of, dtype_of, qparams_of
from edgezip.pack.lower import FLOAT, INT8
from edgezip.pack.lower.registry import Target8
from edgezip.pack.plan_graph import GraphPlan, Kind, QPlan, analyse
from edgezip.program import DType, Layout, Op

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgezip.graph import Model, Node, Value
    from edgezip.pack.carried import Carried
    from edgezip.target import Target

PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
FLOAT_ACTIVATIONS = "int8 weights, float activations: computed in float32; compress the float model with calibration data"
IMAGE_OPS = {
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Resize",
    "Upsample",
    "PRelu",
    "BatchNormalization",
}
BYTES = QParams(1.0, -128)  # the int8 form in which byte b means the number b


def _dequantized_with(value: Value) -> QParams | None:
    """Parameters of the first DequantizeLinear that reads the value."""
    readers = [node for node, _ in graph.consumers(value) if node.op_type == "DequantizeLinear"]
    return next((q for q in map(qparams_of, readers) if q is not None), None)


class Lowering:
    """One pass over the graph; complaints of all nodes are collected before the first is raised."""

    def __init__(
        self, model: Model, target: Target, states: Sequence[Carried] = (), *, any_size: bool = False, uniform: bool = False
    ) -> None:
        self.model = model
        self.states = states
        builder = Builder(Layout[target.layout.upper()], target.act_sign, sparse=target.sparse, any_size=any_size)
        self.context = Context(model, builder, opset=graph.opset(model), uniform=uniform)
        self.plan: GraphPlan = analyse(model, set(INT8))
        self.stored: dict[str, Ref] = {}  # int8 tensors of the ONNX graph by name
        self.complaints: dict[str, str] = {}
        self.fell_back: dict[str, str] = {}  # reason by node
        self.lost: set[str] = set()  # values that could not be made because of a complaint

    @np.errstate(all="ignore")  # weights that are no numbers stay so, without warnings of NumPy
    def run(self) -> Builder:
        """All steps, fused. Raises UnsupportedModelError that lists every node without a way to run."""
        inputs, outputs = self._ends()
        for value in inputs:
            self._input(value)
        for node in graph.nodes(self.model):
            self._guarded(node)
        if not self.complaints:
            for value in outputs:
                self._output(value)
            self._hand_out_counts({str(value.name) for value in graph.output_values(self.model)})
            self._carry()
        if self.complaints:
            self._refuse()
        fuse.run(self.context.builder)
        return self.context.builder

    def _hand_out_counts(self, taken: set[str]) -> None:
        """How many rows are meant, as further outputs. Raises UnsupportedModelError: the model has an output of that name."""
        for name, ref in self.context.counts:
            if name in taken:
                raise UnsupportedModelError(
                    f"output '{name.removesuffix('.count')}' has as many rows as the data say; their number would be called "
                    f"'{name}', as another output is",
                    where=self.model.graph.name or "model", hint=f"rename the output '{name}'",
                )  # fmt: skip
            tensor = self.context.builder.graph_output(name, ref.dtype, ref.shape)
            self.context.copy(name, ref, Ref(tensor, ref.shape, plain(len(ref.shape)), ref.dtype), form={"op": "output"})

    def _guarded(self, node: Node) -> None:
        try:
            self._node(node)
        except Unsupported as error:
            names = [value.name for value in node.inputs if value is not None]
            if isinstance(error, NoKernel) or not any(name in self.lost for name in names):
                self.complaints[node.name or node.op_type] = f"{node.name} ({node.op_type}): {error}"
            self.lost |= {value.name or "" for value in node.outputs}

    def _refuse(self) -> None:
        listed = "; ".join(self.complaints.values())
        raise UnsupportedModelError(
            f"{len(self.complaints)} node(s) cannot run: {listed}",
            where=self.model.graph.name or "model",
            hint="`edgezip inspect --ops` lists the operators; export these nodes in another form, or cut them off the graph",
        )

    def _ends(self) -> tuple[list[Value], list[Value]]:
        """Graph inputs and outputs: the caller's in order, then those of the states."""
        inputs = {str(value.name): value for value in graph.input_values(self.model)}
        outputs = {str(value.name): value for value in graph.output_values(self.model)}
        own = [inputs.pop(state.input) for state in self.states], [outputs.pop(state.output) for state in self.states]
        return [*inputs.values(), *own[0]], [*outputs.values(), *own[1]]

    def _carry(self) -> None:
        """Initial values; the two ends of a state must mean the same numbers by the same bytes."""
        builder = self.context.builder
        count = len(self.states)
        ends = zip(
            self.states,
            builder.inputs[len(builder.inputs) - count :],
            builder.outputs[len(builder.outputs) - count :],
            strict=True,
        )
        for state, *pair in ends:
            x, y = (builder.tensors[tensor] for tensor in pair)
            if (x.dtype, x.scale, x.zero_point) != (y.dtype, y.scale, y.zero_point):
                self.complaints[state.input] = f"state '{state.input}': its output '{state.output}' has another type or scale"
            initial = -1
            if state.initial is not None:
                initial = builder.constant(f"{state.input}.initial", state.initial, x.dtype, x.scale, x.zero_point)
            builder.initial.append(initial)

    # --- ends of the graph ------------------------------------------------------------------------------------------------

    def _input(self, value: Value) -> None:
        name, shape = value.name or "", graph.shape(value)
        try:
            dtype = dtype_of(graph.dtype(value), name)
        except Unsupported as error:
            self.complaints[name] = f"input {error}"
            return
        q = self._input_params(value) if dtype is DType.S8 else QParams(0.0, 0)
        tensor = self.context.builder.graph_input(name, dtype, shape, q.scale, q.zero_point)
        ref = Ref(tensor, shape, plain(len(shape)), dtype, q.scale, q.zero_point)
        if dtype is DType.S8:
            order = channels_last(len(shape)) if self._wants_image(value) else plain(len(shape))
            inside = self.context.new(f"{name}.inside", shape, order, dtype, q)
            self.context.copy(name, ref, inside)
            self._store(value, inside)
        else:
            self.context.floats[name] = ref
        if dtype is DType.U8 and (own := _dequantized_with(value)) is not None:
            self._store(value, self._from_uint8(ref, own, name))

    def _from_uint8(self, ref: Ref, q: QParams, name: str) -> Ref:
        """The int8 form of uint8 bytes: their numbers quantised with scale 1, then seen with the scale that they have."""
        number = self.context.new(f"{name}.number", ref.shape, ref.order, DType.F32)
        self.context.copy(name, ref, number)
        return self.context.rescaled(self.context.quantized(number, BYTES, f"{name}.inside"), q)

    def _input_params(self, value: Value) -> QParams:
        return _dequantized_with(value) or NUMBERS

    def _store(self, value: Value, ref: Ref) -> None:
        """What an int8 tensor of the ONNX graph is: bytes for those that dequantise it, numbers for all others that read it."""
        name = value.name or ""
        self.stored[name] = ref
        if all(node.op_type == "DequantizeLinear" for node, _ in graph.consumers(value)):
            return
        if graph.dtype(value) == np.int8:
            self.context.int8s[name] = self.context.rescaled(ref, NUMBERS)
        elif name not in self.context.floats:
            self.context.floats[name] = self._as_uint8(ref, name)

    def _as_uint8(self, ref: Ref, name: str) -> Ref:
        number = self.context.dequantized(self.context.rescaled(ref, BYTES), f"{name}.number")
        whole = self.context.like(number, name, DType.U8)
        self.context.copy(name, number, whole)
        return whole

    def _output(self, value: Value) -> None:
        name, shape = value.name or "", graph.shape(value)
        context = self.context
        if 0 in shape:  # nothing to write
            context.builder.graph_output(name, dtype_of(graph.dtype(value), name), shape)
            return
        try:
            source = self.stored.get(name) or (context.int8(value) if graph.dtype(value) == np.int8 else None)
            if source is None:
                source = context.floats.get(name) or context.int8(value) or context.value(value)
        except Unsupported as error:
            self.complaints[name] = f"output '{name}': {error}"
            return
        q = QParams(0.0, 0)
        dtype: DType = DType.F32 if source.dtype is DType.S8 else source.dtype
        if name in self.stored and graph.dtype(value) == np.uint8:
            source, dtype = context.dequantized(context.rescaled(source, BYTES), f"{name}.number"), DType.U8
        elif name in self.stored or graph.dtype(value) == np.int8:
            q, dtype = QParams(source.scale, source.zero_point), DType.S8
        tensor = context.builder.graph_output(name, dtype, shape, q.scale, q.zero_point)
        context.copy(name, source, Ref(tensor, shape, plain(len(shape)), dtype, q.scale, q.zero_point), form={"op": "output"})

    # --- nodes ---------------------------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        if node.op_type == "QuantizeLinear":
            if graph.constant(node.inputs[0]) is None:
                self._quantize(node)
        elif node.op_type == "DequantizeLinear":
            self._dequantize(node)
        elif node.op_type != "Constant" and (node.name or "") in self.plan.in_float and not _is_empty(node):
            self._float(node)

    def _float(self, node: Node) -> None:
        rule = FLOAT.get(node.op_type) if not node.domain else None
        if rule is None:
            raise NoKernel("has no kernel")
        mark = len(self.context.builder.forms)
        rule(self.context, node)
        if self.plan.q or _has_stored_weights(node):
            for form in self.context.builder.forms[mark:]:
                if form.get("form") == "float32":
                    form["reason"] = self._reason(node) if self.plan.q else FLOAT_ACTIVATIONS

    def _reason(self, node: Node) -> str:
        """Why a node of a quantised model runs in float."""
        if (node.name or "") in self.fell_back:
            return self.fell_back[node.name or ""]
        known = node.op_type in INT8 or node.op_type in tables.FUNCTIONS
        return "its inputs or its result are not quantised" if known else f"{node.op_type} has no int8 form"

    def _dequantize(self, node: Node) -> None:
        source, output = node.inputs[0], node.outputs[0]
        if source is None or graph.constant(source) is not None:
            return
        if (output.name or "") not in self.plan.int8_values:
            raise NoKernel("has parameters per axis, or of a type other than int8 and uint8")
        stored, own = self.stored.get(source.name or "") or self.context.int8(source), qparams_of(node)
        if stored is None or own is None:
            maker = graph.producer(source)
            raise Unsupported(
                f"reads '{source.name}', made by {maker.op_type if maker else 'no node'} and not by a QuantizeLinear"
            )
        same = own == QParams(stored.scale, stored.zero_point)
        self.context.int8s[output.name or ""] = stored if same else self.context.rescaled(stored, own)

    def _quantize(self, node: Node) -> None:
        decided = self.plan.q.get(node.name or "")
        if decided is None:
            raise NoKernel("has parameters per axis, or of a type other than int8 and uint8")
        output = node.outputs[0]
        self._store(output, self._quantized(node, decided))

    def _quantized(self, node: Node, decided: QPlan) -> Ref:
        value, name = node.inputs[0], node.outputs[0].name or ""
        assert value is not None
        match decided.kind:
            case Kind.TABLE:
                return self._table(value, name, decided.q)
            case Kind.REQUANTIZE:
                ref = self.context.int8(value)
                if ref is None:
                    raise Unsupported(f"needs '{value.name}' in int8")
                return self.context.quantized(ref, decided.q, name)
            case Kind.INT8:
                return self._int8(value, name, decided)
            case Kind.FLOAT:
                return self._from_float(value, name, decided.q, node)

    def _from_float(self, value: Value, name: str, q: QParams, node: Node) -> Ref:
        ref = self.context.value(value)
        order = channels_last(len(ref.shape)) if self._wants_image(node.outputs[0]) else None
        return self.context.quantized(ref, q, name, order)

    def _wants_image(self, value: Value) -> bool:
        """Whether an operator on images reads the value, directly or behind a DequantizeLinear."""
        users = [node for node, _ in graph.consumers(value)]
        behind = [n for user in users if user.op_type == "DequantizeLinear" for n, _ in graph.consumers(user.outputs[0])]
        return any(user.op_type in IMAGE_OPS for user in users + behind)

    def _int8(self, value: Value, name: str, decided: QPlan) -> Ref:
        node = decided.node
        assert node is not None
        mark = len(self.context.builder.forms)
        try:
            ref = INT8[node.op_type](self.context, node, Target8(decided.q, decided.low, decided.high, decided.bias))
        except Unsupported as error:
            if node.op_type not in FLOAT:
                raise
            self.context.notes.append(f"{node.name} ({node.op_type}) runs in float32: {error}")
            for between in self._nodes_between(node, value):
                self.fell_back[between.name or ""] = str(error)
                self._float(between)
            return self.context.quantized(self.context.value(value), decided.q, name)
        builder = self.context.builder
        builder.tensors[ref.tensor].name = name
        fused = [between.name for between in self._nodes_between(node, value)[1:]]
        if fused and len(builder.forms) > mark:
            builder.forms[-1]["fused"] = fused
        return ref

    def _nodes_between(self, node: Node, value: Value) -> list[Node]:
        """``node`` and the clip or addition behind it, up to the one that makes ``value``, in order."""
        found: list[Node] = []
        current = graph.producer(value)
        while current is not None and current is not node:
            found.append(current)
            data = [v for v in current.inputs if v is not None and constant_of(v) is None and graph.producer(v) is not None]
            current = graph.producer(data[0]) if data else None
        return [node, *reversed(found)]

    def _table(self, value: Value, name: str, q: QParams) -> Ref:
        def leaf(v: Value) -> str | None:
            return self.plan.int8_values.get(v.name or "")

        chain = tables.chain_of(value, leaf)
        assert chain is not None
        root = str(chain[0])
        ref = self.stored.get(root) or self.context.int8s.get(root)
        if ref is None:
            raise Unsupported(f"needs '{root}', which could not be lowered")
        builder = self.context.builder
        x = (np.arange(-128, 128) - ref.zero_point) * np.float64(np.float32(ref.scale))
        results = np.broadcast_to(tables.evaluate(value, leaf, x), x.shape)
        table = builder.constant(f"{name}.table", tables.table_of(results, q.scale, q.zero_point, builder.act_sign), DType.U8)
        y = self.context.like(ref, name, DType.S8, q)
        names = [node.name for node in reversed(chain[1])]
        form: dict[str, Any] = {"op": "table", "node": ", ".join(map(str, names)), "form": "int8"}
        builder.step(str(names[-1]), Op.TABLE, (ref.tensor, table), (y.tensor,), form)
        return y


def _is_empty(node: Node) -> bool:
    """Whether the node hands out a result without elements (``frontends/empty.py``)."""
    return all(0 in graph.shape(value) for value in node.outputs if value.name)


def _has_stored_weights(node: Node) -> bool:
    """Whether a product's weights are integers that were expanded to float."""
    weights = node.inputs[1] if node.op_type in PRODUCTS and len(node.inputs) > 1 else None
    maker = graph.producer(weights) if weights is not None else None
    return maker is not None and maker.op_type == "DequantizeLinear" and constant_of(weights) is not None
