"""256-entry tables: any chain of elementwise nodes on one int8 tensor, evaluated on the host in float64 (EZ-N1 rule 7)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Node, Value

Array = np.ndarray[Any, Any]
_erf: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(x: Array, approximate: str = "none") -> Array:
    if approximate == "tanh":
        curve: Array = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        curve = _erf(x / math.sqrt(2))
    half: Array = 0.5 * x * (1 + curve)
    return half


def _sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    return result


def _softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def _hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _selu(x: Array, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Array:
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _leaky(x: Array, alpha: float = 0.01) -> Array:
    return np.where(x < 0, alpha * x, x)


def _clip(x: Array, low: Array | None = None, high: Array | None = None, **bounds: float) -> Array:
    low = bounds.get("min", low) if low is None else low  # type: ignore[assignment]
    high = bounds.get("max", high) if high is None else high  # type: ignore[assignment]
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


# ONNX operator -> function of its float64 inputs and its attributes
FUNCTIONS: dict[str, Callable[..., Array]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "Selu": _selu,
    "Celu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)),
    "ThresholdedRelu": lambda x, alpha=1.0: np.where(x > alpha, x, 0),
    "Sigmoid": _sigmoid,
    "Tanh": np.tanh,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "Swish": lambda x, alpha=1.0: x * _sigmoid(alpha * x),
    "Gelu": _gelu,
    "Erf": _erf,
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Abs": np.abs,
    "Neg": np.negative,
    "Reciprocal": lambda x: 1 / x,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sign": np.sign,
    "Sin": np.sin,
    "Cos": np.cos,
    "Clip": _clip,
    "Identity": lambda x: x,
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Min": lambda *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Max": lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
}
MAX_CHAIN = 64


def chain_of(value: Value, is_leaf: Callable[[Value], object]) -> tuple[object, list[Node]] | None:
    """The elementwise nodes behind ``value`` and the one int8 tensor at their root, or None.

    ``is_leaf`` gives an identity for a value that is a dequantised int8 tensor, else None. Constants must be scalars, so that
    every element sees the same function.
    """
    leaves: set[object] = set()
    nodes: dict[int, Node] = {}
    pending = [value]
    while pending:
        current = pending.pop()
        leaf = is_leaf(current)
        if leaf is not None:
            leaves.add(leaf)
            continue
        held = graph.constant(current)
        if held is not None:
            if held.size != 1:
                return None
            continue
        node = graph.producer(current)
        if node is None or node.op_type not in FUNCTIONS or node.domain or len(nodes) > MAX_CHAIN:
            return None
        if id(node) not in nodes:
            nodes[id(node)] = node
            pending += [x for x in node.inputs if x is not None]
    return (leaves.pop(), list(nodes.values())) if len(leaves) == 1 and nodes else None


def evaluate(value: Value, is_leaf: Callable[[Value], object], x: Array) -> Array:
    """The chain's value for every element of float64 ``x`` (the dequantised inputs)."""
    if is_leaf(value) is not None:
        return x
    held = graph.constant(value)
    if held is not None:
        return np.asarray(held, np.float64).reshape(())
    node = graph.producer(value)
    assert node is not None
    inputs = [None if v is None else evaluate(v, is_leaf, x) for v in node.inputs]
    with np.errstate(all="ignore"):
        return np.asarray(FUNCTIONS[node.op_type](*inputs, **graph.attributes(node)), np.float64)


def table_of(values: Array, scale: float, zero_point: int, act_sign: int) -> Array:
    """float64 results for logical inputs -128..127 -> uint8 (256,): stored output byte by stored input byte."""
    with np.errstate(all="ignore"):
        steps = np.clip(
            np.nan_to_num(values / np.float64(np.float32(scale)), nan=-1e9, posinf=1e9, neginf=-1e9),
            -128 - zero_point,
            127 - zero_point,
        )
    logical = (np.rint(steps) + zero_point).astype(np.int8)
    table = np.zeros(256, np.uint8)
    stored = np.arange(-128, 128).astype(np.int8).view(np.uint8) ^ np.uint8(act_sign)
    table[stored] = logical.view(np.uint8) ^ np.uint8(act_sign)
    return table
