"""ONNX Runtime, processor provider: the same session that ``edgezip bench --compare onnxruntime`` measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.zoo.task import Array, Feed
from edgezip.measure.onnx_reference import OnnxSession


def load(path: Path, threads: int = 1) -> Callable[[Feed], list[Array]]:
    """A callable that maps a feed to the list of outputs, with ``threads`` threads inside an operator."""
    session = OnnxSession(path, threads)
    return lambda feed: list(session.run(feed).values())
