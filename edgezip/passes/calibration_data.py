"""Calibration samples from a folder or a file, one at a time, checked before they are used.

A folder may hold .npz and .npy arrays and pictures (.png, .jpg; needs Pillow), read in the order of their names. Arrays bear the
names of the inputs (any name when there is one input); a leading axis counts samples where the input's own first axis is 1; one
sample may come without it. Whole numbers are taken as they are: 0 to 255 stays 0 to 255.
Pictures are scaled to the input's height and width, then ``(pixel - mean) / std``.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgezip.errors import CalibrationError, MissingFileError, RuntimeUnavailableError, ShapeError, UsageError

Array = np.ndarray[Any, Any]
PICTURES = {".png", ".jpg", ".jpeg", ".bmp"}


@dataclass(frozen=True, slots=True)
class Input:
    """A model input as calibration must fill it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def read(
    source: str | Path, inputs: list[Input], *, limit: int = 0, mean: float = 0.0, std: float = 1.0
) -> Iterator[dict[str, Array]]:
    """Feeds from ``source``; ``limit`` 0 takes all. Raises MissingFileError, CalibrationError (nothing usable), ShapeError."""
    if std == 0 or not np.isfinite([mean, std]).all():
        raise UsageError("pictures cannot be scaled by this", where="--mean, --std", got=f"({mean}, {std})")
    source = Path(source)
    if not source.exists():
        raise MissingFileError("no such calibration data", where=str(source), hint="name a folder or a .npz file with --calib")
    files = sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else [source]
    usable = [p for p in files if p.suffix.lower() in PICTURES | {".npy", ".npz"}]
    if not usable:
        raise CalibrationError(
            "no calibration samples",
            where=str(source),
            expected="files ending with .npz, .npy, .png or .jpg",
            got=f"{len(files)} other files",
            hint="put some tens of typical inputs there",
        )
    count = 0
    for path in usable:
        for feed in _samples(path, inputs, mean, std):
            yield feed
            count += 1
            if count == limit:
                return
    if not count:
        raise CalibrationError("the calibration files hold no samples", where=str(source))


def checked(feeds: Iterable[Mapping[str, Array]], inputs: list[Input], limit: int = 0) -> Iterator[dict[str, Array]]:
    """Feeds of the caller, each proved to fit; raises CalibrationError when there are none."""
    number = -1
    for number, feed in enumerate(feeds):
        where = f"calibration sample {number}"
        missing = [item.name for item in inputs if item.name not in feed]
        if missing:
            raise ShapeError("input is missing", where=where, expected=", ".join(i.name for i in inputs), got=", ".join(feed))
        yield {item.name: _fitting(np.asarray(feed[item.name]), item, where) for item in inputs}
        if number + 1 == limit:
            return
    if number < 0:
        raise CalibrationError("no calibration samples", hint="give some tens of typical inputs")


def _samples(path: Path, inputs: list[Input], mean: float, std: float) -> Iterator[dict[str, Array]]:
    if path.suffix.lower() in PICTURES:
        item = _only(inputs, path)
        yield {item.name: _fitting(_picture(path, item, mean, std), item, str(path))}
        return
    held = _loaded(path)
    arrays = {_only(inputs, path).name: held} if isinstance(held, np.ndarray) else held
    if len(inputs) == 1 and len(arrays) == 1:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    missing = [item.name for item in inputs if item.name not in arrays]
    if missing:
        raise ShapeError(
            "arrays do not bear the names of the inputs", where=str(path), expected=", ".join(missing), got=", ".join(arrays)
        )
    parts = {item.name: _split(arrays[item.name], item, str(path)) for item in inputs}
    counts = {len(part) for part in parts.values()}
    if len(counts) != 1:
        raise ShapeError("inputs have different numbers of samples", where=str(path), got=str(sorted(counts)))
    for number in range(counts.pop()):
        yield {item.name: _fitting(parts[item.name][number], item, f"{path}, sample {number}") for item in inputs}


def _loaded(path: Path) -> Array | dict[str, Array]:
    """The array of a .npy file, or all arrays of a .npz file."""
    try:
        held = np.load(path, allow_pickle=False)
        return held if isinstance(held, np.ndarray) else dict(held)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise CalibrationError(
            f"cannot read the file: {error}", where=str(path), hint="save arrays with numpy.save or numpy.savez"
        ) from error


def _only(inputs: list[Input], path: Path) -> Input:
    if len(inputs) != 1:
        raise ShapeError(
            "the model has several inputs", where=str(path), expected=".npz with " + ", ".join(i.name for i in inputs)
        )
    return inputs[0]


def _split(array: Array, item: Input, where: str) -> list[Array]:
    if array.shape == item.shape:
        return [array]
    if item.shape and item.shape[0] == 1 and array.shape[1:] == item.shape[1:]:
        return [array[i : i + 1] for i in range(len(array))]
    if item.shape[:1] == (1,) and array.shape == item.shape[1:]:
        return [array[None]]
    if array.shape[1:] == item.shape:
        return list(array)
    raise ShapeError(
        "samples do not fit the input", where=f"{where}, input '{item.name}'", expected=str(item.shape), got=str(array.shape)
    )


def _fitting(array: Array, item: Input, where: str) -> Array:
    if array.shape != item.shape:
        raise ShapeError(
            "sample does not fit", where=f"{where}, input '{item.name}'", expected=str(item.shape), got=str(array.shape)
        )
    if array.dtype != item.dtype and not (array.dtype.kind in "fiu" and item.dtype.kind == "f"):
        raise ShapeError(
            "sample has another type", where=f"{where}, input '{item.name}'", expected=str(item.dtype), got=str(array.dtype)
        )
    array = np.asarray(array, item.dtype, order="C")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise CalibrationError(
            "sample holds a value that is not finite",
            where=f"{where}, input '{item.name}' at {place}",
            got=str(array[place]),
            hint="remove the sample, or clean the data",
        )
    return array


def _picture(path: Path, item: Input, mean: float, std: float) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise RuntimeUnavailableError(
            "pictures need Pillow", where=str(path), hint="pip install pillow, or give arrays as .npz"
        ) from error
    if len(item.shape) != 4 or item.shape[1] not in (1, 3):
        raise ShapeError(
            "pictures need an input of 1 or 3 channels",
            where=f"input '{item.name}'",
            expected="(1, 3, H, W)",
            got=str(item.shape),
        )
    try:
        with Image.open(path) as picture:
            scaled = picture.convert("L" if item.shape[1] == 1 else "RGB").resize((item.shape[3], item.shape[2]))
            pixels = np.asarray(scaled, np.float32)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise CalibrationError(f"cannot read the picture: {error}", where=str(path)) from error
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return ((planes - np.float32(mean)) / np.float32(std))[None]
