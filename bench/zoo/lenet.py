"""What the two LeNets on Fashion-MNIST share: trained here on first use, scored on the full test set of 10,000."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.zoo import fashion, train_lenet
from bench.zoo.task import Feed, Run, Score, score_top1

CALIBRATION = 512


class LeNetFashion:
    """Logits of ten kinds of clothes from a picture x [1, 1, 28, 28] in 0..1."""

    def __init__(self, net: str) -> None:
        self.net = net
        self.name = f"{net}_fashion"

    def model(self, work: Path) -> Path:
        """Trains the network (a few minutes at most) when its file is not there yet."""
        path = work / f"{self.name}.onnx"
        if not path.exists():
            train_lenet.train_to_file(self.net, work, path)
        return path

    def feeds(self, work: Path) -> Iterator[tuple[Feed, int]]:
        """All 10,000 test pictures."""
        images, labels = fashion.load("test", work)
        for image, label in zip(fashion.as_input(images), labels, strict=True):
            yield {"x": image[None]}, int(label)

    def calibration(self, work: Path) -> Iterator[Feed]:
        """The first 512 training pictures."""
        images, _ = fashion.load("train", work)
        for image in fashion.as_input(images[:CALIBRATION]):
            yield {"x": image[None]}

    def score(self, work: Path, run: Run) -> Score:
        """Top-1 accuracy."""
        return score_top1(self.feeds(work), run)
