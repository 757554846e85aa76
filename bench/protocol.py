"""Where results go and what stands beside every figure: date, host, versions."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from edgezip.errors import EdgeZipError
from edgezip.measure import environment
from edgezip.report import schema

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "onnx", "onnxruntime")


def run_command(main: Callable[[], int]) -> NoReturn:
    """Ends the process with the exit code of ``main``; an error of ours is one line on stderr and its own code."""
    try:
        sys.exit(main())
    except EdgeZipError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


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


def path_of(kind: str, folder: Path = RESULTS) -> Path:
    """Today's file of that kind."""
    day = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return folder / f"{day}-{platform.node()}-{kind}.json"


def save(kind: str, body: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes ``<date>-<host>-<kind>.json``; a later run on the same day replaces it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(kind, folder)
    path.write_text(schema.dumps({"kind": kind, **circumstances(), **body}) + "\n")
    return path


def merge(kind: str, result: Mapping[str, Any], keys: Sequence[str], folder: Path = RESULTS) -> Path:
    """Adds ``result`` to the day's file; an older one with the same ``keys`` goes. Each result bears its own commit and time."""
    path = path_of(kind, folder)
    older = load(path)["results"] if path.exists() else []
    kept = [item for item in older if any(item[key] != result[key] for key in keys)]
    return save(kind, {"results": [*kept, {**result, **stamp()}]}, folder)


def stamp() -> dict[str, str | None]:
    """Which commit gave a figure, and when."""
    return {"commit": _commit(), "at": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")}


def load(path: Path) -> dict[str, Any]:
    """A result that ``save`` wrote."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None
