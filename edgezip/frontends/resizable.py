"""A model file that is read once and given in many sizes of its dynamic dimensions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgezip import frontends
from edgezip.dynamic import MAX_SYMBOLS, Symbol
from edgezip.errors import InvalidModelError, ShapeError, UnsupportedModelError, UsageError
from edgezip.frontends import fold, onnx

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgezip.graph import Model

LARGE_BYTES = 4096
Bounds = str | tuple[int, ...]
_BOUNDS = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})(?::([0-9]{1,9}))?")


def symbol_of(name: str, bounds: Bounds) -> Symbol:
    """``1..128``, ``32..1280:32``, (1, 128) or (32, 1280, 32). Raises UsageError."""
    if isinstance(bounds, str):
        found = _BOUNDS.fullmatch(bounds.strip())
        numbers = [int(part) for part in found.groups() if part] if found else []
    else:
        numbers = [int(part) for part in bounds]
    low, high, step = (*numbers, 1)[:3] if len(numbers) in (2, 3) else (0, 0, 0)
    if low < 1 or high < low or step < 1 or high >= 2**31:
        raise UsageError(
            "cannot read the bounds of a dimension",
            where=f"--dim {name}",
            expected="LOW..HIGH or LOW..HIGH:STEP",
            got=str(bounds),
        )
    return Symbol(name, low, high - (high - low) % step, step)


class Resizable:
    """``dims``: bounds by the name of a symbolic dimension, or by input and axis (``x.3``).

    ``shapes`` and ``batch`` fix the rest.

    Raises UsageError (no such dimension, more than two), ShapeError (a dimension that is neither fixed nor given), and whatever
    reading the file raises.
    """

    def __init__(
        self,
        path: str | Path | bytes,
        dims: Mapping[str, Bounds],
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        batch: int = 1,
    ) -> None:
        self._where = "model" if isinstance(path, bytes) else str(path)
        self._path, self._fixed, self._batch = path, dict(shapes or {}), batch
        self._proto = onnx.checked(path, self._fixed, {}, self._where) if _is_onnx(path) else None
        self._weights = _taken_out(self._proto) if self._proto is not None else {}
        declared = self._declared()
        self.shown_by: list[tuple[str, int]] = []  # input and axis of each symbol
        if len(dims) > MAX_SYMBOLS:
            raise UsageError(f"at most {MAX_SYMBOLS} dynamic dimensions", where="--dim", got=", ".join(dims))
        self.symbols = [symbol_of(name, bounds) for name, bounds in dims.items()]
        places = [(f"{name}.{axis}", held, name, axis) for name, own in declared.items() for axis, held in enumerate(own)]
        for symbol in self.symbols:
            found = next(((name, axis) for by_axis, held, name, axis in places if symbol.name in (by_axis, held)), None)
            if found is None:
                raise UsageError(
                    f"no input has a dynamic dimension '{symbol.name}'", where="--dim", got=symbol.name,
                    expected="; ".join(f"{name}: {_written(own)}" for name, own in declared.items()),
                    hint="name a symbolic dimension, or an input and an axis such as x.3",
                )  # fmt: skip
            self.shown_by.append(found)
        self._axes = {name: self._resolved(name, own) for name, own in declared.items()}
        self._seen = False

    def _declared(self) -> dict[str, list[Any]]:
        """Dims of every input: numbers, names, or None."""
        if self._proto is None:
            from edgezip import graph

            assert not isinstance(self._path, bytes)
            return {str(v.name): list(graph.shape(v)) for v in graph.input_values(frontends.load(self._path, shapes=self._fixed))}
        constants = {tensor.name for tensor in self._proto.graph.initializer}
        return {
            info.name: [(d.dim_value if d.dim_value > 0 else d.dim_param or None) for d in info.type.tensor_type.shape.dim]
            for info in self._proto.graph.input
            if info.name not in constants
        }

    def _resolved(self, name: str, declared: Sequence[Any]) -> list[tuple[int | None, int]]:
        """For each dimension the number of its symbol, or None and its size."""
        fixed = self._fixed.get(name)
        if fixed is not None and len(fixed) != len(declared):
            raise ShapeError(
                "given shape has another rank", where=f"input '{name}'", expected=_written(declared), got=_written(fixed)
            )
        dims: list[tuple[int | None, int]] = []
        for axis, held in enumerate(declared):
            own = next((i for i, s in enumerate(self.symbols) if s.name in (f"{name}.{axis}", held)), None)
            size = held if isinstance(held, int) else fixed[axis] if fixed else self._batch if axis == 0 else None
            if own is None and size is None:
                raise ShapeError(
                    f"input '{name}' has an unknown dimension {axis}", where=self._where, expected="bounds or a number",
                    got=_written(declared),
                    hint=f"bound it with --dim {held or f'{name}.{axis}'}=LOW..HIGH, or fix it with --shape",
                )  # fmt: skip
            dims.append((own, 0 if own is not None else int(size or 0)))
        return dims

    def at(self, sizes: Sequence[int]) -> Model:
        """The model at one size of each symbol, as ``frontends.load`` gives it."""
        shapes = {
            name: tuple(size if number is None else sizes[number] for number, size in own) for name, own in self._axes.items()
        }
        if self._proto is None:
            assert not isinstance(self._path, bytes)
            return frontends.load(self._path, shapes=shapes)
        check, self._seen = not self._seen, True
        try:
            return onnx.simplified(
                self._proto, self._where, shapes, self._batch, fold.LIMIT_BYTES, check=check, weights=self._weights
            )
        except InvalidModelError as error:
            given = ", ".join(f"{symbol.name}={size}" for symbol, size in zip(self.symbols, sizes, strict=True))
            raise InvalidModelError(
                f"does not fit at {given}: {error.what}", where=error.where, expected=error.expected, got=error.got,
                hint="a file may hold the size of the input that it was exported with as a number; export it with that "
                "dimension dynamic (torch.onnx.export: dynamo=True, dynamic_shapes=...), or bound another",
            ) from error  # fmt: skip


def _taken_out(proto: ModelProto) -> dict[str, Any]:
    """The large initializers as arrays that all sizes share, nobody writes; in the file only their types and dims remain."""
    import onnx_ir
    from onnx import numpy_helper

    held = {}
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) > LARGE_BYTES:
            array = numpy_helper.to_array(tensor)
            array.setflags(write=False)
            held[tensor.name] = onnx_ir.tensor(array, name=tensor.name)
            tensor.ClearField("raw_data")
    return held


def _is_onnx(path: str | Path | bytes) -> bool:
    if not isinstance(path, bytes) and Path(path).suffix.lower() not in (".onnx", ".tflite"):
        raise UnsupportedModelError("files of this type are not read", where=str(path), expected=".onnx or .tflite")
    return isinstance(path, bytes) or Path(path).suffix.lower() == ".onnx"


def _written(dims: Sequence[Any]) -> str:
    return "x".join(str(dim) if dim is not None else "?" for dim in dims)
