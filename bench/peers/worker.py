"""One peer, one model, one process: loads, says how it went, then runs whenever it is told to.

    python -m bench.peers.worker PEER ROW_AS_JSON KIT THREADS

Answers one JSON line when loaded, and one for each line "SECONDS" on standard input: wall and processor times of its calls in
microseconds. So a parent can interleave many peers, and each lives in an environment of its own. Calls shorter than 0.2 ms
are timed in batches of that length: reading two clocks takes a microsecond.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.row import Row

BATCH_NS = 200_000
MAX_SAMPLES = 2000  # of a round; a longer list would only make the answer long
READY_RUNS = 3


def file_of(kit: Path, row: Row, kind: str) -> Path:
    """The model file's own feed or reference, else the one of stored integers if it takes them, else the float32 one."""
    own, stored = kit / f"{Path(row.file).stem}.{kind}", kit / f"stored.{kind}"
    if own.exists():
        return own
    return stored if row.takes_stored and stored.exists() else kit / kind


def norm_error(outputs: list[Any], reference: list[Any]) -> float:
    """The largest ||output - reference|| / ||reference||; each reference is held against the output of its size."""
    worst = 0.0
    for wanted in reference:
        same_size = [y for y in outputs if y.size == wanted.size]
        if not same_size:
            raise ValueError(f"no output has {wanted.size} elements")
        distance = min(np.linalg.norm(y.astype(np.float64).ravel() - wanted.ravel()) for y in same_size)
        worst = max(worst, float(distance / np.linalg.norm(wanted)))
    return worst


def calls_of_a_batch(run: Any) -> int:
    """So many calls last ``BATCH_NS`` at least."""
    start = time.perf_counter_ns()
    for _ in range(READY_RUNS):
        run()
    one = max((time.perf_counter_ns() - start) // READY_RUNS, 1)
    return int(max(1, -(-BATCH_NS // one)))


def measure(run: Any, seconds: float, batch: int) -> dict[str, list[float]]:
    """Times of calls for about ``seconds``, three batches at least; the first call is not counted."""
    run()
    wall_us: list[float] = []
    processor_us: list[float] = []
    end = time.perf_counter_ns() + int(seconds * 1e9)
    wall = 0
    while len(wall_us) < MAX_SAMPLES and (len(wall_us) < READY_RUNS or wall < end):
        wall, processor = time.perf_counter_ns(), time.process_time_ns()
        for _ in range(batch):
            run()
        processor = time.process_time_ns() - processor
        wall_us.append((time.perf_counter_ns() - wall) / batch / 1e3)
        processor_us.append(processor / batch / 1e3)
    return {"wall_us": wall_us, "processor_us": processor_us}


def measure_kernel(loaded: Any, seconds: float) -> dict[str, list[float]]:
    """The same by the runtime's own clock around one operator; it is wall time on a core that nothing else gets."""
    loaded.run()
    times_us: list[float] = []
    end = time.perf_counter() + seconds
    while len(times_us) < MAX_SAMPLES and (len(times_us) < READY_RUNS or time.perf_counter() < end):
        loaded.run()
        times_us.append(loaded.kernel_ns() / 1e3)
    return {"wall_us": times_us, "processor_us": times_us}


def main() -> None:
    """Loads, then serves until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries that chat on standard output chat on standard error instead
    peer_name, row, kit, threads = sys.argv[1], Row(**json.loads(sys.argv[2])), Path(sys.argv[3]), int(sys.argv[4])
    peer = import_module(f"bench.peers.{peer_name}")
    path = kit / row.file
    if not path.exists():
        peer.convert(kit, row)
    started = time.perf_counter()
    loaded = peer.load(path, threads, dict(np.load(file_of(kit, row, "feed.npz"))), row.options)
    load_s = time.perf_counter() - started
    reference = np.load(file_of(kit, row, "reference.npz"))
    error = norm_error(loaded.outputs(), [reference[name] for name in reference.files])
    batch = calls_of_a_batch(loaded.run)
    ready = {"version": loaded.version, "norm_error": error, "load_s": load_s, "batch": batch}
    answers.write(json.dumps(ready) + "\n")
    for line in sys.stdin:
        is_kernel = loaded.kernel_ns is not None
        times = measure_kernel(loaded, float(line)) if is_kernel else measure(loaded.run, float(line), batch)
        answers.write(json.dumps(times) + "\n")


if __name__ == "__main__":
    main()
