"""The demo network that comes with the package, on its 400 Fashion-MNIST samples: needs no download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.zoo import fashion
from bench.zoo.task import Feed, Run, Score, score_top1
from edgezip.data import DEMO_MODEL, DEMO_SAMPLES


class Demo:
    """Logits of ten kinds of clothes from a picture image [1, 1, 28, 28] in 0..1."""

    name = "demo"

    def model(self, work: Path) -> Path:
        """The file in the package."""
        return DEMO_MODEL

    def feeds(self, work: Path) -> Iterator[tuple[Feed, int]]:
        """400 test pictures."""
        samples = np.load(DEMO_SAMPLES)
        for image, label in zip(fashion.as_input(samples["images"]), samples["labels"], strict=True):
            yield {"image": image[None]}, int(label)

    def calibration(self, work: Path) -> Iterator[Feed]:
        """64 training pictures."""
        for image in fashion.as_input(np.load(DEMO_SAMPLES)["calibration"]):
            yield {"image": image[None]}

    def score(self, work: Path, run: Run) -> Score:
        """Top-1 accuracy."""
        return score_top1(self.feeds(work), run)


TASK = Demo()
