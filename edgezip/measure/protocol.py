"""How a time is measured: warm-up, rounds that interleave all candidates, wall and processor time, percentiles.

Interleaving matters more than anything else on a shared machine: one run of each candidate a round, so that a slow second
hits all of them alike and their ratio survives it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgezip.errors import UsageError

PERCENTILES = (50.0, 90.0, 99.0)
CONFIDENCE_Z = 1.96  # 95 %
STRETCHES = 10
STUDENT_T = 2.262  # 95 %, nine degrees of freedom
MIN_RUNS_FOR_STRETCHES = 100


@dataclass(frozen=True)
class Latency:
    """Durations of one candidate in microseconds, in the order they were measured."""

    wall_us: tuple[float, ...]
    processor_us: tuple[float, ...] = ()
    warmup_runs: int = 0

    def percentile(self, percent: float) -> float:
        """The smallest duration that at least ``percent`` of the runs do not exceed (nearest rank)."""
        return _ranked(self.wall_us, percent)

    def interval(self, percent: float) -> tuple[float, float]:
        """95 % confidence interval of a percentile, without an assumption about the distribution.

        The order statistics alone would take the runs for independent. They are not: a machine has slow and fast moments. So
        the interval also covers the spread of the same percentile over ten stretches of the measurement.
        """
        ordered, n, share = sorted(self.wall_us), len(self.wall_us), percent / 100
        spread = CONFIDENCE_Z * (n * share * (1 - share)) ** 0.5
        low, high = ordered[max(int(n * share - spread), 0)], ordered[min(int(n * share + spread) + 1, n - 1)]
        if n < MIN_RUNS_FOR_STRETCHES:
            return low, high
        size = n // STRETCHES
        values = [_ranked(self.wall_us[k * size : (k + 1) * size], percent) for k in range(STRETCHES)]
        center = sum(values) / STRETCHES
        error = (sum((value - center) ** 2 for value in values) / (STRETCHES - 1) / STRETCHES) ** 0.5
        return min(low, center - STUDENT_T * error), max(high, center + STUDENT_T * error)

    def as_dict(self, percentiles: Sequence[float] = PERCENTILES) -> dict[str, float | list[float]]:
        """``latency_us`` of the JSON: percentiles, min, mean, stdev, n, and the interval of each percentile."""
        n = len(self.wall_us)
        mean = sum(self.wall_us) / n
        variance = sum((t - mean) ** 2 for t in self.wall_us) / (n - 1) if n > 1 else 0.0
        values: dict[str, float | list[float]] = {name_of(p): round(self.percentile(p), 3) for p in percentiles}
        values |= {"min": round(min(self.wall_us), 3), "mean": round(mean, 3), "stdev": round(variance**0.5, 3), "n": n}
        if self.processor_us:
            values["processor_p50"] = round(_ranked(self.processor_us, 50), 3)
        for p in percentiles:
            values[f"{name_of(p)}_interval"] = [round(t, 3) for t in self.interval(p)]
        return values


def name_of(percent: float) -> str:
    """50 -> "p50", 99.9 -> "p99.9"."""
    return f"p{percent:g}"


def _ranked(durations: Sequence[float], percent: float) -> float:
    ordered = sorted(durations)
    return ordered[max(0, min(len(ordered) - 1, -int(-percent * len(ordered) // 100) - 1))]


@dataclass(frozen=True)
class Protocol:
    """When to stop: at least ``runs`` rounds and at least ``min_time_s`` of measuring, after the warm-up."""

    warmup_runs: int = 3
    warmup_s: float = 0.2
    runs: int = 50
    min_time_s: float = 0.5
    max_runs: int = 100_000

    def __post_init__(self) -> None:
        if self.runs < 1 or self.warmup_runs < 0 or self.warmup_s < 0 or self.min_time_s < 0:
            raise UsageError("a benchmark needs at least one run and no negative time", where="--runs, --warmup, --min-time")


@dataclass
class _Trace:
    wall_us: list[float] = field(default_factory=list)
    processor_us: list[float] = field(default_factory=list)


def measure_latency(run: Callable[[], object], protocol: Protocol = Protocol()) -> Latency:
    """Durations of ``run``."""
    return measure_interleaved({"run": run}, protocol)["run"]


def measure_interleaved(candidates: Mapping[str, Callable[[], object]], protocol: Protocol = Protocol()) -> dict[str, Latency]:
    """Durations of every candidate; one run of each a round, the order turning by one each round.

    The turning keeps a candidate from always running behind the same neighbour, whose data is then in the cache.
    """
    warmups = {name: _warm_up(run, protocol) for name, run in candidates.items()}
    traces = {name: _Trace() for name in candidates}
    names = list(candidates)
    started = time.perf_counter()
    for done in range(protocol.max_runs):
        if done >= protocol.runs and time.perf_counter() - started >= protocol.min_time_s:
            break
        turn = done % len(names)
        for name in names[turn:] + names[:turn]:
            _time_once(candidates[name], traces[name])
    return {name: Latency(tuple(t.wall_us), tuple(t.processor_us), warmups[name]) for name, t in traces.items()}


def _warm_up(run: Callable[[], object], protocol: Protocol) -> int:
    started, done = time.perf_counter(), 0
    while done < protocol.warmup_runs or (protocol.warmup_runs and time.perf_counter() - started < protocol.warmup_s):
        run()
        done += 1
    return done


def _time_once(run: Callable[[], object], trace: _Trace) -> None:
    processor, wall = time.process_time_ns(), time.perf_counter_ns()
    run()
    wall, processor = time.perf_counter_ns() - wall, time.process_time_ns() - processor
    trace.wall_us.append(wall / 1000)
    trace.processor_us.append(processor / 1000)
