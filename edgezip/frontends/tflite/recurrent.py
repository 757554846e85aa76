"""Recurrent layers: LSTM, RNN and SVDF, whose state lies in variable tensors and stays from run to run.

Weights that are int8 stay so, one scale for each row; their activations are then quantised row by row at run time, as TensorFlow
Lite's hybrid kernels do. A layer that is int8 throughout keeps its state in float here, where TensorFlow Lite rounds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgezip import graph
from edgezip.errors import UnsupportedModelError
from edgezip.frontends.tflite.activation import fused
from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.products import weights
from edgezip.frontends.tflite.schema import Array, Operator, Tensor

CELL_CLIP = "edgezip.cell_clip"
ACTIVATIONS = {1: "Relu", 4: "Tanh"}  # ActivationFunctionType that ONNX has too
IFCO, IOFC = range(4), (0, 3, 1, 2)  # gates as TensorFlow Lite lists them, and in the order of ONNX


@dataclass(frozen=True, slots=True)
class Places:
    """Where the operands of one direction stand among the operator's inputs."""

    input_weights: int
    state_weights: int
    peephole: int
    bias: int
    projection: int
    h: int
    c: int
    norm: int | None = None


FORWARD, ONE_WAY = Places(1, 5, 9, 12, 16, 35, 36), Places(1, 5, 9, 12, 16, 18, 19, 20)
BACKWARD = Places(18, 22, 26, 29, 33, 37, 38)
AUXILIARY = range(39, 48)


def _refuse(e: Emitter, op: Operator, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(what, where=e.place(op), hint="convert the model without it, or export it to ONNX")


def _activation(e: Emitter, op: Operator, kind: int) -> str:
    if kind not in ACTIVATIONS:
        raise _refuse(e, op, f"fused activation {kind} of a recurrent layer is not supported")
    return ACTIVATIONS[kind]


def _time_first(e: Emitter, op: Operator, time_major: bool) -> str:
    """(T, B, I) of the input."""
    if len(e.tensor(op, 0).shape) != 3:
        raise e.fail(op, f"needs a tensor of rank 3, not {e.tensor(op, 0).shape}")
    x = e.value(op, 0)
    return x if time_major else str(e.node("Transpose", [x], perm=[1, 0, 2]))


# --- weights ----------------------------------------------------------------------------------------------------------------


def _matrix(e: Emitter, op: Operator, positions: Sequence[int]) -> tuple[str, bool]:
    """The matrices one above the other as (1, rows, K), and whether they are int8: all of them must be."""
    tensors = [e.tensor(op, position) for position in positions]
    if any(tensor.data is None or tensor.data.ndim != 2 or tensor.data.shape[1:] != tensors[0].shape[1:] for tensor in tensors):
        raise e.fail(op, f"inputs {list(positions)} are not matrices of one width")
    if not all(_is_plain_int8(tensor) for tensor in tensors):
        rows = np.concatenate([e.floats(op, position) for position in positions])
        return e.initializer(rows[None], "weights"), False
    rows = np.concatenate([e.constant(op, position) for position in positions])
    scale = np.concatenate([np.broadcast_to(tensor.scale, (tensor.shape[0],)) for tensor in tensors]).astype(np.float32)
    none = np.zeros(len(scale), np.int64)
    return e.dequantize(e.initializer(rows[None], "weights"), Tensor("", (), np.dtype(np.int8), None, scale, none, 1), 1), True


def _is_plain_int8(tensor: Tensor) -> bool:
    """Symmetric, without -128, scales by row if there are several."""
    held = tensor.data
    if held is None or held.dtype != np.int8 or not tensor.scale.size or np.any(tensor.zero_point):
        return False
    return (tensor.scale.size == 1 or tensor.axis == 0) and int(held.min(initial=0)) > -128


def _rows(e: Emitter, op: Operator, position: int, count: int) -> Array:
    """A bias, zeros when it is absent."""
    if not e.has(op, position):
        return np.zeros(count, np.float32)
    held = e.floats(op, position).reshape(-1)
    if len(held) != count:
        raise e.fail(op, f"input {position} has {len(held)} elements, not {count}")
    return held


# --- LSTM -------------------------------------------------------------------------------------------------------------------


@converts("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(e: Emitter, op: Operator) -> None:
    """One direction; the state is read from and left in the variable tensors."""
    o = e.options(op, "UnidirectionalSequenceLSTMOptions")
    if getattr(o, "DiagonalRecurrentTensors", bool)():
        raise _refuse(e, op, "diagonal recurrent tensors are not supported")
    y = _direction(e, op, o, ONE_WAY, _time_first(e, op, bool(o.TimeMajor())), "forward")
    e.give(op, y if o.TimeMajor() else e.node("Transpose", [y], perm=[1, 0, 2]))


@converts("BIDIRECTIONAL_SEQUENCE_LSTM")
def lstm_both_ways(e: Emitter, op: Operator) -> None:
    """Two directions over one input; their results side by side, or one output each."""
    o = e.options(op, "BidirectionalSequenceLSTMOptions")
    if any(e.has(op, position) for position in AUXILIARY):
        raise _refuse(e, op, "an auxiliary input is not supported")
    x = _time_first(e, op, bool(o.TimeMajor()))
    both = [_direction(e, op, o, places, x, way) for places, way in ((FORWARD, "forward"), (BACKWARD, "reverse"))]
    results = [e.node("Concat", both, axis=2)] if o.MergeOutputs() else both
    for position, y in enumerate(results):
        e.give(op, y if o.TimeMajor() else e.node("Transpose", [y], perm=[1, 0, 2]), position)


def _direction(e: Emitter, op: Operator, o: Any, at: Places, x: str, way: str) -> str:
    """(T, B, H) of one direction."""
    if e.has(op, at.projection) or e.has(op, at.projection + 1):
        raise _refuse(e, op, "a projection is not supported")
    if at.norm is not None and any(e.has(op, at.norm + gate) for gate in IFCO):
        raise _refuse(e, op, "layer normalisation inside an LSTM is not supported")
    hidden = e.tensor(op, at.state_weights + 1).shape[0]
    coupled = not e.has(op, at.input_weights)
    w, is_int8 = _gates(e, op, at.input_weights, coupled)
    r, _ = _gates(e, op, at.state_weights, coupled)
    bias = [_rows(e, op, at.bias + gate, hidden) for gate in IFCO]
    if coupled:
        bias[0] = -bias[1]
    b = e.initializer(np.concatenate([*(bias[gate] for gate in IOFC), np.zeros(4 * hidden)]).astype(np.float32)[None], "bias")
    operands = [x, w, r, b, "", _state(e, op, at.h), _state(e, op, at.c)]
    if any(e.has(op, at.peephole + gate) for gate in range(3)):
        held = [_rows(e, op, at.peephole + gate, hidden) for gate in range(3)]
        if coupled:
            held[0] = -held[1]
        operands.append(e.initializer(np.concatenate([held[gate] for gate in (0, 2, 1)])[None], "peephole"))
    inner = _activation(e, op, o.FusedActivationFunction())
    attributes: dict[str, Any] = {"input_forget": 1} if coupled else {}
    y, h, c = e.node("LSTM", operands, 3, hidden_size=hidden, direction=way, activations=["Sigmoid", inner, inner], **attributes)
    if o.CellClip() > 0:
        e.annotate(y, CELL_CLIP, repr(float(o.CellClip())))
    if is_int8:
        e.annotate(y, *graph.DYNAMIC_ROWS)
    _keep(e, op, at.h, h)
    _keep(e, op, at.c, c)
    return str(e.node("Squeeze", [y, e.initializer(np.array([1]), "axis")]))


def _gates(e: Emitter, op: Operator, first: int, coupled: bool) -> tuple[str, bool]:
    """Four matrices in ONNX's order. Coupled: i = 1 - f = sigmoid(-(...)) takes the forget gate's; input_forget turns it back."""
    if not coupled:
        return _matrix(e, op, [first + gate for gate in IOFC])
    forget, cell, output = (e.floats(op, first + gate) for gate in (1, 2, 3))
    return e.initializer(np.concatenate([-forget, output, forget, cell])[None], "weights"), False


def _state(e: Emitter, op: Operator, position: int) -> str:
    """The variable as (1, B, H)."""
    return str(e.node("Unsqueeze", [e.variable(op, position), e.initializer(np.array([0]), "axis")]))


def _keep(e: Emitter, op: Operator, position: int, state: str) -> None:
    e.keep(op, position, str(e.node("Squeeze", [state, e.initializer(np.array([0]), "axis")])))


# --- RNN, SVDF --------------------------------------------------------------------------------------------------------------


@converts("UNIDIRECTIONAL_SEQUENCE_RNN")
def rnn(e: Emitter, op: Operator) -> None:
    """h = activation(W x + R h + bias) over all steps."""
    o = e.options(op, "SequenceRNNOptions")
    hidden = e.tensor(op, 1).shape[0]
    w, is_int8 = _matrix(e, op, [1])
    r, _ = _matrix(e, op, [2])
    bias = np.concatenate([_rows(e, op, 3, hidden), np.zeros(hidden)]).astype(np.float32)
    operands = [_time_first(e, op, bool(o.TimeMajor())), w, r, e.initializer(bias[None], "bias"), "", _state(e, op, 4)]
    kind = _activation(e, op, o.FusedActivationFunction())
    y, h = e.node("RNN", operands, 2, hidden_size=hidden, activations=[kind])
    if is_int8:
        e.annotate(y, *graph.DYNAMIC_ROWS)
    _keep(e, op, 4, h)
    y = e.node("Squeeze", [y, e.initializer(np.array([1]), "axis")])
    e.give(op, y if o.TimeMajor() else e.node("Transpose", [y], perm=[1, 0, 2]))


@converts("SVDF")
def svdf(e: Emitter, op: Operator) -> None:
    """Filters of rank 1 over (features, time): the state holds each filter's feature products of the last steps."""
    o = e.options(op, "SVDFOptions")
    rank, batch = int(o.Rank()), e.tensor(op, 0).shape[0]
    filters, memory = (*e.tensor(op, 2).shape, 0)[:2]
    if rank < 1 or not memory or filters % rank or e.tensor(op, 1).shape[:1] != (filters,):
        raise e.fail(op, f"rank {rank} and weights of {e.tensor(op, 1).shape} and {e.tensor(op, 2).shape} do not fit")
    ints = {name: e.initializer(np.array(values, np.int64), name) for name, values in (
        ("state", (batch, filters, memory)), ("one", (1,)), ("end", (memory,)), ("last", (2,)), ("column", (batch, filters, 1)),
        ("units", (batch, filters // rank, rank)), ("flat", (batch, filters * memory)),
    )}  # fmt: skip
    product = e.node("MatMul", [e.value(op, 0), weights(e, op, 1, (1, 0), 1)])
    if e.tensor(op, 1).scale.size and not e.tensor(op, 0).scale.size:
        e.annotate(product, *graph.DYNAMIC_ROWS)
    newest = e.node("Reshape", [product, ints["column"]])
    state = e.node("Reshape", [e.variable(op, 4), ints["state"]])
    older = [e.node("Slice", [state, ints["one"], ints["end"], ints["last"]])] if memory > 1 else []
    state = e.node("Concat", [*older, newest], axis=2)
    e.keep(op, 4, str(e.node("Reshape", [state, ints["flat"]])))
    seen = e.node("Mul", [state, e.initializer(e.floats(op, 2), "weights_time")])
    sums = e.node("ReduceSum", [seen, ints["last"]], keepdims=0)
    y = e.node("ReduceSum", [e.node("Reshape", [sums, ints["units"]]), ints["last"]], keepdims=0)
    if e.has(op, 3):
        y = e.node("Add", [y, e.initializer(_rows(e, op, 3, filters // rank), "bias")])
    e.give(op, fused(e, op, y, o.FusedActivationFunction()))
