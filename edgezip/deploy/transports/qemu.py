"""An emulated CPU: the runner is executed by qemu-user under exactly the instructions that the target has."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from edgezip.deploy.transports import Reply
from edgezip.deploy.transports.bounded import run_bounded
from edgezip.errors import ToolError
from edgezip.target import Target

RUNNER = "ez_run"


class QemuTransport:
    """Runs ``ez_run`` under qemu, all other commands natively. Correctness and counts only: time means nothing here."""

    is_emulated = True

    def __init__(self, target: Target, root: Path, cpu: str | None = None) -> None:
        if target.emulator is None:
            raise ToolError(
                "this target has no emulator", where=target.name, hint="use --host, or a target with an [emulator] section"
            )
        if shutil.which(target.emulator.qemu) is None:
            raise ToolError(f"{target.emulator.qemu} is not installed", where=target.name, hint="apt install qemu-user")
        self.root = root
        self.prefix = (target.emulator.qemu, "-cpu", cpu or target.emulator.cpu)
        self.name = f"{target.emulator.qemu} -cpu {self.prefix[2]}"

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 600.0) -> Reply:
        """Run ``argv``, with the emulator before it when it is the runner."""
        command = [*self.prefix, *argv] if Path(argv[0]).name == RUNNER else list(argv)
        return run_bounded(command, where=self.name, stdin=stdin, timeout_s=timeout_s, cwd=self.root)

    def close(self) -> None:
        """Nothing is open."""
