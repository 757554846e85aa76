"""Twenty labelled ImageNet pictures (they come with foolbox, MIT), nine crops each: 180 scored inputs, 80 for calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.zoo import fetch

PACKAGE = fetch.Package(
    "pip",
    "foolbox",
    "3.3.4",
    "foolbox-3.3.4-py3-none-any.whl",
    "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)
SCORED_ZOOM = (1.0, 0.875, 0.75)
CROPS = 3 * len(SCORED_ZOOM)  # of each picture, one after another
CALIBRATION_ZOOM = (0.95, 0.8)  # other windows than the scored ones, and mirrored


def pictures(work: Path) -> Iterator[tuple[Image.Image, int]]:
    """The pictures, cut to a square, with their ImageNet class (it stands in the file name)."""
    for path in fetch.members(PACKAGE, lambda name: "/imagenet_" in name, "imagenet pictures", work):
        picture = Image.open(path).convert("RGB")
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        yield picture.crop((left, top, left + side, top + side)), int(path.stem.split("_")[-1])


def scored_crops(work: Path, size: int) -> Iterator[tuple[NDArray[np.float32], int]]:
    """RGB crops float32 [size, size, 3] in 0..255 with labels."""
    for picture, label in pictures(work):
        for zoom in SCORED_ZOOM:
            side = int(picture.width * zoom)
            middle, end = (picture.width - side) // 2, picture.width - side
            for left, top in ((middle, middle), (middle, 0), (end, middle)):
                yield _crop(picture, left, top, side, size), label


def calibration_crops(work: Path, size: int) -> Iterator[NDArray[np.float32]]:
    """Mirrored RGB crops float32 [size, size, 3] in 0..255."""
    for picture, _ in pictures(work):
        mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for zoom in CALIBRATION_ZOOM:
            side = int(picture.width * zoom)
            middle = (picture.width - side) // 2
            for left, top in ((middle, middle), (0, 0)):
                yield _crop(mirrored, left, top, side, size)


def _crop(picture: Image.Image, left: int, top: int, side: int, size: int) -> NDArray[np.float32]:
    window = picture.crop((left, top, left + side, top + side))
    return np.asarray(window.resize((size, size), Image.Resampling.BICUBIC), np.float32)
