"""Ways to a device. A transport runs a command there with bytes on its standard input; everything else is built on that.

To add one: a module with a class that satisfies ``Transport``, and a line where the command line chooses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command on the device answered; text is bounded and free of control characters."""

    code: int
    stdout: str
    stderr: str


class Transport(Protocol):
    """A device that can run commands."""

    name: str
    is_emulated: bool

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        """Run ``argv`` on the device. Raises DeviceUnreachableError (no answer, no login), DeviceError (flooded or timed out)."""
        ...

    def close(self) -> None:
        """End connections."""
        ...
