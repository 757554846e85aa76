"""An Android device over the system's own adb, by cable or Wi-Fi; ``adb devices`` must list it as ``device``.

The static runner needs no C library of the device. Exit codes and binary input come through since Android 7 (shell protocol 2).
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence

from edgezip.deploy.transports import Reply
from edgezip.deploy.transports.bounded import run_bounded
from edgezip.errors import DeviceUnreachableError, ToolError, UsageError

SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
# What adb itself says, in front of its reason; the commands that run there are ours and never begin so.
FAILED = re.compile(r"^(?:error|adb): (.*)$", re.MULTILINE)
REASONS = {
    "unauthorized": "unlock the device and allow this computer",
    "offline": "reconnect it: adb reconnect",
    "not found": "adb devices shows what is there; for Wi-Fi: adb connect ADDRESS",
    "more than one": "say which: adb:SERIAL",
}


class AdbTransport:
    """``serial`` is what ``adb devices`` calls the device: a serial number, or ADDRESS:PORT."""

    is_emulated = False

    def __init__(self, serial: str) -> None:
        if not SERIAL.fullmatch(serial):
            raise UsageError(
                "not the name of an Android device", where="--host adb:...", expected="as in `adb devices`", got=serial
            )
        if shutil.which("adb") is None:
            raise ToolError("adb is not installed", hint="apt install adb")
        self.name = f"adb:{serial}"
        self._adb = ["adb", "-s", serial, "shell", "-T"]

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        """Run ``argv`` on the device, each word quoted for its shell, which waits for it: a signal is then a number over 128."""
        remote = shlex.join(["sh", "-c", '"$@"; exit $?', "sh", *argv])
        reply = run_bounded([*self._adb, remote], where=self.name, stdin=stdin, timeout_s=timeout_s)
        said = FAILED.search(reply.stderr) if reply.code == 1 and not reply.stdout else None
        if said is not None:
            hint = next(
                (hint for word, hint in REASONS.items() if word in said.group(1)), "is it connected, with USB debugging on?"
            )
            raise DeviceUnreachableError(said.group(1), where=self.name, hint=hint)
        return reply

    def close(self) -> None:
        """adb's server stays, as it does for everybody."""
