"""Magika, Google's classifier of file contents (0.8 M parameters, one Conv1D; Apache-2.0), on the files of this machine.

The truth of a file is its extension. Which files there are differs from machine to machine, so compare on one machine only.
"""

from __future__ import annotations

import json
import os
import sysconfig
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.zoo import fetch
from bench.zoo.task import Array, Feed, Run, Score

PACKAGE = fetch.Package(
    "pip",
    "magika",
    "1.0.3",
    "magika-1.0.3-py3-none-manylinux_2_28_x86_64.whl",
    "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
    ("--only-binary=:all:", "--platform=manylinux_2_28_x86_64"),
)
WINDOW = 1024  # bytes from each end
BLOCK = 4096  # what the window is cut from after blanks are stripped
PADDING = 256
SCORED, CALIBRATION = 30, 8  # files of a kind
PLACES = ("/usr/include", "/usr/lib/python3", "/usr/share", "/usr/lib/x86_64-linux-gnu")
SIZES = range(200, 4_000_000)
KINDS = {
    ".py": "python", ".c": "c", ".h": "c", ".cpp": "cpp", ".hpp": "cpp", ".java": "java", ".js": "javascript", ".css": "css",
    ".html": "html", ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".ini": "ini", ".xml": "xml",
    ".md": "markdown", ".rst": "rst", ".csv": "csv", ".sh": "shell", ".pl": "perl", ".pm": "perl", ".rb": "ruby", ".tcl": "tcl",
    ".cmake": "cmake", ".bat": "batch", ".ipynb": "ipynb", ".pem": "pem", ".svg": "svg", ".pdf": "pdf", ".png": "png",
    ".jpg": "jpeg", ".gif": "gif", ".bmp": "bmp", ".ico": "ico", ".ttf": "ttf", ".woff2": "woff2", ".wav": "wav", ".gz": "gzip",
    ".zip": "zip", ".whl": "zip", ".xz": "xz", ".bz2": "bzip", ".tar": "tar", ".deb": "deb", ".a": "ar", ".so": "elf",
    ".exe": "pebin", ".pyc": "pythonbytecode", ".npz": "npz", ".npy": "npy", ".db": "sqlite",
}  # fmt: skip


class Magika:
    """Probabilities of 214 kinds [1, 214] from bytes int32 [1, 2048]: 1024 of the start, 1024 of the end."""

    name = "magika"

    def model(self, work: Path) -> Path:
        """The published ONNX file; its batch is dynamic."""
        return fetch.member(PACKAGE, "standard_v3_3/model.onnx", work)

    def feeds(self, work: Path) -> Iterator[tuple[Feed, str]]:
        """At most 30 files of a kind, with the kind; no file of the calibration is among them."""
        yield from _feeds(SCORED, is_calibration=False)

    def calibration(self, work: Path) -> Iterator[Feed]:
        """At most 8 other files of a kind."""
        for feed, _ in _feeds(CALIBRATION, is_calibration=True):
            yield feed

    def score(self, work: Path, run: Run) -> Score:
        """Top-1 accuracy."""
        names = json.loads(fetch.member(PACKAGE, "standard_v3_3/config.min.json", work).read_text())["target_labels_space"]
        right, outputs = [], []
        for feed, kind in self.feeds(work):
            chances = np.array(run(feed)[0])
            right.append(float(names[int(chances.argmax())] == kind))
            outputs.append(chances)
        return Score("top-1", 100 * sum(right) / len(right), len(right), right, outputs)


TASK = Magika()


def as_input(path: Path) -> Array:
    """int32 [2048] of a file, as Magika 1.0 cuts it."""
    with path.open("rb") as stream:
        start = stream.read(BLOCK)
        stream.seek(max(0, path.stat().st_size - BLOCK))
        end = stream.read(BLOCK)
    start, end = start.lstrip()[:WINDOW], end.rstrip()[-WINDOW:]
    found = np.full(2 * WINDOW, PADDING, np.int32)
    found[: len(start)] = list(start)
    found[2 * WINDOW - len(end) :] = list(end)
    return found


def _feeds(limit: int, is_calibration: bool) -> Iterator[tuple[Feed, str]]:
    seen: Counter[str] = Counter()
    for place in (sysconfig.get_paths()["stdlib"], *PLACES):
        for path in _files(place):
            kind = KINDS.get(path.suffix)
            if kind and seen[kind] < limit and (zlib.crc32(path.name.encode()) % 5 == 0) == is_calibration and _is_usable(path):
                seen[kind] += 1
                yield {"bytes": as_input(path)[None]}, kind


def _files(place: str) -> Iterator[Path]:
    """All files below, in the order of their names."""
    for folder, folders, names in os.walk(place):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _is_usable(path: Path) -> bool:
    return not path.is_symlink() and os.access(path, os.R_OK) and path.stat().st_size in SIZES
