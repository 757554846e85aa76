"""Inputs that the command line names: sample files and folders of them, and NAME=FILE for one inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgezip.errors import MissingFileError, SampleError, ShapeError, UsageError
from edgezip.program import Program
from edgezip.samples import SUFFIXES, Array, Input, read_arrays


def wanted_by(program: Program) -> list[Input]:
    """The inputs of a program, in its order."""
    least = program.at([symbol.low for symbol in program.shapes.symbols]) if program.shapes else program
    pairs = [(program.tensors[i], least.tensors[j]) for i, j in zip(program.inputs, least.inputs, strict=True)]
    return [Input(most.name, most.dtype.numpy, most.dims, _differing(most.dims, own.dims)) for most, own in pairs]


def _differing(most: tuple[int, ...], least: tuple[int, ...]) -> frozenset[int]:
    """The axes that change with the size of a dynamic dimension."""
    return frozenset(axis for axis, (a, b) in enumerate(zip(most, least, strict=True)) if a != b)


def read_samples(source: Path, inputs: Sequence[Input], limit: int = 0) -> list[dict[str, Array]]:
    """Feeds from a .npy or .npz file, or from all such files of a folder in the order of their names; ``limit`` 0 takes all.

    Raises MissingFileError, SampleError, ShapeError.
    """
    files = [source]
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix in SUFFIXES)
        if not files:
            raise MissingFileError("no inputs in the folder", where=str(source), expected="files ending with .npy or .npz")
    samples: list[dict[str, Array]] = []
    for path in files:
        for feed in read_arrays(path, inputs):
            samples.append(feed)
            if len(samples) == limit:
                return samples
    if not samples:
        raise SampleError("no samples in the file", where=str(source))
    return samples


def read_named(items: Sequence[str], inputs: Sequence[Input]) -> dict[str, Array]:
    """One feed from NAME=FILE items (.npy, .npz, raw .bin); NAME= may be left out when the model has one input."""
    by_name = {item.name: item for item in inputs}
    feed: dict[str, Array] = {}
    for text in items:
        name, file = _parted(text, inputs)
        if name not in by_name:
            raise UsageError("the model has no such input", where="--input", expected=", ".join(by_name), got=name or text)
        feed[name] = _one(Path(file), by_name[name])
    missing = [name for name in by_name if name not in feed]
    if missing:
        raise UsageError("inputs are missing", where="--input", expected=" ".join(f"--input {name}=FILE" for name in missing))
    return feed


def _parted(text: str, inputs: Sequence[Input]) -> tuple[str, str]:
    """Name and file: an input's own name counts first, since names and paths may hold an equals sign."""
    for item in inputs:
        if text.startswith(f"{item.name}="):
            return item.name, text[len(item.name) + 1 :]
    if len(inputs) == 1 and ("=" not in text or Path(text).is_file()):
        return inputs[0].name, text
    name, _, file = text.rpartition("=")
    return name, file


def _one(path: Path, wanted: Input) -> Array:
    if path.suffix == ".bin":
        return _raw(path, wanted)
    samples = list(read_arrays(path, [wanted]))
    if len(samples) != 1:
        raise ShapeError("one inference takes one sample", where=str(path), got=f"{len(samples)} samples")
    return samples[0][wanted.name]


def _raw(path: Path, wanted: Input) -> Array:
    if not path.is_file():
        raise MissingFileError("no such input file", where=str(path))
    data, shape = path.read_bytes(), wanted.shape
    if len(wanted.free) == 1:  # the bytes say its size
        (axis,) = wanted.free
        each = math.prod(d for i, d in enumerate(shape) if i != axis) * wanted.dtype.itemsize
        shape = (*shape[:axis], max(len(data) // each, 1), *shape[axis + 1 :])
    size = math.prod(shape) * wanted.dtype.itemsize
    if len(data) != size:
        raise ShapeError("raw input has another size", where=str(path), expected=f"{size} bytes", got=f"{len(data)} bytes")
    return np.frombuffer(data, wanted.dtype).reshape(shape)
