"""PyTorch in: torch.export -> torch's ONNX exporter -> the one checked and simplified model that the ONNX front end makes.

``module`` copies and cleans a module, ``archive`` looks through a .pt2 file before torch may load it, ``convert`` makes ONNX of
an exported program, ``names`` gives inputs, outputs, dimensions and weights the names of the module. With ``train/`` the only
place that imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgezip.errors import RuntimeUnavailableError, UnsupportedModelError, UsageError
from edgezip.frontends import onnx

if TYPE_CHECKING:
    from edgezip.graph import Model

Shapes = Mapping[str, tuple[int, ...]]


def load(source: Any, example_inputs: Any = None, *, dynamic_shapes: Any = None, shapes: Shapes | None = None) -> Model:
    """The checked and simplified model of a ``torch.nn.Module`` or of a ``torch.export.ExportedProgram``.

    ``example_inputs``: what ``forward`` is called with once, to trace it: a tensor, a tuple of arguments, or a dictionary of
    keywords. ``dynamic_shapes`` as ``torch.export`` takes it, where a plain string names a dimension (``{"x": {0: "batch"}}``);
    ``shapes`` then fixes it, as for ONNX. The module is left as it was; it is read in evaluation mode, with pruning masks and
    parametrizations made permanent. Weights keep their names. Raises UsageError, UnsupportedModelError with what torch said,
    ShapeError, InvalidModelError, RuntimeUnavailableError (no torch).
    """
    proto, origins, where = _traced(source, example_inputs, dynamic_shapes)
    return _loaded(proto, origins, shapes, where)


def load_file(path: str | Path, *, shapes: Shapes | None = None) -> Model:
    """The model of a .pt2 file as ``torch.export.save`` writes it; nothing in it is unpickled. Raises as ``load``."""
    proto, origins, where = _read(path)
    return _loaded(proto, origins, shapes, where)


def to_onnx(source: Any, example_inputs: Any = None, *, dynamic_shapes: Any = None) -> bytes:
    """ONNX bytes of a module, an exported program or a .pt2 file, its dynamic dimensions named and open. Raises as ``load``."""
    if isinstance(source, (str, os.PathLike)):
        return _read(source)[0]
    return _traced(source, example_inputs, dynamic_shapes)[0]


def _traced(source: Any, example_inputs: Any, dynamic_shapes: Any) -> tuple[bytes, dict[str, tuple[str, ...]], str]:
    _require_torch("a torch module")
    import torch

    from edgezip.frontends.torch import convert, module

    where = type(source).__name__
    if isinstance(source, torch.export.ExportedProgram):
        if example_inputs is not None or dynamic_shapes is not None:
            raise UsageError("an exported program has its inputs already", where=where, hint="leave out example_inputs")
        return *convert.to_onnx(source, [], where), where
    if isinstance(source, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise UnsupportedModelError("TorchScript is not read", where=where, hint="pass the nn.Module that it was made of")
    if not isinstance(source, torch.nn.Module):
        raise UsageError("not a torch module", got=where, expected="torch.nn.Module or torch.export.ExportedProgram")
    if example_inputs is None:
        raise UsageError(
            "a torch module does not say its inputs", where=where, hint="give example_inputs=(torch.randn(1, 3, 224, 224),)"
        )
    program, axes = module.export(source, example_inputs, dynamic_shapes, where)
    return *convert.to_onnx(program, axes, where), where


def _read(path: str | os.PathLike[str]) -> tuple[bytes, dict[str, tuple[str, ...]], str]:
    from edgezip.frontends.torch import archive

    where = os.fspath(path)
    archive.check(Path(path), where)  # a file that is missing or no archive is told without torch too
    _require_torch(where)
    from edgezip.frontends.torch import convert, module

    return *convert.to_onnx(module.read(Path(path), where), [], where), where


def _loaded(proto: bytes, origins: dict[str, tuple[str, ...]], shapes: Shapes | None, where: str) -> Model:
    from edgezip.frontends.torch import names

    model = onnx.load(proto, shapes=shapes, where=where)
    names.restore_weights(model, origins)
    return model


def _require_torch(where: str) -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise RuntimeUnavailableError("PyTorch is not installed", where=where, hint="pip install 'edgezip[train]'")
