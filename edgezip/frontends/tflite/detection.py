"""Suppression of overlapping boxes, and TFLite_Detection_PostProcess, the custom operator behind single-shot detectors.

Source: the kernel in TensorFlow Lite (detection_postprocess.cc): centre and size codes, one suppression over the best
class of each anchor ("fast"), or one for each class ("regular").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flatbuffers import flexbuffers

from edgezip import graph
from edgezip.errors import UnsupportedModelError
from edgezip.frontends.tflite.emitter import Emitter, converts
from edgezip.frontends.tflite.movement import ints
from edgezip.frontends.tflite.schema import Operator

MOST_ROWS = 1 << 16  # results of all classes
f32 = np.float32


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's options; ``scales`` of y, x, height and width."""

    detections: int
    per_detection: int
    per_class: int
    regular: bool
    score: float
    iou: float
    classes: int
    scales: tuple[float, ...]


def _settings(e: Emitter, op: Operator) -> Settings:
    """Raises InvalidModelError: no map of numbers, or numbers that make no sense."""
    try:
        held = flexbuffers.GetRoot(op.custom).AsMap
        keys = {str(key.AsKey) for key in held.Keys} if len(held) < 64 else set()

        def number(name: str, default: float) -> float:
            return float(held[name].AsFloat) if name in keys else default

        counts = [int(number("max_detections", 0)), int(number("max_classes_per_detection", 0))]
        made = Settings(
            counts[0], counts[1], int(number("detections_per_class", 100)), bool(number("use_regular_nms", 0)),
            number("nms_score_threshold", np.nan), number("nms_iou_threshold", np.nan), int(number("num_classes", 0)),
            tuple(number(f"{axis}_scale", np.nan) for axis in "yxhw"),
        )  # fmt: skip
    except Exception as error:  # whatever flexbuffers makes of damaged bytes
        raise e.fail(op, "its options cannot be read") from error
    sizes = (made.detections, made.per_detection, made.per_class, made.classes)
    rows = made.detections * made.per_detection + made.classes * made.per_class * made.regular
    if min(sizes) < 1 or max(sizes) > MOST_ROWS or rows > MOST_ROWS:
        raise e.fail(op, f"numbers of detections and classes {sizes} are out of range")
    if not all(0 < s <= float(np.finfo(f32).max) for s in made.scales) or not (0 < made.iou <= 1 and np.isfinite(made.score)):
        raise e.fail(op, f"scales {made.scales} or thresholds {made.score}, {made.iou} are out of range")
    return made


def _columns(e: Emitter, x: str, first: int, count: int, axis: int) -> str:
    return str(e.node("Slice", [x, ints(e, [first]), ints(e, [first + count]), ints(e, [axis])]))


def _boxes(e: Emitter, op: Operator, s: Settings) -> str:
    """(1, N, 4): lower and upper y and x, of codes relative to anchors of centre y, x, height and width."""
    anchors = e.floats(op, 2)
    code = e.tensor(op, 0).shape
    if anchors.ndim != 2 or anchors.shape[1] != 4 or len(code) != 3 or code[:2] != (1, len(anchors)) or code[2] < 4:
        raise e.fail(op, f"boxes {code} do not go with anchors {anchors.shape}")
    scales = np.array(s.scales, f32)
    centre, size = (_columns(e, e.value(op, 0), first, 2, 2) for first in (0, 2))
    middle = e.node("Div", [centre, e.initializer(scales[:2])])
    middle = e.node("Add", [e.node("Mul", [middle, e.initializer(anchors[:, 2:])]), e.initializer(anchors[:, :2])])
    grown = e.node("Exp", [e.node("Div", [size, e.initializer(scales[2:])])])
    half = e.node("Mul", [e.node("Mul", [grown, e.initializer(f32(0.5))]), e.initializer(anchors[:, 2:])])
    return str(e.node("Concat", [e.node("Sub", [middle, half]), e.node("Add", [middle, half])], axis=2))


def _scores(e: Emitter, op: Operator, s: Settings) -> str:
    """(1, N, classes), without the background in front."""
    shape = e.tensor(op, 1).shape
    if len(shape) != 3 or shape[:2] != e.tensor(op, 0).shape[:2] or shape[2] - s.classes not in (0, 1):
        raise e.fail(op, f"scores {shape} do not go with {s.classes} classes")
    return _columns(e, e.value(op, 1), shape[2] - s.classes, s.classes, 2)


def _suppressed(e: Emitter, s: Settings, boxes: str, by_class: str, most: int) -> str:
    """Rows (batch, class, anchor); -1 where there are none, at least as many as detections. A score at the threshold counts."""
    below = np.nextafter(f32(s.score), f32(-np.inf))
    limits = [e.initializer(np.int64(most)), e.initializer(f32(s.iou)), e.initializer(below)]
    found = e.node("NonMaxSuppression", [boxes, by_class, *limits])
    e.annotate(found, graph.ROWS_ARE_READ, "1")
    return str(e.node("Concat", [found, e.initializer(np.full((s.detections, 3), -1, np.int64))], axis=0))


def _taken(e: Emitter, table: str, places: str, meant: str) -> str:
    """Rows of a table by place, zeros where none is meant."""
    return str(e.node("Mul", [e.node("Gather", [table, places], axis=0), meant]))


def _float(e: Emitter, x: str) -> str:
    return str(e.node("Cast", [x], to=1))


@converts("CUSTOM TFLite_Detection_PostProcess")
def detection_post_process(e: Emitter, op: Operator) -> None:
    """Inputs: codes (1, N, 4), scores (1, N, classes), anchors (N, 4). Outputs: boxes, classes, scores, and how many."""
    s = _settings(e, op)
    if s.per_detection > 1 and not s.regular:
        raise UnsupportedModelError(
            f"{s.per_detection} classes for each detection", where=e.place(op), hint="convert with max_classes_per_detection=1"
        )
    boxes, scores = _boxes(e, op, s), _scores(e, op, s)
    made = _regular(e, s, boxes, scores) if s.regular else _fast(e, s, boxes, scores)
    shapes = (1, s.detections, 4), (1, s.detections), (1, s.detections), (1,)
    for position, (value, shape) in enumerate(zip(made, shapes, strict=True)):
        if position < len(op.outputs):
            e.graph.tensors[op.outputs[position]].shape = shape  # converters leave it out
            e.give(op, e.node("Reshape", [value, ints(e, list(shape))]), position)


def _flat(e: Emitter, x: str, *shape: int) -> str:
    return str(e.node("Reshape", [x, ints(e, list(shape))]))


def _fast(e: Emitter, s: Settings, boxes: str, scores: str) -> tuple[str, str, str, str]:
    """One suppression by the best class of each anchor."""
    best, kind = e.node("TopK", [scores, ints(e, [1])], outputs=2, axis=2)
    rows = _suppressed(e, s, boxes, e.node("Transpose", [best], perm=[0, 2, 1]), s.detections)
    place = _columns(e, _columns(e, rows, 0, s.detections, 0), 2, 1, 1)
    meant = _float(e, e.node("GreaterOrEqual", [place, e.initializer(np.int64(0))]))
    at = _flat(e, e.node("Max", [place, e.initializer(np.int64(0))]), -1)
    tables = _flat(e, boxes, -1, 4), _flat(e, _float(e, kind), -1, 1), _flat(e, best, -1, 1)
    box, label, score = (_taken(e, table, at, meant) for table in tables)
    return box, label, score, e.node("ReduceSum", [meant], keepdims=0)


def _regular(e: Emitter, s: Settings, boxes: str, scores: str) -> tuple[str, str, str, str]:
    """A suppression for each class; of all that is left the best."""
    by_class = e.node("Transpose", [scores], perm=[0, 2, 1])
    rows = _suppressed(e, s, boxes, by_class, s.per_class)
    kind, place = (_columns(e, rows, column, 1, 1) for column in (1, 2))
    zero = e.initializer(np.int64(0))
    place_in = e.node("Max", [e.node("Concat", [kind, place], axis=1), zero])
    score = e.node("GatherND", [_flat(e, by_class, s.classes, -1), place_in])
    is_meant = _flat(e, e.node("GreaterOrEqual", [place, zero]), -1)
    score = e.node("Where", [is_meant, score, e.initializer(f32(-np.inf))])
    best, order = e.node("TopK", [score, ints(e, [s.detections])], outputs=2, axis=0)
    chosen = e.node("Gather", [rows, order], axis=0)
    meant = _float(e, e.node("GreaterOrEqual", [_columns(e, chosen, 2, 1, 1), zero]))
    held = e.node("Max", [chosen, zero])
    box = _taken(e, _flat(e, boxes, -1, 4), _flat(e, _columns(e, held, 2, 1, 1), -1), meant)
    left = e.node("Where", [_flat(e, e.node("GreaterOrEqual", [_columns(e, chosen, 2, 1, 1), zero]), -1), best,
                            e.initializer(f32(0))])  # fmt: skip
    return box, _float(e, _columns(e, held, 1, 1, 1)), left, e.node("ReduceSum", [meant], keepdims=0)


@converts("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5")
def non_max_suppression(e: Emitter, op: Operator) -> None:
    """Inputs: boxes (N, 4), scores (N,), most, overlap, least score, softening. Outputs: places, scores (V5), how many."""
    most, iou, score = int(e.constant(op, 2).reshape(-1)[0]), *(f32(e.floats(op, i).reshape(-1)[0]) for i in (3, 4))
    scored = op.name.endswith("V5")
    if scored and e.floats(op, 5).any():
        raise UnsupportedModelError("suppression that softens scores", where=e.place(op), hint="convert with soft_nms_sigma=0")
    count = e.tensor(op, 1).shape
    if len(count) != 1 or e.tensor(op, 0).shape != (*count, 4) or not 0 < most <= MOST_ROWS or not 0 <= iou <= 1:
        raise e.fail(op, f"boxes {e.tensor(op, 0).shape}, scores {count}, at most {most}, overlap {iou}")
    limits = [e.initializer(np.int64(most)), e.initializer(iou), e.initializer(score)]
    scores = e.value(op, 1)
    found = e.node("NonMaxSuppression", [_flat(e, e.value(op, 0), 1, -1, 4), _flat(e, scores, 1, 1, -1), *limits])
    e.annotate(found, graph.ROWS_ARE_READ, "1")
    found = e.node("Concat", [found, e.initializer(np.full((most, 3), -1, np.int64))], axis=0)
    place = _flat(e, _columns(e, _columns(e, found, 0, most, 0), 2, 1, 1), most)
    zero = e.initializer(np.int64(0))
    is_meant = e.node("GreaterOrEqual", [place, zero])
    held = e.node("Max", [place, zero])
    number = e.node("ReduceSum", [e.node("Cast", [is_meant], to=6)], keepdims=0)
    made = [e.node("Cast", [held], to=6)]
    if scored:
        made.append(e.node("Mul", [e.node("Gather", [scores, held], axis=0), _float(e, is_meant)]))
    for position, (value, shape) in enumerate(zip([*made, number], [*[(most,)] * len(made), ()], strict=True)):
        e.graph.tensors[op.outputs[position]].shape = shape
        e.give(op, value, position)
