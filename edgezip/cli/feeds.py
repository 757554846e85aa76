"""Reads a model's inputs from .npy, .npz and raw .bin files, and folders of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgezip.errors import MissingFileError, ShapeError, UsageError
from edgezip.program import Program

Array = np.ndarray[Any, Any]
SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True)
class Wanted:
    """An input as the model declares it."""

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int, ...]


def wanted_by(program: Program) -> list[Wanted]:
    """The inputs of a program, in its order."""
    tensors = [program.tensors[index] for index in program.inputs]
    return [Wanted(tensor.name, tensor.dtype.numpy, tensor.dims) for tensor in tensors]


def read_samples(source: Path, inputs: Sequence[Wanted], limit: int = 0) -> list[dict[str, Array]]:
    """Feeds from a .npy or .npz file, or from all such files of a folder in the order of their names; ``limit`` 0 takes all.

    The arrays of a .npz bear the names of the inputs (any name when there is one input and one array); a leading axis
    counts samples where the input's own is 1. Raises MissingFileError, UsageError, ShapeError.
    """
    files = [source]
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix in SUFFIXES)
        if not files:
            raise MissingFileError("no inputs in the folder", where=str(source), expected="files ending with .npy or .npz")
    samples: list[dict[str, Array]] = []
    for path in files:
        for feed in _samples_of(path, inputs):
            samples.append(feed)
            if len(samples) == limit:
                return samples
    if not samples:
        raise UsageError("no samples in the file", where=str(source))
    return samples


def read_named(items: Sequence[str], inputs: Sequence[Wanted]) -> dict[str, Array]:
    """One feed from NAME=FILE items (.npy, .npz, raw .bin); NAME= may be left out when the model has one input."""
    by_name = {item.name: item for item in inputs}
    feed: dict[str, Array] = {}
    for item in items:
        name, equals, file = item.rpartition("=")
        name = name if equals or len(inputs) != 1 else inputs[0].name
        if name not in by_name:
            raise UsageError("the model has no such input", where="--input", expected=", ".join(by_name), got=name or item)
        feed[name] = _one(Path(file), by_name[name])
    missing = [name for name in by_name if name not in feed]
    if missing:
        raise UsageError("inputs are missing", where="--input", expected=" ".join(f"--input {name}=FILE" for name in missing))
    return feed


def _one(path: Path, wanted: Wanted) -> Array:
    if path.suffix == ".bin":
        data = _existing(path).read_bytes()
        size = int(np.prod(wanted.dims)) * wanted.dtype.itemsize
        if len(data) != size:
            raise ShapeError("raw input has another size", where=str(path), expected=f"{size} bytes", got=f"{len(data)} bytes")
        return np.frombuffer(data, wanted.dtype).reshape(wanted.dims)
    samples = list(_samples_of(path, [wanted]))
    if len(samples) != 1:
        raise ShapeError("one inference takes one sample", where=str(path), got=f"{len(samples)} samples")
    return samples[0][wanted.name]


def _samples_of(path: Path, inputs: Sequence[Wanted]) -> Iterator[dict[str, Array]]:
    arrays = _arrays_of(path, inputs)
    columns = [[_cast(row, item, path) for row in _rows(arrays[item.name], item, path)] for item in inputs]
    if len({len(column) for column in columns}) != 1:
        counts = ", ".join(f"{item.name}: {len(column)}" for item, column in zip(inputs, columns, strict=True))
        raise ShapeError("inputs have different numbers of samples", where=str(path), got=counts)
    for row in zip(*columns, strict=True):
        yield {item.name: array for item, array in zip(inputs, row, strict=True)}


def _arrays_of(path: Path, inputs: Sequence[Wanted]) -> Mapping[str, Array]:
    _existing(path)
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UsageError("not an array file", where=str(path), expected=".npy or .npz", got=str(error)[:100]) from error
    if isinstance(loaded, np.ndarray):
        loaded = {"": loaded}
    names = list(loaded)
    if len(inputs) == 1 and inputs[0].name not in names and len(names) == 1:
        return {inputs[0].name: loaded[names[0]]}
    missing = [item.name for item in inputs if item.name not in names]
    if missing:
        raise UsageError("arrays are missing", where=str(path), expected=", ".join(missing), got=", ".join(names))
    return {item.name: loaded[item.name] for item in inputs}


def _rows(array: Array, wanted: Wanted, path: Path) -> list[Array]:
    """Samples of the array, each of the declared dims."""
    if array.shape == wanted.dims:
        return [array]
    if wanted.dims[:1] == (1,):
        if array.shape == wanted.dims[1:]:
            return [array[None]]
        if array.shape[1:] == wanted.dims[1:]:
            return [array[k : k + 1] for k in range(len(array))]
        if array.shape[1:] == wanted.dims:
            return list(array)
    raise ShapeError("input does not fit", where=f"{path}, {wanted.name}", expected=str(wanted.dims), got=str(array.shape))


def _cast(array: Array, wanted: Wanted, path: Path) -> Array:
    """Floats may change their width and whole numbers theirs; pictures as bytes are the caller's to scale."""
    if array.dtype == wanted.dtype:
        return np.ascontiguousarray(array)
    if array.dtype.kind == wanted.dtype.kind or {array.dtype.kind, wanted.dtype.kind} == {"i", "u"}:
        cast = array.astype(wanted.dtype)
        if wanted.dtype.kind == "f" or np.array_equal(cast, array):
            return np.ascontiguousarray(cast)
    raise ShapeError(
        "input has another type",
        where=f"{path}, {wanted.name}",
        expected=str(wanted.dtype),
        got=str(array.dtype),
        hint="scale and convert it as in training, then save it again",
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingFileError("no such input file", where=str(path))
    return path
