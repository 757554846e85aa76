"""Reductions that are sums of something, reductions over nothing, Mean of many, LogSoftmax and Hardmax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.frontends.decompose.emitter import Emitter, decomposes

if TYPE_CHECKING:
    from edgezip.graph import Array, Value

OVER_NOTHING = {
    "ReduceL1": 0.0,
    "ReduceL2": 0.0,
    "ReduceLogSum": -math.inf,
    "ReduceLogSumExp": -math.inf,
    "ReduceMax": -math.inf,
    "ReduceMin": math.inf,
    "ReduceProd": 1.0,
    "ReduceSum": 0.0,
    "ReduceSumSquare": 0.0,
}


def axes_of(emit: Emitter) -> list[int] | None:
    """The reduced axes, by attribute or constant input; None when they are computed."""
    rank = len(emit.shape)
    axes = emit.attr("axes")
    if axes is None and emit.input(1) is not None:
        held = emit.constant(1)
        if held is None:
            return None
        axes = held.reshape(-1).tolist()
    if not axes:
        return [] if emit.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [int(axis) % max(rank, 1) for axis in axes]


@decomposes("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def sum_of_something(emit: Emitter) -> bool:
    """Absolute values, squares or exponentials, their sum, a root or logarithm."""
    if _over_nothing(emit):
        return True
    axes = axes_of(emit)
    if axes is None:
        return False
    keep, x = bool(emit.attr("keepdims", 1)), emit.x
    if emit.node.op_type == "ReduceLogSumExp":
        return emit.finish(_log_sum_exp(emit, axes, keep))
    inner = {"ReduceL1": "Abs", "ReduceLogSum": ""}.get(emit.node.op_type, "square")
    before = emit("Mul", x, x) if inner == "square" else emit(inner, x) if inner else x
    total = emit.reduce("ReduceSum", before, axes, keep) if axes else before
    outer = {"ReduceL2": "Sqrt", "ReduceLogSum": "Log"}.get(emit.node.op_type)
    if outer is None:
        return emit.finish(total)
    if emit.dtype.kind == "f":
        return emit.finish(emit(outer, total))
    return emit.finish(emit.cast(emit(outer, emit.cast(total, np.float32)), emit.dtype))


def _log_sum_exp(emit: Emitter, axes: list[int], keep: bool) -> Value:
    """The largest is taken out first, so that nothing overflows; minus infinity throughout stays that."""
    x = emit.x if emit.dtype.kind == "f" else emit.cast(emit.x, np.float32)
    if not axes:
        return emit.x
    top = emit("Max", emit.reduce("ReduceMax", x, axes), np.asarray(np.finfo(np.float32).min, np.float32))
    total = emit.reduce("ReduceSum", emit("Exp", emit("Sub", x, top)), axes)
    made = emit("Add", emit("Log", total), top)
    made = made if keep else emit.reshape(made, emit.result)
    return made if emit.dtype.kind == "f" else emit.cast(made, emit.dtype)


@decomposes("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum")
def _over_nothing(emit: Emitter) -> bool:
    """A reduction of a tensor without elements is a constant."""
    if 0 not in emit.shape or 0 in emit.result:
        return False
    value = OVER_NOTHING[emit.node.op_type]
    if emit.dtype.kind == "b":
        value = float(emit.node.op_type == "ReduceMin")
    elif emit.dtype.kind in "iu" and math.isinf(value):
        value = np.iinfo(emit.dtype).max if value > 0 else np.iinfo(emit.dtype).min
    return emit.finish(emit.value(np.full(emit.result, value, emit.dtype)))


@decomposes("Mean")
def mean(emit: Emitter) -> bool:
    """The sum of all over their number."""
    return emit.finish(emit("Div", emit("Sum", *emit.node.inputs), emit.number(len(emit.node.inputs))))


def _coerced_axes(emit: Emitter) -> list[int]:
    """One axis since opset 13; before, everything from the axis on."""
    rank = len(emit.shape)
    if graph.opset(emit.model) >= 13:
        return [int(emit.attr("axis", -1)) % rank]
    return list(range(int(emit.attr("axis", 1)) % rank, rank))


@decomposes("LogSoftmax")
def log_softmax(emit: Emitter) -> bool:
    """x - max - log(sum(exp(x - max)))."""
    axes = _coerced_axes(emit)
    less = emit("Sub", emit.x, emit.reduce("ReduceMax", emit.x, axes))
    return emit.finish(emit("Sub", less, emit("Log", emit.reduce("ReduceSum", emit("Exp", less), axes))))


@decomposes("Hardmax")
def hardmax(emit: Emitter) -> bool:
    """1 at the first maximum, 0 elsewhere."""
    axes = _coerced_axes(emit)
    flat = (*emit.shape[: axes[0]], math.prod(emit.shape[a] for a in axes), *emit.shape[axes[-1] + 1 :])
    x = emit.x if flat == emit.shape else emit.reshape(emit.x, flat)
    first = emit("ArgMax", x, axis=axes[0], keepdims=1)
    made = emit.cast(emit("Equal", first, counting(flat, axes[0])), emit.dtype)
    return emit.finish(made if flat == emit.shape else emit.reshape(made, emit.shape))


def counting(shape: tuple[int, ...], axis: int) -> Array:
    """0, 1, 2, ... along ``axis``, int64, size 1 along all others."""
    return np.arange(shape[axis], dtype=np.int64).reshape([-1 if a == axis else 1 for a in range(len(shape))])
