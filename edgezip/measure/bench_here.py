"""Times of a program in this process: whole runs beside their rivals, and layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgezip.measure import energy, environment, step_cost
from edgezip.measure.protocol import PERCENTILES, Latency, Protocol, measure_interleaved
from edgezip.measure.sensors import Sensor
from edgezip.program import Program

Array = np.ndarray[Any, Any]
Feed = Mapping[str, Array]
Rival = Callable[[Feed], object]
OURS = "edgezip"
PROFILED_RUNS = 30
DEFAULT_PLAN = Protocol()


def bench(
    program: Program,
    feed: Feed,
    file_bytes: int,
    *,
    threads: int = 1,
    affinity: str | None = None,
    plan: Protocol = DEFAULT_PLAN,
    percentiles: Sequence[float] = PERCENTILES,
    rivals: Mapping[str, Rival] | None = None,
    sensor: Sensor | None = None,
    per_layer: bool = False,
) -> dict[str, Any]:
    """The bench figures of ``report.schema`` at one thread count; rivals run interleaved with it, on the same feed."""
    from edgezip.runtime.session import Session

    session = Session(program, threads=threads, affinity=affinity)
    candidates: dict[str, Callable[[], object]] = {OURS: lambda: session.run(feed)}
    candidates |= {name: _bound(run, feed) for name, run in (rivals or {}).items()}
    watch = environment.ThrottleWatch()
    measured = measure_interleaved(candidates, plan)
    mine = measured.pop(OURS)
    drawn = None if sensor is None else energy.measure(sensor, lambda: _runs(candidates[OURS]))
    return {
        "threads": threads,
        "affinity": session.affinity,
        "isa": session.isa,
        "latency_us": mine.as_dict(percentiles),
        "warmup": mine.warmup_runs,
        "peak_memory_bytes": step_cost.planned_memory_bytes(program, file_bytes),
        "peak_memory_source": "planned: program, arena, scratch, inputs and outputs",
        "file_bytes": file_bytes,
        **energy.facts(drawn),
        "throttled": watch.throttled(),
        "comparisons": [compare(name, rival, mine, percentiles) for name, rival in measured.items()],
        "layers": profile(program, feed, threads, affinity) if per_layer else [],
    }


def compare(name: str, rival: Latency, mine: Latency, percentiles: Sequence[float]) -> dict[str, Any]:
    """A rival's latency and its ratios to ours: above 1, we are faster."""
    theirs, ours = rival.as_dict(percentiles), mine.as_dict(percentiles)
    return {
        "peer": name,
        "latency_us": theirs,
        "ratio_p50": rival.percentile(50) / mine.percentile(50),
        "ratio_processor": _ratio(theirs, ours, "processor_p50"),
    }


def profile(program: Program, feed: Feed, threads: int = 1, affinity: str | None = None) -> list[dict[str, Any]]:
    """Median time of each step over 30 runs of a session that keeps them, with its multiplications and bytes."""
    from edgezip.runtime.session import Session

    session = Session(program, threads=threads, profile=True, affinity=affinity)
    times_us = []
    for _ in range(PROFILED_RUNS):
        session.run(feed)
        times_us.append([nanoseconds / 1000 for *_, nanoseconds in session.profile()])
    medians = np.median(times_us[PROFILED_RUNS // 5 :], axis=0)  # the first ones warm up
    return [
        {
            "name": step.name,
            "op": op,
            "kernel": kernel,
            "threads": used,
            "us": round(float(us), 3),
            "macs": step_cost.macs(program, step),
            "bytes": step_cost.bytes_moved(program, step),
        }
        for step, (_, op, kernel, _), used, us in zip(
            program.steps, session.profile(), session.step_threads(), medians, strict=True
        )
    ]


RUNS_AT_ONCE = 8  # between looks at the clock


def _runs(run: Callable[[], object]) -> int:
    for _ in range(RUNS_AT_ONCE):
        run()
    return RUNS_AT_ONCE


def _bound(run: Rival, feed: Feed) -> Callable[[], object]:
    return lambda: run(feed)


def _ratio(theirs: Mapping[str, Any], ours: Mapping[str, Any], figure: str) -> float | None:
    return float(theirs[figure]) / float(ours[figure]) if ours.get(figure) else None
