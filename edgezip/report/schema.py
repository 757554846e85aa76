"""The JSON that verbs print: one object, its envelope, and the keys that each verb promises (``ux.md`` of the design)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgezip.errors import MissingFileError, UsageError

ENVELOPE = ("edgezip", "verb", "model")
PROMISED = {
    "bench": (
        "target", "latency_us", "threads", "affinity", "isa", "warmup", "peak_memory_bytes", "file_bytes",
        "energy_mj", "power_w", "power_source", "throttled", "layers", "environment",
    ),
    "verify": ("bitexact", "top1_agreement", "cosine", "sqnr_db", "max_abs_error", "layers"),
    "run": ("outputs",),
    "sensitivity": ("form", "samples", "rank_agreement", "stable", "layers", "left_out"),
    "compress": ("layers", "bytes_before", "bytes_after"),
}  # fmt: skip


def document(version: str, verb: str, model: str | Path, body: Mapping[str, Any]) -> dict[str, Any]:
    """The object of one invocation; raises KeyError when ``body`` lacks a key that the verb promises."""
    missing = [key for key in PROMISED.get(verb, ()) if key not in body]
    if missing:
        raise KeyError(f"{verb}: the document lacks {missing}")
    return {"edgezip": version, "verb": verb, "model": {"path": str(model), "sha256": sha256_of(model)}, **body}


def sha256_of(path: str | Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def dumps(value: Mapping[str, Any]) -> str:
    """JSON text; a number that JSON cannot write (infinite, not a number) becomes null."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if hasattr(value, "item"):  # a NumPy scalar
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def load(path: str | Path) -> dict[str, Any]:
    """A document that some verb wrote; raises MissingFileError, UsageError when it is something else."""
    if not Path(path).is_file():
        raise MissingFileError("no such report", where=str(path), hint="make one with: edgezip bench MODEL --json > FILE")
    try:
        value = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError("not a JSON document", where=str(path), got=str(error)[:80]) from error
    if not isinstance(value, dict) or any(key not in value for key in ENVELOPE):
        raise UsageError("not a document of EdgeZip", where=str(path), expected=f"one object with {', '.join(ENVELOPE)}")
    return value
