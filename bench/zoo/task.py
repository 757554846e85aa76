"""What every task of the zoo offers, and what scoring it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feed = dict[str, Array]
Run = Callable[[Feed], list[Array]]


@dataclass
class Score:
    """One runner on one task: the task's own metric (higher is better) and what it was made from.

    ``per_sample`` holds one figure a sample, higher is better, for paired counts; ``outputs`` the first output of each sample.
    ``alike``: so many samples in a row show one thing (nine crops of a picture), which counts once.
    """

    metric: str
    percent: float
    samples: int
    per_sample: list[float] = field(repr=False)
    outputs: list[Array] = field(repr=False)
    alike: int = 1

    @property
    def counted(self) -> list[float]:
        """``per_sample`` summed over what shows one thing."""
        return [sum(self.per_sample[i : i + self.alike]) for i in range(0, len(self.per_sample), self.alike)]


class Task(Protocol):
    """A pretrained model, its labelled inputs and its metric. ``work`` is the folder for downloads and made files."""

    name: str

    def model(self, work: Path) -> Path:
        """Path of the float ONNX file; fetched or built when it is not there yet."""
        ...

    def feeds(self, work: Path) -> Iterator[tuple[Feed, Any]]:
        """Scored inputs with their labels, batch 1."""
        ...

    def calibration(self, work: Path) -> Iterator[Feed]:
        """Calibration inputs; none of them is among the scored."""
        ...

    def score(self, work: Path, run: Run) -> Score:
        """Run all scored inputs."""
        ...


def score_top1(feeds: Iterator[tuple[Feed, Any]], run: Run, alike: int = 1) -> Score:
    """Top-1 accuracy of a classifier whose first output is logits [1, classes]; ``alike`` as in Score."""
    right: list[float] = []
    outputs = []
    for feed, label in feeds:
        logits = run(feed)[0]
        right.append(float(int(np.argmax(logits)) == label))
        outputs.append(logits)
    return Score("top-1", 100 * sum(right) / len(right), len(right), right, outputs, alike)
