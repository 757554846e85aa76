"""Our side of a comparison: a zoo task compressed to int8 with our quantiser, and compiled for this machine."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from bench.zoo.task import Feed, Task


def shapes_of(feed: Feed) -> dict[str, tuple[int, ...]]:
    """Static input shapes: those of a scored sample."""
    return {name: array.shape for name, array in feed.items()}


def first_feed(task: Task, work: Path) -> Feed:
    """The first scored sample."""
    return next(iter(task.feeds(work)))[0]


def quantize(task: Task, work: Path, samples: int = 0) -> Path:
    """Writes <work>/<task>.edgezip.onnx from the task's calibration feeds (``samples`` 0: all of them)."""
    import edgezip

    model = edgezip.load(str(task.model(work)), shapes=shapes_of(first_feed(task, work)))
    calibration = list(islice(task.calibration(work), samples or None))
    small: Any = edgezip.compress(model, edgezip.Recipe.int8(), calibration=calibration)
    path = work / f"{task.name}.edgezip.onnx"
    small.save(path)
    return path


def compile_for_host(task: Task, work: Path, quantized: Path) -> Path:
    """Writes <work>/<task>.ez with the first scored sample as its test vector."""
    import edgezip

    feed = first_feed(task, work)
    program = edgezip.compile(str(quantized), "host", shapes=shapes_of(feed), samples=[feed], vectors=1)
    path = work / f"{task.name}.ez"
    program.save(path)
    return path
