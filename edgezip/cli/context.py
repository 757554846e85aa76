"""The global options of one invocation, shared by all verbs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path


def _default_cache() -> Path:
    base = os.environ.get("EDGEZIP_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return Path(base) / "edgezip" if base else Path.home() / ".cache" / "edgezip"


@dataclass(slots=True)
class Context:
    """What ``-v -q --json --no-progress --color --cache-dir --seed -j`` said."""

    verbose: bool = False
    quiet: bool = False
    json: bool = False
    progress: bool = True
    color: str = "auto"
    cache_dir: Path = field(default_factory=_default_cache)
    seed: int = 0
    jobs: int = 0  # 0: as many as there are cores
    printed: bool = False  # the one JSON object of --json is out: an error that follows goes to stderr alone

    @property
    def show_progress(self) -> bool:
        """Bars are drawn on a terminal only, and on stderr."""
        return self.progress and not self.quiet and not self.json and sys.stderr.isatty()


current = Context()


def print_json(text: str) -> None:
    """The one JSON object of this invocation, on stdout."""
    current.printed = True
    print(text, flush=True)
