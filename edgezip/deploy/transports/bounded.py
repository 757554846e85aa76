"""A child process that is not trusted: bounded in output and time, its text stripped of control characters.

One loop feeds and reads, so that the time limit also holds while a dead link takes no input. The child has a session of its
own: Ctrl-C ends it through us, with the clean-up of our caller, and a time-out ends its children too.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from edgezip.deploy.transports import Reply
from edgezip.errors import DeviceError, ToolError

MAX_OUTPUT_BYTES = 64 << 20
MAX_LINE_BYTES = 1 << 20
BLOCK = 1 << 16
HELD_PIPE_S = 0.5  # a pipe that something else keeps open after the child's end is left after this long


def clean(data: bytes) -> str:
    """UTF-8 text without control characters (a device must not steer the terminal); newlines and tabs stay."""
    text = data.decode("utf-8", "replace")
    return "".join(c for c in text if c in "\n\t" or (c >= " " and c != "\x7f" and not "\x80" <= c <= "\x9f"))


def run_bounded(argv: Sequence[str], *, where: str, stdin: bytes, timeout_s: float, cwd: Path | None = None) -> Reply:
    """Run ``argv`` here. Raises ToolError (not installed), DeviceError (too much output, a line over 1 MiB, out of time).

    The exit code of a child killed by signal n is 128 + n, as a shell says it.
    """
    child = _start(argv, where, cwd)
    exchange = _Exchange(child, stdin)
    try:
        finished = exchange.run(time.monotonic() + timeout_s)
    finally:
        _end(child)
    if exchange.flooded:
        raise DeviceError("the answer is larger than any honest one", where=where, expected="lines under 1 MiB, 64 MiB in all")
    if not finished:
        raise DeviceError(f"no answer within {timeout_s:.0f} s", where=where, hint="is the device busy, or the connection slow?")
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    return Reply(code, clean(bytes(exchange.stdout)), clean(bytes(exchange.stderr)))


def _start(argv: Sequence[str], where: str, cwd: Path | None) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, bufsize=0, start_new_session=True)
    except FileNotFoundError as error:
        raise ToolError(
            f"{error.filename} is not there", where=where, hint="install it, or check the path; `edgezip doctor` helps"
        ) from error
    except PermissionError as error:
        raise ToolError(f"{error.filename} may not be run", where=where) from error
    except OSError as error:  # a binary of another machine
        raise ToolError(f"cannot run {argv[0]}: {error.strerror}", where=where, hint="check --target") from error


class _Exchange:
    """What goes into a child and comes out of it."""

    def __init__(self, child: subprocess.Popen[bytes], stdin: bytes) -> None:
        self.child = child
        self.stdout, self.stderr = bytearray(), bytearray()
        self.flooded = False
        self._rest = memoryview(stdin)

    def run(self, deadline: float) -> bool:
        """True when the child ended by itself and was heard out."""
        with selectors.DefaultSelector() as waiting:
            for stream, kept in ((self.child.stdout, self.stdout), (self.child.stderr, self.stderr), (self.child.stdin, None)):
                assert stream is not None
                os.set_blocking(stream.fileno(), False)
                waiting.register(stream, selectors.EVENT_READ if kept is not None else selectors.EVENT_WRITE, kept)
            while waiting.get_map() and not self.flooded:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                ready = waiting.select(min(left, HELD_PIPE_S))
                if not ready and self.child.poll() is not None:
                    break
                for key, _ in ready:
                    if not self._advance(key.fileobj, key.data):  # type: ignore[arg-type]
                        waiting.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        if self.flooded:
            return False
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(max(0.0, deadline - time.monotonic()))
        return self.child.returncode is not None

    def _advance(self, stream: IO[bytes], kept: bytearray | None) -> bool:
        """One block in or out; False when this pipe is done."""
        if kept is None:
            return self._feed(stream)
        block = os.read(stream.fileno(), BLOCK)
        kept += block
        self.flooded |= len(self.stdout) + len(self.stderr) > MAX_OUTPUT_BYTES or len(kept) - kept.rfind(b"\n") > MAX_LINE_BYTES
        return bool(block)

    def _feed(self, stream: IO[bytes]) -> bool:
        try:
            self._rest = self._rest[os.write(stream.fileno(), self._rest[:BLOCK]) :] if self._rest else self._rest
        except BrokenPipeError:
            return False  # the command ended early; its exit code says why
        return bool(self._rest)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what still runs of the child's session, reap the child, close its pipes."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
