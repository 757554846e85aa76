"""This machine as the device; relative paths start at ``root`` (the home folder by default)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgezip.deploy.transports import Reply
from edgezip.deploy.transports.bounded import run_bounded


class LocalTransport:
    """Runs commands here."""

    name = "this machine"
    is_emulated = False

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or Path.home()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        """Run ``argv`` with the root as working folder."""
        return run_bounded(argv, where=self.name, stdin=stdin, timeout_s=timeout_s, cwd=self.root)

    def close(self) -> None:
        """Nothing is open."""
