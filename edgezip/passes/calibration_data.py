"""Calibration samples from a folder or a file, one at a time, checked before they are used.

A folder may hold .npz and .npy arrays (``edgezip.samples`` says how they are read) and pictures (.png, .jpg; needs Pillow), taken
in the order of their names. Pictures are scaled to the input's height and width, then ``(pixel - mean) / std``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from edgezip.errors import CalibrationError, MissingFileError, RuntimeUnavailableError, ShapeError, UsageError
from edgezip.samples import SUFFIXES, Array, Input, fitting, read_arrays

PICTURES = {".png", ".jpg", ".jpeg", ".bmp"}


def read(
    source: str | Path, inputs: list[Input], *, limit: int = 0, mean: float = 0.0, std: float = 1.0
) -> Iterator[dict[str, Array]]:
    """Feeds from ``source``; ``limit`` 0 takes all. Raises MissingFileError, SampleError, ShapeError."""
    if std == 0 or not np.isfinite([mean, std]).all():
        raise UsageError("pictures cannot be scaled by this", where="--mean, --std", got=f"({mean}, {std})")
    source = Path(source)
    if not source.exists():
        raise MissingFileError("no such calibration data", where=str(source), hint="name a folder or a .npz file with --calib")
    files = sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else [source]
    usable = [p for p in files if p.suffix.lower() in PICTURES.union(SUFFIXES)]
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
        yield {item.name: _finite(fitting(np.asarray(feed[item.name]), item, where), item, where) for item in inputs}
        if number + 1 == limit:
            return
    if number < 0:
        raise CalibrationError("no calibration samples", hint="give some tens of typical inputs")


def _samples(path: Path, inputs: list[Input], mean: float, std: float) -> Iterator[dict[str, Array]]:
    if path.suffix.lower() in PICTURES:
        feeds: Iterable[dict[str, Array]] = [_picture_feed(path, inputs, mean, std)]
    else:
        feeds = read_arrays(path, inputs)
    for number, feed in enumerate(feeds):
        yield {item.name: _finite(feed[item.name], item, f"{path}, sample {number}") for item in inputs}


def _picture_feed(path: Path, inputs: list[Input], mean: float, std: float) -> dict[str, Array]:
    if len(inputs) != 1:
        raise ShapeError(
            "the model has several inputs", where=str(path), expected=".npz with " + ", ".join(i.name for i in inputs)
        )
    return {inputs[0].name: fitting(_picture(path, inputs[0], mean, std), inputs[0], str(path))}


def _finite(array: Array, item: Input, where: str) -> Array:
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
