"""A child process whose output is not trusted: bounded in size and time, stripped of control characters."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from edgezip.deploy.transports import Reply
from edgezip.errors import DeviceError, ToolError

MAX_OUTPUT_BYTES = 64 << 20
MAX_LINE_BYTES = 1 << 20


def clean(data: bytes) -> str:
    """UTF-8 text without control characters (a device must not steer the terminal); newlines and tabs stay."""
    text = data.decode("utf-8", "replace")
    return "".join(c for c in text if c in "\n\t" or (c >= " " and c != "\x7f" and not "\x80" <= c <= "\x9f"))


def run_bounded(argv: Sequence[str], *, where: str, stdin: bytes, timeout_s: float, cwd: Path | None = None) -> Reply:
    """Run ``argv`` here. Raises ToolError (not installed), DeviceError (too much output, a line over 1 MiB, out of time)."""
    try:
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd)
    except FileNotFoundError as error:
        raise ToolError(
            f"{error.filename} is not there", where=where, hint="install it, or check the path; `edgezip doctor` helps"
        ) from error
    except PermissionError as error:
        raise ToolError(f"{error.filename} may not be run", where=where) from error
    flooded = threading.Event()
    kept: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    def drain(name: str) -> None:
        stream = getattr(child, name)
        while block := stream.read1(1 << 16):
            kept[name] += block
            if len(kept[name]) > MAX_OUTPUT_BYTES or len(kept[name]) - kept[name].rfind(b"\n") > MAX_LINE_BYTES:
                flooded.set()
                child.kill()
                return

    readers = [threading.Thread(target=drain, args=(name,), daemon=True) for name in kept]
    for reader in readers:
        reader.start()
    try:
        _feed(child, stdin)
        child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"no answer within {timeout_s:.0f} s", where=where, hint="is the device busy, or the connection slow?"
        ) from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for reader in readers:
            reader.join(5)
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    if flooded.is_set():
        raise DeviceError("the answer is larger than any honest one", where=where, expected="lines under 1 MiB, 64 MiB in all")
    return Reply(child.returncode, clean(bytes(kept["stdout"])), clean(bytes(kept["stderr"])))


def _feed(child: subprocess.Popen[bytes], stdin: bytes) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(stdin)
        child.stdin.close()
    except BrokenPipeError:
        return  # the command ended early; its exit code says why
