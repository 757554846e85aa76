"""Operators that find places and go by them: arg max, top k, gathers, scatters, one-hot, sums along an axis, ranges."""

from __future__ import annotations

import numpy as np
from onnx import helper

from edgezip.errors import UnsupportedModelError
from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.movement import axis_of, ints
from edgezip.frontends.tflite.schema import Operator

MOST_NUMBERS = 1 << 20  # of a range


def _cast(e: Emitter, op: Operator, name: str, position: int = 0) -> str:
    """From int64, which ONNX's operators give, to the type that the file declares."""
    e.shape_of(op, position)  # there is such an output
    wanted = e.graph.tensors[op.outputs[position]].dtype
    return name if wanted == np.int64 else str(e.node("Cast", [name], to=helper.np_dtype_to_tensor_dtype(wanted)))


def _int64(e: Emitter, op: Operator, position: int) -> str:
    """An input of indices, as ONNX wants them."""
    value = e.value(op, position)
    return value if e.tensor(op, position).dtype == np.int64 else str(e.node("Cast", [value], to=7))


@converts("ARG_MAX", "ARG_MIN")
def arg(e: Emitter, op: Operator) -> None:
    """Inputs: x, axis; the first of equal ones."""
    axis = axis_of(e, op, e.integers(op, 1)[0], len(e.tensor(op, 0).shape))
    kind = "ArgMax" if op.name == "ARG_MAX" else "ArgMin"
    e.give(op, _cast(e, op, e.node(kind, [e.value(op, 0)], axis=axis, keepdims=0)))


@converts("TOPK_V2")
def top_k(e: Emitter, op: Operator) -> None:
    """Inputs: x, k; the largest of the last axis and their places."""
    values, places = e.node("TopK", [e.value(op, 0), ints(e, e.integers(op, 1)[:1])], outputs=2, axis=-1)
    e.give(op, values)
    e.give(op, _cast(e, op, places, 1), 1)


@converts("GATHER_ND")
def gather_nd(e: Emitter, op: Operator) -> None:
    """Inputs: x, indices."""
    e.give(op, e.node("GatherND", [e.value(op, 0), _int64(e, op, 1)]))


@converts("SCATTER_ND")
def scatter_nd(e: Emitter, op: Operator) -> None:
    """Inputs: indices, updates, shape; updates of one place are added."""
    zeros = e.initializer(np.zeros(e.integers(op, 2), e.value_type(op, 1)), "zeros")
    e.give(op, e.node("ScatterND", [zeros, _int64(e, op, 0), e.value(op, 1)], reduction="add"))


@converts("EMBEDDING_LOOKUP")
def embedding_lookup(e: Emitter, op: Operator) -> None:
    """Inputs: rows, table; the table may be quantised by row."""
    e.give(op, e.node("Gather", [e.value(op, 1), e.value(op, 0)], axis=0))


@converts("ONE_HOT")
def one_hot(e: Emitter, op: Operator) -> None:
    """Inputs: indices, depth, on value, off value."""
    axis, depth = e.options(op, "OneHotOptions").Axis(), e.integers(op, 1)[0]
    if depth < 1 or not -1 <= axis <= len(e.tensor(op, 0).shape):
        raise e.fail(op, f"depth {depth} along axis {axis}")
    levels = [e.node("Reshape", [e.value(op, position), ints(e, [1])]) for position in (3, 2)]
    e.give(op, e.node("OneHot", [_int64(e, op, 0), ints(e, [depth]), e.node("Concat", levels, axis=0)], axis=axis))


@converts("CUMSUM")
def cumsum(e: Emitter, op: Operator) -> None:
    """Inputs: x, axis."""
    o = e.options(op, "CumsumOptions")
    axis = e.initializer(np.int64(axis_of(e, op, e.integers(op, 1)[0], len(e.tensor(op, 0).shape))), "axis")
    flags = {"exclusive": int(bool(o.Exclusive())), "reverse": int(bool(o.Reverse()))}
    e.give(op, e.node("CumSum", [e.value(op, 0), axis], **flags))


@converts("REVERSE_V2")
def reverse(e: Emitter, op: Operator) -> None:
    """Inputs: x, axes."""
    rank = len(e.tensor(op, 0).shape)
    axes = [axis_of(e, op, axis, rank) for axis in e.integers(op, 1)]
    e.give(op, e.reversed(e.value(op, 0), axes))


@converts("RANK")
def rank(e: Emitter, op: Operator) -> None:
    """Known at once."""
    e.give_constant(op, np.array(len(e.tensor(op, 0).shape), np.int32))


@converts("ZEROS_LIKE")
def zeros_like(e: Emitter, op: Operator) -> None:
    """Known at once: the quantised zero of an int8 tensor."""
    e.shape_of(op)
    kind = np.dtype(np.float32) if e.is_quantised(op.outputs[0]) else e.graph.tensors[op.outputs[0]].dtype
    e.give_constant(op, np.zeros(e.tensor(op, 0).shape, kind))


@converts("FILL")
def fill(e: Emitter, op: Operator) -> None:
    """Inputs: shape, value; the declared shape where it is not known."""
    e.give(op, e.node("Expand", [e.value(op, 1), ints(e, e.integers(op, 0) if e.is_constant(op, 0) else e.shape_of(op))]))


@converts("RANGE")
def range_(e: Emitter, op: Operator) -> None:
    """Of constants: start, limit, step."""
    start, limit, step = (e.constant(op, position).reshape(-1)[0] for position in range(3))
    if step == 0 or not abs((limit - start) / step) < MOST_NUMBERS:
        raise e.fail(op, f"range {start} to {limit} by {step}")
    e.shape_of(op)
    e.give_constant(op, np.arange(start, limit, step).astype(e.graph.tensors[op.outputs[0]].dtype))


@converts("BROADCAST_ARGS")
def broadcast_args(e: Emitter, op: Operator) -> None:
    """Of two constant shapes."""
    shape = np.broadcast_shapes(tuple(e.integers(op, 0)), tuple(e.integers(op, 1)))
    e.give_constant(op, np.array(shape, e.tensor(op, 0).dtype))


@converts("GATHER")
def gather(e: Emitter, op: Operator) -> None:
    """Along one axis; the axes before it may be batches that both inputs have."""
    o, shape = e.options(op, "GatherOptions"), e.tensor(op, 0).shape
    axis, batches = axis_of(e, op, o.Axis(), len(shape)), o.BatchDims()
    if not batches:
        e.give(op, e.node("Gather", [e.value(op, 0), e.value(op, 1)], axis=axis))
        return
    batches = axis_of(e, op, batches, len(e.tensor(op, 1).shape)) if batches < 0 else batches
    if axis != batches:
        raise UnsupportedModelError(
            "a gather behind the batch dimensions is not supported", where=e.place(op), got=f"axis {axis}"
        )
    last = e.node("Unsqueeze", [_int64(e, op, 1), ints(e, [len(e.tensor(op, 1).shape)])])
    e.give(op, e.node("GatherND", [e.value(op, 0), last], batch_dims=batches))
