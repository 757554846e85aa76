"""What a layer costs: multiply-accumulates, parameters and bytes by its shapes; a roofline prediction of its time on a target.

A prediction is max(arithmetic, memory traffic) + a fixed overhead per step. Arithmetic goes at a rate by kind of product (plain,
depthwise, dense 3x3, first layer) and form, weights come from memory, activations from the cache where they fit, threads share
both. It knows no fusion, so it is an estimate to compare forms with, never a measurement, and must be printed as "predicted".
`python -m bench.cost_model` holds it against published latencies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}  # how a form is written, not work of their own once compiled
VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}  # move no byte


FIRST_CHANNELS = 4  # a convolution of a picture: so few input channels leave most of a vector empty
TWO_THREADS = 1.8  # speed-up of long steps where nobody measured it


class CostModel(Protocol):
    """The coefficients of a target, for one thread (``[cost]`` of targets/*.toml)."""

    s8_gmacs: float  # 1e9 multiply-accumulates a second, int8
    f32_gmacs: float
    depthwise_s8_gmacs: float | None  # None: as the other products
    depthwise_f32_gmacs: float | None
    square_s8: float | None  # the rate of dense 3x3 convolutions of stride 1, as a factor; None: 1
    square_f32: float | None
    square_f32_weights: float | None  # their weight bytes as a factor, where float goes by Winograd
    first_layer: float | None  # the rate of a convolution with at most FIRST_CHANNELS inputs, as a factor
    elementwise_gbs: (
        float | None
    )  # 1e9 bytes a second of steps without products, and of what fits into cache_kb; None: as from memory
    cache_kb: int | None  # last-level cache; None: activations of products come from memory
    stream_gbs: float  # 1e9 bytes a second from memory
    stream_all_gbs: float | None  # of all threads together; None: no more than one gets
    overhead_us: float  # of one step
    two_threads: float | None  # speed-up of long steps; four threads give its square


class HasCost(Protocol):
    """Any object with cost coefficients; ``edgezip.target.Target`` is one."""

    @property
    def cost(self) -> CostModel:
        """The coefficients."""
        ...


@dataclass(frozen=True, slots=True)
class LayerCost:
    """The cost of one node for one inference."""

    name: str
    op: str
    form: str  # "int8", or the dtype of the weights or data: "float32", "int64" ...
    output_shape: tuple[int, ...]
    macs: int
    params: int
    weight_bytes: int
    activation_bytes: int  # read and written
    is_depthwise: bool = False
    is_square: bool = False  # dense 3x3 of stride 1
    is_first: bool = False  # reads at most FIRST_CHANNELS channels


def layer_costs(model: Model) -> list[LayerCost]:
    """One entry for every node but the quantisers, in order; shapes must be known (ShapeError)."""
    return [layer_cost(node) for node in graph.nodes(model) if node.op_type not in QUANTIZERS]


def layer_cost(node: Node) -> LayerCost:
    """The cost of one node. Quantised inputs and outputs count with the bytes of their stored type."""
    weights = [value for value in node.inputs if value is not None and _is_constant(value)]
    activations = [value for value in node.inputs if value is not None and not _is_constant(value)]
    traffic = 0 if node.op_type in VIEWS else sum(map(stored_bytes, [*activations, *_used(node.outputs)]))
    return LayerCost(
        name=str(node.name),
        op=node.op_type,
        form=_form(weights, activations, node.outputs),
        output_shape=graph.shape(node.outputs[0]),
        macs=macs(node),
        params=sum(math.prod(graph.shape(value)) for value in weights if _is_parameter(value)),
        weight_bytes=sum(map(stored_bytes, weights)),
        activation_bytes=traffic,
        is_depthwise=_is_depthwise(node),
        is_square=_is_square(node),
        is_first=_is_first(node),
    )


def _is_depthwise(node: Node) -> bool:
    """A convolution in which every output sees one input channel."""
    weight = node.inputs[1] if node.op_type == "Conv" else None
    return weight is not None and graph.shape(weight)[1] == 1 and int(graph.attribute(node, "group", 1)) > 1


def _is_square(node: Node) -> bool:
    """A dense 3x3 convolution of stride 1, which can go by Winograd's tiles."""
    weight = node.inputs[1] if node.op_type == "Conv" else None
    plain = all(set(graph.attribute(node, name, [1])) <= {1} for name in ("strides", "dilations"))
    return weight is not None and graph.shape(weight)[2:] == (3, 3) and plain and int(graph.attribute(node, "group", 1)) == 1


def _is_first(node: Node) -> bool:
    weight = node.inputs[1] if node.op_type == "Conv" else None
    return weight is not None and graph.shape(weight)[1] <= FIRST_CHANNELS and int(graph.attribute(node, "group", 1)) == 1


def _used(values: Sequence[Value]) -> list[Value]:
    return [value for value in values if value.name]


def _stored(value: Value) -> Value:
    """The value as it lies in memory: what is behind DequantizeLinear, or in front when only QuantizeLinear reads it."""
    made_by = graph.producer(value)
    if made_by is not None and made_by.op_type == "DequantizeLinear" and made_by.inputs[0] is not None:
        return made_by.inputs[0]
    readers = [node for node, _ in graph.consumers(value)]
    if readers and not graph.is_graph_output(value) and all(node.op_type == "QuantizeLinear" for node in readers):
        return readers[0].outputs[0]
    return value


def _is_constant(value: Value) -> bool:
    return (graph.producer(value) is None and graph.constant(value) is not None) or graph.constant(_stored(value)) is not None


def stored_bytes(value: Value) -> int:
    """Bytes of a value in memory, by the type it is stored in (int8 behind DequantizeLinear; 4-bit types are packed)."""
    stored = _stored(value)
    name = graph.dtype(stored).name
    bits = 4 if name in {"int4", "uint4", "float4_e2m1fn"} else 8 * graph.dtype(stored).itemsize
    return math.ceil(math.prod(graph.shape(stored)) * bits / 8)


def _form(weights: list[Value], activations: list[Value], outputs: Sequence[Value]) -> str:
    """``int8`` when data and weights are both stored in 8 bits, else the dtype of the data."""
    read = [*activations[:1], *weights[:1]] or list(outputs[:1])
    if all(graph.dtype(_stored(value)).name in {"int8", "uint8"} for value in read):
        return "int8"
    return graph.dtype(read[0]).name


def _is_parameter(value: Value) -> bool:
    """Trained numbers: floats, or integers behind DequantizeLinear; no shapes, axes or clip bounds."""
    return len(graph.shape(value)) > 0 and (_stored(value) is not value or graph.dtype(value).kind not in "iubO")


def macs(node: Node) -> int:
    """Multiply-accumulates of one inference; 0 for operators that are not matrix products."""
    rule = node.op_type
    if rule in {"Conv", "ConvInteger", "QLinearConv"}:
        weight = node.inputs[3 if rule == "QLinearConv" else 1]
        assert weight is not None
        return math.prod(graph.shape(node.outputs[0])) * math.prod(graph.shape(weight)[1:])
    if rule == "ConvTranspose":
        data, weight = node.inputs[0], node.inputs[1]
        assert data is not None
        assert weight is not None
        return math.prod(graph.shape(data)) * math.prod(graph.shape(weight)[1:])
    if rule in {"Gemm", "MatMul", "MatMulInteger"} and node.inputs[0] is not None:
        dims = graph.shape(node.inputs[0])
        inner = dims[0] if graph.attribute(node, "transA", 0) else dims[-1]
        return math.prod(graph.shape(node.outputs[0])) * inner
    if rule in {"LSTM", "GRU", "RNN"}:
        return _recurrent_macs(node)
    return 0


def _recurrent_macs(node: Node) -> int:
    data, weight, recurrence = node.inputs[:3]
    assert data is not None
    assert weight is not None
    assert recurrence is not None
    steps = math.prod(graph.shape(data)[:2])  # sequence x batch, in either layout
    return steps * (math.prod(graph.shape(weight)) + math.prod(graph.shape(recurrence)))


def predict_us(layer: LayerCost, target: HasCost, threads: int = 1) -> float:
    """Predicted microseconds of a layer on ``threads`` threads of the target."""
    if layer.op in VIEWS:
        return 0.0
    cost = target.cost
    speedup = float((cost.two_threads or TWO_THREADS) ** math.log2(threads))
    stream = min(threads * cost.stream_gbs, max(cost.stream_gbs, cost.stream_all_gbs or 0.0))
    blown_up = cost.square_f32_weights or 1.0 if layer.is_square and layer.form != "int8" else 1.0
    arithmetic_us = layer.macs / (_gmacs(layer, cost) * speedup * 1e3)
    traffic_us = (
        blown_up * layer.weight_bytes / stream + layer.activation_bytes / _activation_gbs(layer, cost, stream, speedup)
    ) / 1e3
    return float(max(arithmetic_us, traffic_us)) + cost.overhead_us


def _gmacs(layer: LayerCost, cost: CostModel) -> float:
    products, depthwise, square = (
        (cost.s8_gmacs, cost.depthwise_s8_gmacs, cost.square_s8)
        if layer.form == "int8"
        else (cost.f32_gmacs, cost.depthwise_f32_gmacs, cost.square_f32)
    )
    if layer.is_depthwise:
        return depthwise or products
    return products * ((cost.first_layer if layer.is_first else square if layer.is_square else None) or 1.0)


def _activation_gbs(layer: LayerCost, cost: CostModel, stream: float, speedup: float) -> float:
    """Each core has a way to its cache, all share the one to memory."""
    if cost.elementwise_gbs is None:
        return stream
    fits = layer.activation_bytes <= cost.cache_kb * 1024 if cost.cache_kb else not layer.macs
    return cost.elementwise_gbs * speedup if fits else stream


def peak_activation_bytes(model: Model) -> int:
    """The most bytes of activations that are alive at once when nodes run in order: a lower bound for any arena."""
    order = [node for node in graph.nodes(model) if node.op_type not in QUANTIZERS]
    last: dict[str, int] = {}
    for index, node in enumerate(order):
        for value in node.inputs:
            if value is not None and not _is_constant(value):
                last[_key(value)] = index
    for value in graph.output_values(model):
        last[_key(value)] = len(order)
    alive = {_key(value): stored_bytes(value) for value in graph.input_values(model)}
    peak = sum(alive.values())
    for index, node in enumerate(order):
        alive.update({_key(value): stored_bytes(value) for value in _used(node.outputs)})
        peak = max(peak, sum(alive.values()))
        alive = {key: size for key, size in alive.items() if last.get(key, -1) > index}
    return peak


def _key(value: Value) -> str:
    return str(_stored(value).name)
