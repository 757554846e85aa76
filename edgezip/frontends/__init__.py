"""Model files in, checked and simplified models out; one module a format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgezip.errors import UnsupportedModelError

if TYPE_CHECKING:
    from edgezip.graph import Model


def load(path: str | Path, *, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Model:
    """The model of a file, by its suffix: checked, simplified, every shape known.

    ``shapes`` fixes dynamic dimensions, ``{input name: dimensions}``. Raises MissingFileError, InvalidModelError,
    UnsupportedModelError, ShapeError, UsageError.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        from edgezip.frontends import onnx

        return onnx.load(path, shapes=shapes)
    if suffix == ".tflite":
        from edgezip.frontends import tflite

        return tflite.load(path, shapes=shapes)
    raise UnsupportedModelError(
        f"files of type '{suffix or 'none'}' are not read",
        where=str(path),
        expected=".onnx or .tflite",
        got=Path(path).name,
        hint="export the model to ONNX, opset 11 to 25 (torch.onnx.export, tf2onnx), and name the file .onnx",
    )
