"""ONNX Runtime, processor provider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def version() -> str:
    """Version of the installed package."""
    import onnxruntime

    return str(onnxruntime.__version__)


def load(path: Path, threads: int = 1) -> Callable[[dict[str, Any]], list[Any]]:
    """A callable that maps a feed to the list of outputs, with ``threads`` threads inside an operator."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feed: list(session.run(None, feed))
