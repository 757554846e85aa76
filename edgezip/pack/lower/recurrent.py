"""RNN, GRU and LSTM: one product of the input with its weights over all time steps, then one RECURRENT step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.pack import layouts
from edgezip.pack.builder import Ref, elements, plain
from edgezip.pack.context import Context, Unsupported, constant_of
from edgezip.pack.lower.convolution import Filter, emit_float
from edgezip.pack.lower.geometry import Window
from edgezip.pack.lower.linear import emit_linear
from edgezip.pack.lower.registry import lowers
from edgezip.pack.weights import Weights, folded_bias, stored_weights
from edgezip.program import DType, Op, Recurrent, Unary

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]
POINT = Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
CELL_CLIP = "edgezip.cell_clip"  # metadata of an LSTM: its cell state stays within; ONNX has no word for it, TensorFlow Lite has
X, W, R, B, LENGTHS, H0, C0, PEEPHOLE = range(8)
DEFAULTS = {Recurrent.RNN: ("Tanh",), Recurrent.GRU: ("Sigmoid", "Tanh"), Recurrent.LSTM: ("Sigmoid", "Tanh", "Tanh")}
# name -> function, its default alpha and beta (None: it has none)
ACTIVATIONS: dict[str, tuple[Unary, float | None, float | None]] = {
    "relu": (Unary.CLIP, None, None),
    "tanh": (Unary.TANH, None, None),
    "sigmoid": (Unary.SIGMOID, None, None),
    "softplus": (Unary.SOFTPLUS, None, None),
    "leakyrelu": (Unary.LEAKY_RELU, 0.01, None),
    "elu": (Unary.ELU, 1.0, None),
    "hardsigmoid": (Unary.HARD_SIGMOID, 0.2, 0.5),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """The node's attributes and constants."""

    kind: Recurrent
    hidden: int
    directions: int
    before: bool  # linear_before_reset
    w: Array  # (directions, gates * hidden, inputs)
    r: Array  # (directions, gates * hidden, hidden)
    bias: Array  # (directions, 2 * gates * hidden): of w, of r
    w_stored: Weights | None  # int8 (directions * gates * hidden, inputs), when the rows are to be quantised
    r_stored: Weights | None

    @property
    def width(self) -> int:
        """Columns of a direction."""
        return self.kind.gates * self.hidden

    def parts(self, values: Array) -> list[Array]:
        """``values`` (width, ...) of a direction, cut where the packed weights begin a panel anew."""
        cut = 2 * self.hidden if self.kind is Recurrent.GRU and not self.before else self.width
        return [part for part in (values[:cut], values[cut:]) if len(part)]


@lowers("RNN", "GRU", "LSTM")
def recurrent(context: Context, node: Node) -> None:
    """All directions and steps; the state and the gates are float32, the weights float32 or int8 (EZ-N1 rule 8)."""
    layer = _layer(node)
    steps, batch, _ = graph.shape(_required(node.inputs[X]))
    gates = _input_product(context, node, layer)
    gates = context.relabelled(gates, (steps, batch, layer.directions * layer.width), (0, 1, 2))
    name, state = node.name or node.op_type, (layer.directions, batch, layer.hidden)
    weights, bias, fold = _constants_s8(context, node, layer) if layer.r_stored else _constants_f32(context, node, layer)
    operands = [
        gates.tensor,
        weights,
        bias,
        _given(context, node, H0, state),
        _given(context, node, C0, state),
        _peephole(context, node, layer),
        _lengths(context, node, batch),
        *([fold] if fold >= 0 else []),
    ]
    results = [
        context.new(_name(node, 0), (steps, *state), plain(4), DType.F32),
        *(context.new(_name(node, 1 + i), state, plain(3), DType.F32) for i in range(1 + (layer.kind is Recurrent.LSTM))),
    ]
    macs = steps * batch * layer.directions * layer.width * layer.hidden
    context.builder.step(
        name,
        Op.RECURRENT,
        tuple(operands),
        tuple(result.tensor for result in results),
        {"op": node.op_type, "node": node.name, "form": "int8" if layer.r_stored else "float32", "macs": macs},
        **_params(node, layer),
    )
    for value, result in zip(node.outputs, results, strict=False):
        if value.name:
            context.set(value, result)


def _required(value: Value | None) -> Value:
    assert value is not None
    return value


def _value(node: Node, position: int) -> Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _name(node: Node, position: int) -> str:
    given = node.outputs[position].name if position < len(node.outputs) else None
    return given or f"{node.name}.{('y', 'h', 'c')[position]}"


def _constant(node: Node, position: int, what: str) -> Array | None:
    value = _value(node, position)
    held, maker = constant_of(value), None if value is None else graph.producer(value)
    if value is not None and maker is not None and maker.op_type == "Reshape":  # int8 rows of two directions in one matrix
        flat = constant_of(maker.inputs[0])
        held = None if flat is None else flat.reshape(graph.shape(value))
    if held is None and value is not None:
        raise Unsupported(f"has {what} that are computed at run time")
    return None if held is None else np.asarray(held, np.float32)


def _layer(node: Node) -> Layer:
    w, r, bias = (_constant(node, at, what) for at, what in ((W, "weights"), (R, "weights"), (B, "biases")))
    assert w is not None
    assert r is not None
    kind, (directions, _, hidden) = Recurrent[node.op_type], r.shape
    if bias is None:
        bias = np.zeros((directions, 2 * kind.gates * hidden), np.float32)
    before = bool(graph.attribute(node, "linear_before_reset", 0))
    stored = [_stored(node, at, array.shape) for at, array in ((W, w), (R, r))]
    if graph.get_metadata(node, graph.DYNAMIC_ROWS[0]) != graph.DYNAMIC_ROWS[1]:
        stored = [None, None]
    return Layer(kind, hidden, directions, before, w, r, bias, *stored)


def _stored(node: Node, position: int, shape: tuple[int, ...]) -> Weights | None:
    """int8 rows (directions * gates * hidden, K) and their scales; two directions stand in one matrix behind a Reshape."""
    value = _required(node.inputs[position])
    maker, rows = graph.producer(value), shape[0] * shape[1]
    if maker is not None and maker.op_type == "Reshape":
        found = stored_weights(maker.inputs[0], 0, rows)
    else:
        found = stored_weights(value, 1, rows) if shape[0] == 1 else None
    return None if found is None else Weights(found.values.reshape(rows, -1), found.scale)


def _input_product(context: Context, node: Node, layer: Layer) -> Ref:
    """(steps, batch, columns of all directions)."""
    value = _required(node.inputs[X])
    columns, bias = layer.directions * layer.width, layer.bias[:, : layer.width].reshape(-1)
    ready = context.int8(value) if layer.w_stored else None
    x = context.plain(ready if ready is not None else context.value(value))
    if layer.w_stored:
        return emit_linear(context, node, x, layer.w_stored, bias)
    steps, batch, inputs = x.shape
    rows = context.relabelled(x, (1, inputs, 1, steps * batch), (0, 2, 3, 1))
    made = context.new(f"{node.name}.gates", (1, columns, 1, steps * batch), (0, 2, 3, 1), DType.F32)
    weights = np.ascontiguousarray(layer.w.reshape(columns, 1, -1))
    emit_float(context, node, rows, made, Filter(weights, bias, POINT, 1, (1, steps * batch)))
    return made


def _constants_f32(context: Context, node: Node, layer: Layer) -> tuple[int, int, int]:
    """Packed weights and bias of the state's product; nothing to fold."""
    packed = np.concatenate([layouts.pack_gemm_f32(part[:, None]) for own in layer.r for part in layer.parts(own)])
    weights = context.builder.constant(f"{node.name}.recurrent", packed, DType.F32)
    return weights, context.builder.constant(f"{node.name}.recurrent_bias", _padded(layer, _state_bias(layer)), DType.F32), -1


def _constants_s8(context: Context, node: Node, layer: Layer) -> tuple[int, int, int]:
    """Packed weights, addend and multiplier of each column, and the share of the sign in its sums."""
    stored, builder = layer.r_stored, context.builder
    assert stored is not None
    parts = [part for own in stored.values.reshape(layer.directions, layer.width, -1) for part in layer.parts(own)]
    packed = np.concatenate([layouts.pack_gemm_s8(part[:, None], builder.layout) for part in parts])
    fold = folded_bias(node, np.zeros(len(stored.values), np.int64), stored.values, 0, builder.act_sign)
    scales = np.stack([_padded(layer, _state_bias(layer)), _padded(layer, stored.scale.astype(np.float32))])
    return (
        builder.constant(f"{node.name}.recurrent", packed, DType.U8),
        builder.constant(f"{node.name}.recurrent_scales", scales, DType.F32),
        builder.constant(f"{node.name}.recurrent_fold", _padded(layer, fold), DType.S32),
    )


def _state_bias(layer: Layer) -> Array:
    return layer.bias[:, layer.width :]


def _padded(layer: Layer, columns: Array) -> Array:
    """One number for each column (of all directions) -> each part padded to whole panels."""
    split = columns.reshape(layer.directions, layer.width)
    return np.concatenate([layouts.pad_outputs(part) for own in split for part in layer.parts(own)])


def _given(context: Context, node: Node, position: int, shape: tuple[int, ...]) -> int:
    """The tensor of an initial state; -1 where it is absent."""
    value = _value(node, position)
    if value is None:
        return -1
    ref = context.plain(context.value(value))
    if ref.shape != shape:
        raise Unsupported(f"has an initial state of shape {ref.shape}, not {shape}")
    return ref.tensor


def _peephole(context: Context, node: Node, layer: Layer) -> int:
    held = _constant(node, PEEPHOLE, "peepholes")
    if held is None or not held.any():
        return -1
    shaped = held.reshape(layer.directions, 3, layer.hidden)
    return context.builder.constant(f"{node.name}.peephole", shaped, DType.F32)


def _lengths(context: Context, node: Node, batch: int) -> int:
    value = _value(node, LENGTHS)
    if value is None:
        return -1
    ref = context.plain(context.value(value))
    if ref.dtype is not DType.S32 or elements(ref.shape) != batch:
        raise Unsupported(f"has sequence_lens of {ref.dtype.name} {ref.shape}, not int32 of {batch}")
    return ref.tensor


def _params(node: Node, layer: Layer) -> dict[str, Any]:
    functions = _functions(node, layer)
    return {
        "kind": layer.kind,
        "hidden": layer.hidden,
        "directions": layer.directions,
        "reverse": int(graph.attribute(node, "direction", "forward") == "reverse"),
        "linear_before_reset": int(layer.before),
        "input_forget": int(graph.attribute(node, "input_forget", 0)),
        "clip": float(graph.attribute(node, "clip", math.inf)),
        "cell_clip": float(graph.get_metadata(node, CELL_CLIP) or math.inf),
        "activation": tuple(kind for kind, _, _ in functions),
        "alpha": tuple(alpha for _, alpha, _ in functions),
        "beta": tuple(beta for _, _, beta in functions),
    }


def _functions(node: Node, layer: Layer) -> list[tuple[int, float, float]]:
    """f, g, h of each direction; what a kind lacks is zeros. Alphas and betas go to the functions that take them, in order."""
    defaults = DEFAULTS[layer.kind]
    names = list(graph.attribute(node, "activations") or defaults * layer.directions)
    if len(names) != len(defaults) * layer.directions:
        raise Unsupported(f"has {len(names)} activations; {len(defaults) * layer.directions} are expected")
    numbers = {key: iter(graph.attribute(node, f"activation_{key}") or ()) for key in ("alpha", "beta")}
    found: list[tuple[int, float, float]] = []
    for index, name in enumerate(names):
        if name.lower() not in ACTIVATIONS:
            raise Unsupported(f"has activation {name}; {', '.join(ACTIVATIONS)} are supported")
        kind, alpha, beta = ACTIVATIONS[name.lower()]
        alpha = 0.0 if alpha is None else float(next(numbers["alpha"], alpha))
        beta = (math.inf if kind is Unary.CLIP else 0.0) if beta is None else float(next(numbers["beta"], beta))
        found.append((int(kind), alpha, beta))
        if (index + 1) % len(defaults) == 0:
            found += [(0, 0.0, 0.0)] * (3 - len(defaults))
    return found
