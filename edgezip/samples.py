"""A model's inputs from files of arrays: .npy and .npz, one sample at a time, each proved to fit.

Arrays bear the names of the inputs (any name when there is one input and one array); a leading axis counts samples where the
input's own first axis is 1, and one sample may come without it. Floats may change their width, whole numbers theirs when no value
changes; whole numbers are never taken for floats, because only the caller knows how the network was taught to scale them.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgezip.errors import MissingFileError, SampleError, ShapeError

Array = np.ndarray[Any, Any]
SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True, slots=True)
class Input:
    """An input as the model declares it; the sizes of ``free`` axes are whatever a sample has (the session checks bounds)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    free: frozenset[int] = frozenset()

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a sample may have this shape."""
        pairs = enumerate(zip(shape, self.shape, strict=False))
        return len(shape) == len(self.shape) and all(axis in self.free or have == want for axis, (have, want) in pairs)


def read_arrays(path: Path, inputs: Sequence[Input]) -> Iterator[dict[str, Array]]:
    """Feeds of a .npy or .npz file. Raises MissingFileError, SampleError (unreadable, arrays missing), ShapeError."""
    arrays = _by_name(_loaded(path), inputs, str(path))
    parts = {item.name: _split(arrays[item.name], item, str(path)) for item in inputs}
    if len({len(part) for part in parts.values()}) > 1:
        counts = ", ".join(f"{name}: {len(part)}" for name, part in parts.items())
        raise ShapeError("inputs have different numbers of samples", where=str(path), got=counts)
    for number in range(len(next(iter(parts.values())))):
        yield {item.name: fitting(parts[item.name][number], item, f"{path}, sample {number}") for item in inputs}


def fitting(array: Array, item: Input, where: str) -> Array:
    """``array`` with the input's dtype, contiguous. Raises ShapeError when its shape or type is another."""
    place = f"{where}, input '{item.name}'"
    if not item.takes(array.shape):
        raise ShapeError("sample does not fit", where=place, expected=str(item.shape), got=str(array.shape))
    if not _may_become(array, item.dtype):
        raise ShapeError(
            "sample has another type",
            where=place,
            expected=str(item.dtype),
            got=str(array.dtype),
            hint="scale and convert it as in training, then save it again",
        )
    return np.asarray(array, item.dtype, order="C")


def _may_become(array: Array, dtype: np.dtype[Any]) -> bool:
    if array.dtype == dtype or array.dtype.kind == dtype.kind == "f":
        return True
    whole = array.dtype.kind in "iu" and dtype.kind in "iu"
    return whole and bool(np.array_equal(array.astype(dtype), array))


def _loaded(path: Path) -> dict[str, Array]:
    """The arrays of a file by name; the one of a .npy file has none."""
    if not path.is_file():
        raise MissingFileError("no such input file", where=str(path))
    try:
        held = np.load(path, allow_pickle=False)
        return {"": held} if isinstance(held, np.ndarray) else dict(held)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise SampleError(
            f"cannot read the file: {str(error)[:200]}", where=str(path), hint="save arrays with numpy.save or numpy.savez"
        ) from error


def _by_name(held: Mapping[str, Array], inputs: Sequence[Input], where: str) -> Mapping[str, Array]:
    if len(inputs) == len(held) == 1:
        return {inputs[0].name: next(iter(held.values()))}
    missing = [item.name for item in inputs if item.name not in held]
    if missing:
        raise SampleError(
            "arrays do not bear the names of the inputs", where=where, expected=", ".join(missing),
            got=", ".join(held).strip() or "one array without a name",
        )  # fmt: skip
    return held


def _split(array: Array, item: Input, where: str) -> list[Array]:
    """Samples of the array, each of the declared shape."""
    if item.takes(array.shape):
        return [array]
    if item.shape[:1] == (1,):
        if item.takes((1, *array.shape)):
            return [array[None]]
        if array.ndim and item.takes((1, *array.shape[1:])):
            return [array[i : i + 1] for i in range(len(array))]
    if array.ndim and item.takes(array.shape[1:]):
        return list(array)
    raise ShapeError("samples do not fit", where=f"{where}, input '{item.name}'", expected=str(item.shape), got=str(array.shape))
