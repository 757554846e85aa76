"""Where results go and what stands beside every figure: date, host, versions."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from edgezip.measure import environment
from edgezip.report import schema

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "onnx", "onnxruntime")


def circumstances() -> dict[str, Any]:
    """Date, host, commit, package versions and the environment of the machine."""
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "environment": environment.describe(),
    }


def save(kind: str, body: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes ``<date>-<host>-<kind>.json``; a later run on the same day replaces it."""
    folder.mkdir(parents=True, exist_ok=True)
    day = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    path = folder / f"{day}-{platform.node()}-{kind}.json"
    path.write_text(schema.dumps({"kind": kind, **circumstances(), **body}) + "\n")
    return path


def load(path: Path) -> dict[str, Any]:
    """A result that ``save`` wrote."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None
