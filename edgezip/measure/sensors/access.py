"""How a sensor's files and commands are reached: here, or on a device."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgezip.deploy.transports import Transport
from edgezip.errors import DeviceError

COMMAND_S = 5
MOST_BYTES = 1 << 16  # of a file or an answer


class Access(Protocol):
    """Files below /sys and small commands of one machine."""

    name: str

    def text(self, path: str) -> str | None:
        """Content of a file without white space around it; None when it cannot be read."""
        ...

    def matches(self, pattern: str) -> list[str]:
        """Paths that match, in order."""
        ...

    def run(self, argv: Sequence[str]) -> str | None:
        """What a command says; None when it is missing or fails."""
        ...


class LocalAccess:
    """This machine; paths are below ``root``. ``commands`` stand for programs, as tests record them."""

    def __init__(self, root: Path = Path("/"), commands: dict[str, str] | None = None) -> None:
        self.name = "this machine"
        self._root, self._commands = root, commands

    def text(self, path: str) -> str | None:
        """Content of a file."""
        try:
            with (self._root / path.lstrip("/")).open("rb") as file:
                return file.read(MOST_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return None

    def matches(self, pattern: str) -> list[str]:
        """Paths that match."""
        return sorted(f"/{path.relative_to(self._root)}" for path in self._root.glob(pattern.lstrip("/")))

    def run(self, argv: Sequence[str]) -> str | None:
        """What a command says."""
        if self._commands is not None:
            return self._commands.get(" ".join(argv))
        try:
            done = subprocess.run(argv, capture_output=True, timeout=COMMAND_S, check=True, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout[:MOST_BYTES].decode("utf-8", "replace")


class DeviceAccess:
    """A device behind a transport, whose answers are bounded and free of control characters."""

    def __init__(self, transport: Transport) -> None:
        self.name = transport.name
        self._transport = transport

    def text(self, path: str) -> str | None:
        """Content of a file."""
        return self._answer(["cat", path])

    def matches(self, pattern: str) -> list[str]:
        """Paths that match; the pattern is ours, never the device's."""
        said = self._answer(["sh", "-c", f'for path in {pattern}; do [ -e "$path" ] && echo "$path"; done; true'])
        return sorted((said or "").split())

    def run(self, argv: Sequence[str]) -> str | None:
        """What a command says."""
        return self._answer(argv)

    def _answer(self, argv: Sequence[str]) -> str | None:
        reply = self._transport.run(["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *argv], timeout_s=COMMAND_S)
        return None if reply.code else reply.stdout[:MOST_BYTES].strip()


def number(access: Access, path: str, scale: float = 1.0) -> float:
    """The number in a file times ``scale``. Raises DeviceError when there is none any more, or it is not finite."""
    text = access.text(path)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DeviceError("the sensor gives no number", where=f"{access.name}:{path}", got=repr(text)[:60])
    return value * scale


def whole_watts(watts: float, where: str) -> float:
    """``watts`` when a device can draw that much; raises DeviceError."""
    if not 0 <= watts <= 10_000:
        raise DeviceError(
            "the sensor gives an impossible power", where=where, expected="0 .. 10,000 W", got=f"{watts:g} W",
            hint="is it wired the right way round, with the right shunt value?",
        )  # fmt: skip
    return watts
