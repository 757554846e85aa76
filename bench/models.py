"""How fast? Whole models of the zoo, ours beside the peers, interleaved run by run.

    python -m bench.models [--work .work/zoo] [--threads 1,2] [--runs 50] [--min-time 5] [task ...]

Candidates: our int8 program, ONNX Runtime with the float model, and ONNX Runtime with its own int8 model. Ratios are peer over
ours: above 1 we are faster. Writes bench/results/<date>-<host>-models.json and prints a table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench import ours, protocol
from bench.peers import onnxruntime_quantizer
from bench.zoo import TASKS, load_task
from bench.zoo.runners import RUNNERS
from bench.zoo.task import Task
from edgezip.errors import EdgeZipError
from edgezip.measure.environment import ThrottleWatch
from edgezip.measure.protocol import Latency, Protocol, measure_interleaved
from edgezip.report import text

OURS = "edgezip int8"
COLUMNS = ("task", "threads", "candidate", "p50", "min", "processor p50", "ratio p50", "ratio processor")


def candidates(task: Task, work: Path, threads: int) -> dict[str, Callable[[], object]]:
    """What is measured, each bound to the first scored sample."""
    feed = ours.first_feed(task, work)
    program = ours.compile_for_host(task, work, ours.quantize(task, work))
    peer_int8 = work / f"{task.name}.ort-minmax.onnx"
    if not peer_int8.exists():
        onnxruntime_quantizer.quantize(task.model(work), task.calibration(work), "minmax", peer_int8)
    return {
        OURS: partial(RUNNERS["edgezip"](program, feed, threads), feed),
        "onnxruntime float32": partial(RUNNERS["ort"](task.model(work), feed, threads), feed),
        "onnxruntime int8": partial(RUNNERS["ort"](peer_int8, feed, threads), feed),
    }


def measure(task: Task, work: Path, threads: int, plan: Protocol) -> dict[str, Any]:
    """One task at one thread count."""
    watch = ThrottleWatch()
    measured = measure_interleaved(candidates(task, work, threads), plan)
    rows = {name: {"latency_us": latency.as_dict(), **ratios(latency, measured[OURS])} for name, latency in measured.items()}
    return {"task": task.name, "threads": threads, "throttled": watch.throttled(), "candidates": rows}


def ratios(peer: Latency, mine: Latency) -> dict[str, float]:
    """Peer over ours, by wall time and by processor time."""
    wall = peer.percentile(50) / mine.percentile(50)
    processor = float(peer.as_dict()["processor_p50"]) / float(mine.as_dict()["processor_p50"])  # type: ignore[arg-type]
    return {"ratio_p50": round(wall, 3), "ratio_processor": round(processor, 3)}


def table(results: list[dict[str, Any]]) -> str:
    """One line a candidate; times in microseconds."""
    lines = []
    for result in results:
        for name, row in result["candidates"].items():
            latency = row["latency_us"]
            times = (latency["p50"], latency["min"], latency["processor_p50"])
            lines.append((result["task"], result["threads"], name, *times, row["ratio_p50"], row["ratio_processor"]))
    return text.table(COLUMNS, lines)


def main() -> int:
    """Measures the named tasks (default: all)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("--threads", default="1")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--min-time", type=float, default=5.0)
    parser.add_argument("--results", type=Path, default=protocol.RESULTS)
    arguments = parser.parse_args()
    plan = Protocol(runs=arguments.runs, min_time_s=arguments.min_time)
    results = []
    for name in arguments.tasks or TASKS:
        for threads in arguments.threads.split(","):
            results.append(measure(load_task(name), arguments.work, int(threads), plan))
            print(table(results[-1:]), flush=True)
    path = protocol.save("models", {"results": results, "runs": plan.runs, "min_time_s": plan.min_time_s}, arguments.results)
    print(f"\n{table(results)}\nwrote {path}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgeZipError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
