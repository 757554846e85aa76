"""Operators on single elements, and the borders between types."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper

from edgezip.frontends.tflite.activation import clipped, fused
from edgezip.frontends.tflite.emitter import Converter, Emitter, converts
from edgezip.frontends.tflite.schema import Operator

UNARY = {
    "LOGISTIC": "Sigmoid", "TANH": "Tanh", "HARD_SWISH": "HardSwish", "ELU": "Elu", "EXP": "Exp", "SQRT": "Sqrt", "NEG": "Neg",
    "ABS": "Abs", "LOG": "Log", "FLOOR": "Floor", "CEIL": "Ceil", "LOGICAL_NOT": "Not", "ROUND": "Round", "SIN": "Sin",
    "COS": "Cos", "SIGN": "Sign",
}  # fmt: skip
CLIPS = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
BINARY = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}  # with a fused activation
PLAIN = {
    "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow", "EQUAL": "Equal", "LESS": "Less", "LESS_EQUAL": "LessOrEqual",
    "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or",
}  # fmt: skip


def _simple(kind: str, inputs: int) -> Converter:
    def convert(e: Emitter, op: Operator) -> None:
        e.give(op, e.node(kind, [e.value(op, i) for i in range(inputs)]))

    return convert


def _arithmetic(kind: str) -> Converter:
    def convert(e: Emitter, op: Operator) -> None:
        y = e.node(kind, [e.value(op, 0), e.value(op, 1)])
        activation = getattr(op.options, "FusedActivationFunction", None)
        e.give(op, fused(e, op, y, activation() if activation else 0))

    return convert


def _clip(kind: int) -> Converter:
    def convert(e: Emitter, op: Operator) -> None:
        e.give(op, clipped(e, e.value(op, 0), kind))

    return convert


def _register(table: dict[str, str], make: Callable[[str], Converter]) -> None:
    for name, kind in table.items():
        converts(name)(make(kind))


_register(UNARY, lambda kind: _simple(kind, 1))
_register(PLAIN, lambda kind: _simple(kind, 2))
_register(BINARY, _arithmetic)
for _name, _kind in CLIPS.items():
    converts(_name)(_clip(_kind))


@converts("LEAKY_RELU")
def leaky_relu(e: Emitter, op: Operator) -> None:
    """Slope from the options."""
    e.give(op, e.node("LeakyRelu", [e.value(op, 0)], alpha=float(e.options(op, "LeakyReluOptions").Alpha())))


@converts("GELU")
def gelu(e: Emitter, op: Operator) -> None:
    """Exact or the tanh approximation."""
    approximate = "tanh" if e.options(op, "GeluOptions").Approximate() else "none"
    e.give(op, e.node("Gelu", [e.value(op, 0)], approximate=approximate))


@converts("PRELU")
def prelu(e: Emitter, op: Operator) -> None:
    """One slope a channel, a constant; ONNX wants the channel second."""
    rank, slopes = len(e.tensor(op, 0).shape), e.floats(op, 1)
    if rank == 4 and slopes.ndim and slopes.size == slopes.shape[-1]:
        x, slope = e.nchw(e.value(op, 0)), e.initializer(slopes.reshape(-1, 1, 1), "slopes")
        e.give(op, e.nhwc(e.node("PRelu", [x, slope])))
    else:
        e.give(op, e.node("PRelu", [e.value(op, 0), e.initializer(slopes, "slopes")]))


@converts("SQUARE")
def square(e: Emitter, op: Operator) -> None:
    """x * x."""
    e.give(op, e.node("Mul", [e.value(op, 0), e.value(op, 0)]))


@converts("RSQRT")
def rsqrt(e: Emitter, op: Operator) -> None:
    """1 / sqrt(x)."""
    e.give(op, e.node("Reciprocal", [e.node("Sqrt", [e.value(op, 0)])]))


@converts("SQUARED_DIFFERENCE")
def squared_difference(e: Emitter, op: Operator) -> None:
    """(a - b) squared."""
    difference = e.node("Sub", [e.value(op, 0), e.value(op, 1)])
    e.give(op, e.node("Mul", [difference, difference]))


@converts("RELU_0_TO_1")
def relu_0_to_1(e: Emitter, op: Operator) -> None:
    """Clipped to [0, 1]."""
    e.give(op, e.node("Clip", [e.value(op, 0), e.initializer(np.float32(0), "low"), e.initializer(np.float32(1), "high")]))


@converts("NOT_EQUAL")
def not_equal(e: Emitter, op: Operator) -> None:
    """a != b."""
    e.give(op, e.node("Not", [e.node("Equal", [e.value(op, 0), e.value(op, 1)])]))


@converts("FLOOR_DIV", "FLOOR_MOD")
def floor_div(e: Emitter, op: Operator) -> None:
    """Rounded down, and what is left, with the sign of the divisor."""
    a, b = e.value(op, 0), e.value(op, 1)
    if np.dtype(e.value_type(op, 0)).kind == "f":
        quotient = e.node("Floor", [e.node("Div", [a, b])])
        e.give(op, quotient if op.name == "FLOOR_DIV" else e.node("Sub", [a, e.node("Mul", [quotient, b])]))
        return
    left = e.node("Mod", [a, b])
    e.give(op, left if op.name == "FLOOR_MOD" else e.node("Div", [e.node("Sub", [a, left]), b]))


@converts("ADD_N")
def add_n(e: Emitter, op: Operator) -> None:
    """The sum of all inputs."""
    total = e.value(op, 0)
    for position in range(1, len(op.inputs)):
        total = e.node("Add", [total, e.value(op, position)])
    e.give(op, total if len(op.inputs) > 1 else e.node("Identity", [total]))


@converts("SELECT", "SELECT_V2")
def select(e: Emitter, op: Operator) -> None:
    """condition ? a : b."""
    e.give(op, e.node("Where", [e.value(op, 0), e.value(op, 1), e.value(op, 2)]))


@converts("QUANTIZE")
def quantize(e: Emitter, op: Operator) -> None:
    """To the parameters of the output, from float or from other parameters."""
    e.give(op, e.value(op, 0))


@converts("DENSIFY")
def densify(e: Emitter, op: Operator) -> None:
    """A sparse constant, which was made dense as it was read."""
    e.give_constant(op, e.constant(op, 0))


@converts("DEQUANTIZE")
def dequantize(e: Emitter, op: Operator) -> None:
    """To float; constants (float16 weights) at once."""
    if e.is_constant(op, 0):
        e.give_constant(op, e.floats(op, 0))
    else:
        e.give(op, e.value(op, 0))


@converts("CAST")
def cast(e: Emitter, op: Operator) -> None:
    """To the output's type."""
    kind = helper.np_dtype_to_tensor_dtype(e.graph.tensors[op.outputs[0]].dtype) if op.outputs else 1
    e.give(op, e.node("Cast", [e.value(op, 0)], to=kind))
