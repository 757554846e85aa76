"""Silero voice activity detector (0.3 M parameters: STFT as convolution, four convolutions, LSTM; MIT) on noisy speech.

A clip runs in chunks of 32 frames (a second); the LSTM's state goes from one chunk to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.zoo import fetch, sound
from bench.zoo.task import Array, Feed, Run, Score

PACKAGE = fetch.Package(
    "pip",
    "silero-vad",
    "6.2.3",
    "silero_vad-6.2.3-py3-none-any.whl",
    "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
)
FRAME, CONTEXT = 512, 64  # samples of a frame, and those before it that it is seen with
STATE = (1, 1, 128)
THRESHOLD = 0.5
SCORED, CALIBRATION = 40, 10  # clips

Truth = NDArray[np.int64]


class VoiceActivity:
    """Probability of speech [frames] from frames [frames, 576] and the state h, c [1, 1, 128]; the new state comes out."""

    def __init__(self, name: str, frames: int) -> None:
        self.name = name
        self.frames = frames

    def model(self, work: Path) -> Path:
        """The published ONNX file; its number of frames is dynamic."""
        return fetch.member(PACKAGE, "silero_vad_16k_sequence.onnx", work)

    def feeds(self, work: Path) -> Iterator[tuple[Feed, tuple[Truth, bool]]]:
        """Chunks of 40 clips; the label is the truth of the frames and whether a clip starts. ``score`` fills in the state."""
        yield from self._chunks(work, seed=3, first=0, count=SCORED)

    def calibration(self, work: Path) -> Iterator[Feed]:
        """Chunks of 10 clips of other prompts, with the state that the float model is in."""
        from bench.zoo.runners import onnxruntime

        feeds = self._chunks(work, seed=8, first=1, count=CALIBRATION)
        run = onnxruntime(self.model(work), {})
        for feed, _, _ in _carried(feeds, run):
            yield feed

    def score(self, work: Path, run: Run) -> Score:
        """Area under the ROC curve over all frames; the figure of one clip is its frames judged right."""
        probabilities, truths, per_clip = [], [], []
        for _, (truth, starts), outputs in _carried(self.feeds(work), run):
            if starts:
                per_clip.append(0.0)
            probability = outputs[0].reshape(-1)
            per_clip[-1] += float((((probability > THRESHOLD) == truth) & (truth != sound.NEITHER)).sum())
            probabilities.append(probability)
            truths.append(truth)
        everything, labels = np.concatenate(probabilities), np.concatenate(truths)
        is_scored = labels != sound.NEITHER
        area = area_under_curve(everything[is_scored], labels[is_scored])
        return Score("ROC area", 100 * area, int(is_scored.sum()), per_clip, probabilities)

    def _chunks(self, work: Path, seed: int, first: int, count: int) -> Iterator[tuple[Feed, tuple[Truth, bool]]]:
        for samples, truth in sound.clips(work, seed, first, count, FRAME):
            padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
            frames = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]
            for start in range(0, len(frames) - self.frames + 1, self.frames):
                window = slice(start, start + self.frames)
                state = {name: np.zeros(STATE, np.float32) for name in ("h", "c")}
                yield {"input": np.ascontiguousarray(frames[window]), **state}, (truth[window], start == 0)


TASK = VoiceActivity("vad", 32)


def _carried(
    feeds: Iterator[tuple[Feed, tuple[Truth, bool]]], run: Run
) -> Iterator[tuple[Feed, tuple[Truth, bool], list[Array]]]:
    """Feed with the state that the run before left, label, and outputs."""
    h = c = np.zeros(STATE, np.float32)
    for feed, label in feeds:
        if not label[1]:
            feed = {**feed, "h": h, "c": c}
        outputs = run(feed)
        h, c = (np.array(value, np.float32).reshape(STATE) for value in outputs[1:3])
        yield feed, label, outputs


def area_under_curve(scores: Array, labels: Array) -> float:
    """Chance that a random positive scores above a random negative, ties counting half (Mann and Whitney 1947)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    return float((rank[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))
