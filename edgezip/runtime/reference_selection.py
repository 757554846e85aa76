"""The steps of detectors and the rare ones in the NumPy interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.kernels import selection
from edgezip.program import Border, Fold, Integer, Math, Op, Reduce, Sample, Scatter, Step, Window

if TYPE_CHECKING:
    from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]


def _walk(dims: Any, strides: Any, rank: int) -> Array:
    index = np.zeros(tuple(dims[:rank]), np.int64)
    for axis in range(rank):
        shape = [1] * rank
        shape[axis] = dims[axis]
        index = index + (np.arange(dims[axis]) * strides[axis]).reshape(shape)
    return index


def _integer(session: ReferenceSession, step: Step) -> None:
    p = step.params
    a, b = (session._flat(i)[_walk(p["dims"], p[f"stride_{side}"], p["rank"])] for i, side in zip(step.inputs, "ab", strict=True))
    made = selection.integer(Integer(p["kind"]).name, a, b)
    session._flat(step.outputs[0])[_walk(p["dims"], p["stride_y"], p["rank"])] = made


def _math(session: ReferenceSession, step: Step) -> None:
    p = step.params
    session.store(step.outputs[0], selection.math(Math(p["kind"]).name, session.load(step.inputs[0]), p["alpha"], p["beta"]))


def _folded(session: ReferenceSession, step: Step) -> Array:
    p = step.params
    return session.load(step.inputs[0]).reshape(p["outer"], p["n"], p["inner"])


def _arg(session: ReferenceSession, step: Step) -> None:
    p = step.params
    session.store(step.outputs[0], selection.arg(_folded(session, step), p["kind"] == Reduce.MAX, bool(p["last"])))


def _fold(session: ReferenceSession, step: Step) -> None:
    session.store(step.outputs[0], selection.fold(_folded(session, step), Fold(step.params["kind"]).name))


def _cumulate(session: ReferenceSession, step: Step) -> None:
    p = step.params
    x = _folded(session, step)
    session.store(step.outputs[0], selection.cumulate(x, p["kind"] == Fold.SUM, bool(p["exclusive"]), bool(p["reverse"])))


def _take(session: ReferenceSession, step: Step) -> None:
    p = step.params
    at = selection.addresses(session.load(step.inputs[1]), p)
    session.store(step.outputs[0], session.load(step.inputs[0]).reshape(-1)[at[:, None] + np.arange(p["inner"])])


def _scatter(session: ReferenceSession, step: Step) -> None:
    p = step.params
    x, index, updates = (session.load(i) for i in step.inputs)
    at = selection.addresses(index, p)
    made = selection.scatter(x.reshape(-1), at, updates.reshape(p["rows"], p["inner"]), Scatter(p["reduction"]).name)
    session.store(step.outputs[0], made)


def _window(session: ReferenceSession, step: Step) -> None:
    p = step.params
    x = session.load(step.inputs[0])
    values, places = selection.window(x.reshape(p["planes"], p["in_d"], p["in_h"], p["in_w"]), p, Window(p["kind"]).name)
    session.store(step.outputs[0], values if x.dtype == np.float32 else np.where(places >= 0, values, 0).astype(x.dtype))
    if len(step.outputs) > 1:
        session.store(step.outputs[1], places)


def _interpolate(session: ReferenceSession, step: Step) -> None:
    p = step.params
    index, weight = (session.load(i).reshape(p["m"], p["taps"]) for i in step.inputs[1:3])
    base = session.load(step.inputs[3]).reshape(-1)
    session.store(step.outputs[0], selection.interpolate(_folded(session, step), index, weight, base))


def _grid_sample(session: ReferenceSession, step: Step) -> None:
    p = step.params
    x = session.load(step.inputs[0]).reshape(p["batch"], p["channels"], p["in_d"], p["in_h"], p["in_w"])
    grid = session.load(step.inputs[1]).reshape(p["batch"], p["points"], p["axes"])
    mode, border = Sample(p["mode"]).name, Border(p["border"]).name
    session.store(step.outputs[0], selection.grid_sample(x, grid, mode, border, bool(p["align"])))


def _nms(session: ReferenceSession, step: Step) -> None:
    p = step.params
    boxes = session.load(step.inputs[0]).reshape(p["batch"], p["boxes"], 4)
    scores = session.load(step.inputs[1]).reshape(p["batch"], p["classes"], p["boxes"])
    kept = selection.nms(boxes, scores, p["most"], p["iou"], p["score"], bool(p["center"]))
    rows = np.full((p["bound"], 3), -1, np.int64)
    rows[: len(kept)] = np.asarray(kept, np.int64).reshape(-1, 3)
    session.store(step.outputs[0], rows)
    session.store(step.outputs[1], np.asarray([len(kept)], np.int64))


def _top_k(session: ReferenceSession, step: Step) -> None:
    p = step.params
    values, index = selection.top_k(_folded(session, step), p["k"], bool(p["largest"]))
    session.store(step.outputs[0], values)
    session.store(step.outputs[1], index)


def _roi_align(session: ReferenceSession, step: Step) -> None:
    p = step.params
    x = session.load(step.inputs[0]).reshape(p["batch"], p["channels"], p["height"], p["width"])
    rois, batch = session.load(step.inputs[1]).reshape(-1, 4), session.load(step.inputs[2]).reshape(-1)
    session.store(step.outputs[0], selection.roi_align(x, rois, batch, p))


def _places(session: ReferenceSession, step: Step) -> None:
    places, rank = np.flatnonzero(session.load(step.inputs[0])), step.params["rank"]
    rows = np.stack(np.unravel_index(places, step.params["dims"][:rank])) if rank else places[None]
    session.store(step.outputs[0], np.pad(rows, ((0, 0), (0, step.params["n"] - len(places)))))
    session.store(step.outputs[1], np.asarray([len(places)], np.int64))


def _unique(session: ReferenceSession, step: Step) -> None:
    for index, made in zip(step.outputs, selection.unique(_folded(session, step), bool(step.params["sorted"])), strict=True):
        session.store(index, made)


RUN: dict[Op, Callable[[ReferenceSession, Step], None]] = {
    Op.INTEGER: _integer, Op.MATH: _math, Op.ARG: _arg, Op.FOLD: _fold, Op.CUMULATE: _cumulate, Op.TAKE: _take,
    Op.SCATTER: _scatter, Op.WINDOW: _window, Op.INTERPOLATE: _interpolate, Op.GRID_SAMPLE: _grid_sample, Op.NMS: _nms,
    Op.TOPK: _top_k, Op.ROI_ALIGN: _roi_align, Op.PLACES: _places, Op.UNIQUE: _unique,
}  # fmt: skip
