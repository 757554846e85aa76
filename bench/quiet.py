"""A quiet moment on a shared machine: cores for the measured processes, real-time priority and a lock while they are timed."""

from __future__ import annotations

import argparse
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PRIORITY = 10


@dataclass(frozen=True)
class Quiet:
    """``cores`` for measured processes (none: anywhere), ``is_realtime``: SCHED_FIFO in rounds, ``lock``: one at a time."""

    cores: tuple[int, ...] = ()
    is_realtime: bool = False
    lock: Path | None = None

    def settle(self, pid: int, threads: int) -> None:
        """Pins a fresh process to the last ``threads`` of the cores; its threads to come inherit that."""
        if self.cores:
            os.sched_setaffinity(pid, self.cores[-threads:])

    def prefix(self) -> list[str]:
        """What stands before a single-threaded command that runs within a moment."""
        pinned = ["taskset", "-c", str(self.cores[-1])] if self.cores else []
        return [*(["chrt", "-f", str(PRIORITY)] if self.is_realtime else []), *pinned]

    @contextmanager
    def moment(self, pids: list[int]) -> Iterator[None]:
        """Holds the lock, and raises all threads of the processes, for as long as the block lasts."""
        with _locked(self.lock):
            self._schedule(pids, os.SCHED_FIFO, PRIORITY)
            try:
                yield
            finally:
                self._schedule(pids, os.SCHED_OTHER, 0)

    def _schedule(self, pids: list[int], policy: int, priority: int) -> None:
        for pid in pids if self.is_realtime else ():
            for thread in Path(f"/proc/{pid}/task").glob("*"):
                with suppress(ProcessLookupError):  # a thread of the peer that has just ended
                    os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))


@contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--cores, --realtime, --lock."""
    parser.add_argument("--cores", default="", help="pin measured processes to these, as 0,1; one thread takes the last")
    parser.add_argument("--realtime", action="store_true", help="SCHED_FIFO while they are timed (needs the right to)")
    parser.add_argument("--lock", type=Path, help="hold this file's lock while a round lasts")


def from_arguments(arguments: argparse.Namespace) -> Quiet:
    """What the options say."""
    cores = tuple(int(core) for core in arguments.cores.split(",") if core)
    return Quiet(cores, arguments.realtime, arguments.lock)
