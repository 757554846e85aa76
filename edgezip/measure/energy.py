"""Energy of an inference: idle, run and idle windows of a sensor, gross and net joules, sample counts and spread.

Gross is what was drawn while it ran, net is that less what is drawn while nothing runs, measured before and after. Too few
samples, or a reading that is no number, is refused: a guess would look like a measurement.
"""

from __future__ import annotations

import csv
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgezip.errors import DeviceError, MissingFileError, SampleError
from edgezip.measure.sensors import Sensor

IDLE_S, RUN_S = 10.0, 10.0
INTERVAL_S = 0.1
LEAST_SAMPLES = 20
LEAST_RUNS = 10
LEAST_IDLE_SAMPLES = 5  # of each idle window
MOST_ROWS = 10_000_000  # of a meter's file


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when, in seconds of the samples' clock."""

    start_s: float
    end_s: float


@dataclass
class Trace:
    """Watts with their moments, in order."""

    times_s: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)

    def within(self, window: Window) -> Trace:
        """The samples of a window."""
        kept = [(t, w) for t, w in zip(self.times_s, self.watts, strict=True) if window.start_s <= t <= window.end_s]
        return Trace([t for t, _ in kept], [w for _, w in kept])

    def mean_w(self) -> float:
        """By time: trapezoids over the samples' own moments."""
        if len(self.watts) < 2 or self.times_s[-1] <= self.times_s[0]:
            return self.watts[0] if self.watts else math.nan
        moments, watts = self.times_s, self.watts
        joules = sum((watts[k] + watts[k + 1]) / 2 * (moments[k + 1] - moments[k]) for k in range(len(watts) - 1))
        return joules / (moments[-1] - moments[0])

    def deviation_w(self) -> float:
        """Standard deviation of the samples."""
        mean = sum(self.watts) / len(self.watts)
        return math.sqrt(sum((w - mean) ** 2 for w in self.watts) / max(1, len(self.watts) - 1))


class Sampler:
    """Reads a sensor in a thread of its own while something else runs; power is the slope of an energy counter."""

    def __init__(self, sensor: Sensor, interval_s: float = INTERVAL_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._sensor, self._interval_s, self._clock = sensor, interval_s, clock
        self._values: list[tuple[float, float]] = []
        self._fault: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            while not self._done.is_set():
                before = self._clock()
                value = self._sensor.read()
                self._values.append(((before + self._clock()) / 2, value))
                self._done.wait(self._interval_s)
        except BaseException as error:
            self._fault = error

    def trace(self) -> Trace:
        """What was read; raises what the sensor raised."""
        if self._fault is not None:
            raise self._fault
        if self._sensor.kind == "power":
            return Trace([t for t, _ in self._values], [w for _, w in self._values])
        pairs = zip(self._values, self._values[1:], strict=False)
        slopes = [((t0 + t1) / 2, (j1 - j0) / (t1 - t0)) for (t0, j0), (t1, j1) in pairs if t1 > t0]
        return Trace([t for t, _ in slopes], [w for _, w in slopes])


def measure(
    sensor: Sensor, run: Callable[[], int], *, idle_s: float = IDLE_S, run_s: float = RUN_S, interval_s: float = INTERVAL_S
) -> dict[str, Any]:
    """Energy of ``run``, which does some inferences and says how many; repeated for at least ``run_s`` seconds.

    Raises DeviceError (the sensor failed, or gave too few samples).
    """
    with Sampler(sensor, interval_s) as sampler:
        before, done, during, after = _windows(run, idle_s, run_s, time.monotonic)
    return figures(sampler.trace(), before, during, after, done, sensor.source)


def _windows(
    run: Callable[[], int], idle_s: float, run_s: float, clock: Callable[[], float]
) -> tuple[Window, int, Window, Window]:
    start = clock()
    time.sleep(idle_s)
    begun, done = clock(), 0
    while done < LEAST_RUNS or clock() - begun < run_s:
        done += run()
    ended = clock()
    time.sleep(idle_s)
    return Window(start, begun), done, Window(begun, ended), Window(ended, clock())


def figures(trace: Trace, before: Window, during: Window, after: Window, runs: int, source: str) -> dict[str, Any]:
    """The ``energy`` object of the JSON. Raises DeviceError when a window has too few samples."""
    if not all(map(math.isfinite, trace.watts)):
        raise DeviceError("the sensor gave something that is no number", where=source)
    busy, idle = trace.within(during), [trace.within(window) for window in (before, after)]
    for name, part, least in (
        ("run", busy, LEAST_SAMPLES),
        ("idle", idle[0], LEAST_IDLE_SAMPLES),
        ("idle", idle[1], LEAST_IDLE_SAMPLES),
    ):
        if len(part.watts) < least:
            raise DeviceError(
                f"too few samples in the {name} window", where=source, expected=f"{least}", got=str(len(part.watts)),
                hint="a faster sensor, or a longer --min-time",
            )  # fmt: skip
    seconds = during.end_s - during.start_s
    run_w, idle_w = busy.mean_w(), sum(part.mean_w() for part in idle) / 2
    return {
        "source": source,
        "gross_mj": run_w * seconds / runs * 1e3,
        "net_mj": (run_w - idle_w) * seconds / runs * 1e3,
        "run_w": run_w,
        "idle_w": idle_w,
        "idle_drift_w": idle[1].mean_w() - idle[0].mean_w(),
        "spread_w": busy.deviation_w(),
        "samples": len(busy.watts),
        "rate_hz": len(busy.watts) / seconds,
        "runs": runs,
        "seconds": seconds,
    }


def facts(drawn: dict[str, Any] | None) -> dict[str, Any]:
    """``energy_mj`` (gross), ``power_w`` and ``power_source`` of the JSON, and all figures as ``energy``; None: no sensor."""
    if drawn is None:
        return {"energy_mj": None, "power_w": None, "power_source": "no sensor"}
    return {"energy_mj": drawn["gross_mj"], "power_w": drawn["run_w"], "power_source": drawn["source"], "energy": drawn}


# --- an external meter --------------------------------------------------------------------------------------------------------


def from_meter(path: Path, windows: tuple[Window, Window, Window] | None, runs: int) -> dict[str, Any]:
    """Energy from a meter's CSV: columns ``time_s`` and ``watts``, and ``mark`` (``idle``, ``run``, or empty) or ``windows``.

    Marks in the file say what the windows are: an idle stretch, one run stretch, an idle stretch. Without them ``windows`` are
    seconds of the Unix clock, which the meter must share. Raises MissingFileError, SampleError (row and value), DeviceError.
    """
    trace, marks = _read(path)
    if any(marks):
        windows = _marked(path, trace.times_s, marks)
    if windows is None:
        raise SampleError("the file has no marks", where=str(path), expected="a column mark with idle and run")
    before, during, after = windows
    return figures(trace, before, during, after, runs, f"meter {path.name}")


def _read(path: Path) -> tuple[Trace, list[str]]:
    if not path.is_file():
        raise MissingFileError("no such file of a meter", where=str(path), hint="export it as CSV: time_s,watts[,mark]")
    trace, marks = Trace(), []
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not {"time_s", "watts"} <= set(rows.fieldnames or ()):
            raise SampleError(
                "not a meter's file", where=str(path), expected="columns time_s and watts", got=str(rows.fieldnames)[:80]
            )
        for number, row in enumerate(rows, start=2):
            try:
                moment, watts = float(row["time_s"]), float(row["watts"])
            except (TypeError, ValueError):
                moment = watts = math.nan
            if number > MOST_ROWS or not (math.isfinite(moment) and math.isfinite(watts) and 0 <= watts <= 10_000):
                raise SampleError(
                    "not a sample", where=f"{path}, line {number}", expected="seconds and 0 .. 10,000 W", got=str(row)[:80]
                )
            if trace.times_s and moment <= trace.times_s[-1]:
                raise SampleError("time does not go on", where=f"{path}, line {number}", got=row["time_s"])
            trace.times_s.append(moment)
            trace.watts.append(watts)
            marks.append((row.get("mark") or "").strip())
    return trace, marks


def _marked(path: Path, times_s: Sequence[float], marks: Sequence[str]) -> tuple[Window, Window, Window]:
    """The stretches of marks: idle, run, idle."""
    stretches: list[tuple[str, float, float]] = []
    for moment, mark in zip(times_s, marks, strict=True):
        if stretches and stretches[-1][0] == mark:
            stretches[-1] = (mark, stretches[-1][1], moment)
        else:
            stretches.append((mark, moment, moment))
    named = [stretch for stretch in stretches if stretch[0]]
    if [name for name, _, _ in named] != ["idle", "run", "idle"]:
        raise SampleError(
            "the marks are not an idle, a run and an idle stretch",
            where=str(path),
            got=", ".join(name for name, _, _ in named)[:80],
        )
    before, during, after = (Window(start, end) for _, start, end in named)
    return before, during, after
