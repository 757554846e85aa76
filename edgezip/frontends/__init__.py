"""Model files and torch modules in, checked and simplified models out; one module or folder a format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgezip.errors import UsageError

if TYPE_CHECKING:
    from edgezip.graph import Model

SUFFIXES = (".onnx", ".tflite", ".pt2")
Shapes = Mapping[str, tuple[int, ...]]


def load(source: Any, *, shapes: Shapes | None = None, example_inputs: Any = None, dynamic_shapes: Any = None) -> Model:
    """The model of a file (.onnx, .tflite, .pt2) or of a torch module: checked, simplified, every shape known.

    ``shapes`` fixes dynamic dimensions, ``{input name: dimensions}``. ``example_inputs`` and ``dynamic_shapes`` belong to a torch
    module, see ``load_torch``. Raises MissingFileError, InvalidModelError, UnsupportedModelError, ShapeError, UsageError,
    RuntimeUnavailableError (an extra is not installed).
    """
    if isinstance(source, (str, os.PathLike)):
        if example_inputs is not None or dynamic_shapes is not None:
            raise UsageError("a file says its inputs itself", where=os.fspath(source), hint="leave out example_inputs")
        return _load_file(Path(source), shapes)
    if is_of_torch(source):
        return load_torch(source, example_inputs, dynamic_shapes=dynamic_shapes, shapes=shapes)
    raise UsageError(
        "not a model", got=type(source).__name__, expected=f"a path ({', '.join(SUFFIXES)}), a torch module, or a loaded model"
    )


def load_torch(module: Any, example_inputs: Any = None, *, dynamic_shapes: Any = None, shapes: Shapes | None = None) -> Model:
    """The model of a ``torch.nn.Module``, traced with ``example_inputs``, or of a ``torch.export.ExportedProgram``.

    ``example_inputs``: a tensor, a tuple of arguments, or a dictionary of keywords. See ``edgezip.frontends.torch.load``.
    """
    from edgezip.frontends import torch

    return torch.load(module, example_inputs, dynamic_shapes=dynamic_shapes, shapes=shapes)


def opened(source: Any, **how: Any) -> Model:
    """``load`` for what is not loaded yet; a loaded model as it is."""
    is_loaded = not isinstance(source, (str, os.PathLike)) and hasattr(source, "graph") and not is_of_torch(source)
    return source if is_loaded else load(source, **how)


def open_dimensions(source: Any, *, example_inputs: Any = None, dynamic_shapes: Any = None) -> Path | bytes:
    """What can be read in many sizes: the path of a model file, or ONNX bytes of a torch module with open dimensions.

    Raises UsageError for a loaded model, whose sizes are fixed, and what ``load_torch`` raises.
    """
    is_path = isinstance(source, (str, os.PathLike))
    if is_of_torch(source) or (is_path and Path(source).suffix.lower() == ".pt2"):
        from edgezip.frontends import torch

        return torch.to_onnx(source, example_inputs, dynamic_shapes=dynamic_shapes)
    if is_path:
        return Path(source)
    if isinstance(source, bytes):
        return source
    hint = "give its path, the torch module with dynamic_shapes, or the file that it was made from as source"
    raise UsageError("dynamic dimensions need the model's file", where="dims", got=type(source).__name__, hint=hint)


def is_of_torch(source: Any) -> bool:
    """Whether it is a module or an exported program of torch, which is not imported for the answer."""
    return any(base.__module__.split(".")[0] == "torch" for base in type(source).__mro__)


def _load_file(path: Path, shapes: Shapes | None) -> Model:
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from edgezip.frontends import onnx

        return onnx.load(path, shapes=shapes)
    if suffix == ".tflite":
        from edgezip.frontends import tflite

        return tflite.load(path, shapes=shapes)
    if suffix == ".pt2":
        from edgezip.frontends import torch

        return torch.load_file(path, shapes=shapes)
    from edgezip.frontends import foreign

    raise foreign.refusal(path)
