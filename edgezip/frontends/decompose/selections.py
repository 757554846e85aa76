"""Masks, one-hot rows, bounds that are computed, slopes of any shape, parts without elements."""

from __future__ import annotations

import numpy as np

from edgezip import graph
from edgezip.frontends.decompose.emitter import Emitter, decomposes
from edgezip.frontends.decompose.reductions import counting


@decomposes("Trilu")
def triangle(emit: Emitter) -> bool:
    """The upper or lower triangle, zeros elsewhere."""
    held = emit.constant(1)
    if emit.input(1) is not None and held is None:
        return False
    k = 0 if held is None else int(held.reshape(-1)[0])
    rows, columns = np.arange(emit.shape[-2])[:, None], np.arange(emit.shape[-1])[None]
    mask = columns - rows >= k if emit.attr("upper", 1) else columns - rows <= k
    return emit.finish(emit("Where", mask, emit.x, emit.number(0)))


@decomposes("EyeLike")
def eye_like(emit: Emitter) -> bool:
    """A constant."""
    kind = graph.dtype(emit.node.outputs[0])
    return emit.finish(emit.value(np.eye(emit.shape[0], emit.shape[1], k=int(emit.attr("k", 0))).astype(kind)))


@decomposes("OneHot")
def one_hot(emit: Emitter) -> bool:
    """The on value where the index counts, the off value elsewhere; an index out of range counts nowhere."""
    depth, values = emit.constant(1), emit.input(2)
    if depth is None or values is None:
        return False
    size = int(depth.reshape(-1)[0])
    index = emit.x if emit.dtype == np.int64 else emit.cast(emit.x, np.int64)
    index = emit("Where", emit("Less", index, np.asarray(0)), emit("Add", index, np.asarray(size)), index)
    axis = int(emit.attr("axis", -1)) % len(emit.result)
    wide = emit.reshape(index, [*emit.shape[:axis], 1, *emit.shape[axis:]])
    chosen = emit("Equal", wide, counting(emit.result, axis))
    off, on = (emit("Gather", values, np.asarray(i, np.int64), axis=0) for i in (0, 1))
    return emit.finish(emit("Where", chosen, on, off))


@decomposes("Clip")
def clip(emit: Emitter) -> bool:
    """Bounds that are computed: a maximum and a minimum, in that order."""
    bounds = [emit.input(1), emit.input(2)]
    if all(bound is None or graph.constant(bound) is not None for bound in bounds):
        return False
    made = emit.x
    for op_type, bound in zip(("Max", "Min"), bounds, strict=True):
        made = made if bound is None else emit(op_type, made, bound)
    return emit.finish(made)


@decomposes("PRelu")
def prelu(emit: Emitter) -> bool:
    """Slopes that are computed, or not one for each channel: a choice between x and x * slope."""
    slope = emit.constant(1)
    if slope is not None and emit.dtype == np.float32 and _is_one_a_channel(slope.shape, emit.shape):
        return False
    given = emit.input(1)
    if given is not None and graph.shape(given) == emit.shape[1:2] != emit.shape[-1:]:  # opset 6: a row of the channels
        given = emit.reshape(given, (-1, *[1] * (len(emit.shape) - 2)))
    negative = emit("Less", emit.x, emit.number(0))
    return emit.finish(emit("Where", negative, emit("Mul", emit.x, given), emit.x))


def _is_one_a_channel(slope: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if int(np.prod(slope)) == 1:
        return True
    axis = 1 if len(shape) >= 3 else len(shape) - 1
    wide = (1,) * (len(shape) - len(slope)) + slope
    return all(have == (size if place == axis else 1) for place, (have, size) in enumerate(zip(wide, shape, strict=True)))


@decomposes("Dropout")
def dropout(emit: Emitter) -> bool:
    """In inference it keeps everything: the mask is true throughout."""
    if not emit.is_read(1):
        return False
    training = emit.constant(2)
    if emit.input(2) is not None and (training is None or training.any()):
        return False
    return emit.finish(emit("Identity", emit.x), emit.value(np.ones(emit.shape, np.bool_)))


@decomposes("Split")
def split(emit: Emitter) -> bool:
    """A split with one part that is not empty hands the whole on; nobody reads the others (``frontends/empty.py``)."""
    full = [value for value in emit.node.outputs if 0 not in graph.shape(value)]
    if len(full) != 1 or len(emit.node.outputs) == 1:
        return False
    graph.replace_uses(full[0], emit("Identity", emit.x), outputs=True)
    emit.model.graph.remove(emit.node, safe=True)
    return True


@decomposes("ReverseSequence")
def reverse_sequence(emit: Emitter) -> bool:
    """The first ``length`` of each sequence backwards: a gather with constant indices."""
    lengths = emit.constant(1)
    if lengths is None:
        return False
    batch_axis, time_axis = int(emit.attr("batch_axis", 1)), int(emit.attr("time_axis", 0))
    times = np.arange(emit.shape[time_axis])
    index = np.where(times[:, None] < lengths[None], lengths[None] - 1 - times[:, None], times[:, None])
    index = index if (time_axis, batch_axis) == (0, 1) else index.T
    wide = index.reshape([*index.shape, *[1] * (len(emit.shape) - 2)])
    return emit.finish(emit("GatherElements", emit.x, np.broadcast_to(wide, emit.shape).astype(np.int64), axis=time_axis))
