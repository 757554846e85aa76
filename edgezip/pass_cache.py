"""Results of passes on disk: bytes of a model and the report's rows, under the digest of all that they came from. Of a pass that
takes minutes, finished layers too (``Layers``), until its result is there.

The folder is held below CACHE_BYTES: what was not used for longest goes first. Two processes may share it: files are written
beside and renamed, and what is missing or does not fit its checksum is made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgezip.passes.layer_change import LayerChange

Array = np.ndarray[Any, Any]
CACHE_BYTES = 2 * 2**30
PART = ".npz"  # of a layer


def read(place: Path) -> tuple[bytes, list[LayerChange]] | None:
    """What was kept there, or None. The rows are written last: without them the model may be half a model."""
    try:
        held = json.loads(place.with_suffix(".json").read_text())
        data = place.with_suffix(".onnx").read_bytes()
        rows = [LayerChange(**{key: _frozen(value) for key, value in row.items()}) for row in held["rows"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if hashlib.sha256(data).hexdigest() != held["sha256"]:
        return None
    with suppress(OSError):
        os.utime(place.with_suffix(".json"))
    return data, rows


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def write(place: Path, data: bytes, rows: Sequence[LayerChange]) -> None:
    """Keep a result, then let the oldest go until the folder is below CACHE_BYTES."""
    from edgezip.program import write_atomically

    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place.with_suffix(".onnx"), data)
    said = {"sha256": hashlib.sha256(data).hexdigest(), "rows": [asdict(row) for row in rows]}
    write_atomically(place.with_suffix(".json"), json.dumps(said).encode())
    _shrink(place.parent, place.stem)


class Layers:
    """Arrays of finished layers, by number, beside the result that they will be part of."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def _file(self, number: int) -> Path:
        return self._place.with_name(f"{self._place.name}.{number}{PART}")

    def read(self, number: int) -> dict[str, Array] | None:
        """What was written for that layer; None where nothing was, or only a part of it (the archive has checksums)."""
        try:
            with np.load(self._file(number), allow_pickle=False) as held:
                return {name: held[name] for name in held.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def write(self, number: int, arrays: Mapping[str, Array]) -> None:
        """Keep the arrays of a layer."""
        from edgezip.program import write_atomically

        self._place.parent.mkdir(parents=True, exist_ok=True)
        data, held = io.BytesIO(), dict[str, Any](arrays)
        np.savez(data, **held)
        write_atomically(self._file(number), data.getvalue())

    def clear(self) -> None:
        """Let all go."""
        for path in self._place.parent.glob(f"{self._place.name}.*{PART}"):
            path.unlink(missing_ok=True)


def _shrink(folder: Path, newest: str) -> None:
    """A result's age is that of its rows' file, that of a layer of an unfinished one its own; a model without rows is oldest."""
    sizes: dict[str, int] = {}
    used: dict[str, float] = {}
    for path in folder.iterdir():
        with suppress(OSError):
            facts = path.stat()
            sizes[path.stem] = sizes.get(path.stem, 0) + facts.st_size
            used[path.stem] = max(used.get(path.stem, 0.0), facts.st_mtime if path.suffix in (".json", PART) else 0.0)
    total = sum(sizes.values())
    for stem in sorted((stem for stem in sizes if stem != newest), key=lambda stem: (used[stem], stem)):
        if total <= CACHE_BYTES:
            return
        total -= sizes[stem]
        for suffix in (".json", ".onnx", PART):
            with suppress(OSError):
                (folder / f"{stem}{suffix}").unlink()
