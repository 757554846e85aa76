"""Runs trials in processes of their own: a crash or a hang is one more result and ends nothing."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.conformance.trial import Result, Verdict

LIMIT_S = 180.0  # of one case; VGG-19 with its 575 MB of made-up weights takes 30 on a busy machine


@dataclass(slots=True)
class _Worker:
    process: Any
    pipe: Any
    busy: int = -1  # number of the case in work
    since: float = 0.0
    done: dict[int, Result] = field(default_factory=dict)


def run_all(count: int, trial: Callable[[int], Result], workers: int, limit_s: float = LIMIT_S) -> list[Result]:
    """``trial(i)`` for i in [0, count), each in one of ``workers`` forked processes; a lost process costs one case."""
    context = multiprocessing.get_context("fork")
    results: list[Result | None] = [None] * count
    waiting = iter(range(count))
    pool = [_start(context, trial) for _ in range(min(workers, count))]
    for worker in pool:
        _give(worker, next(waiting, -1))
    while any(worker.busy >= 0 for worker in pool):
        ready = multiprocessing.connection.wait([w.pipe for w in pool if w.busy >= 0], timeout=0.5)
        for place, worker in enumerate(pool):
            if worker.busy < 0:
                continue
            result = _collect(worker, worker.pipe in ready, limit_s)
            if result is None:
                continue
            results[worker.busy] = result
            if not worker.process.is_alive() or result.reason == "hangs":
                worker.pipe.close()
                worker.process.join()
                pool[place] = worker = _start(context, trial)
            _give(worker, next(waiting, -1))
    for worker in pool:
        worker.process.join()
    return [result for result in results if result is not None]


def _start(context: Any, trial: Callable[[int], Result]) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, trial), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _serve(pipe: Any, trial: Callable[[int], Result]) -> None:
    while (number := pipe.recv()) >= 0:
        pipe.send(trial(number))


def _give(worker: _Worker, number: int) -> None:
    worker.pipe.send(number)
    worker.busy, worker.since = number, time.monotonic()


def _collect(worker: _Worker, is_ready: bool, limit_s: float) -> Result | None:
    """The result of the case in work, when there is one or the process is lost."""
    if is_ready:
        try:
            result: Result = worker.pipe.recv()
        except EOFError:
            worker.process.join()
            code = worker.process.exitcode
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return Result(Verdict.CRASHED, name)
        return result
    if time.monotonic() - worker.since > limit_s:
        worker.process.kill()
        worker.process.join()
        return Result(Verdict.CRASHED, "hangs")
    return None


def crashes(results: Sequence[Result]) -> int:
    """How many were lost."""
    return sum(result.verdict is Verdict.CRASHED for result in results)
