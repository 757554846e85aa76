"""Where ``edgezip targets calibrate`` measures: in this process, on user@address, or under an emulator."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgezip.measure.device import Device
    from edgezip.program import Program
    from edgezip.target import Target
    from edgezip.tuning import Tuning


def tune(target: Target, host: str | None, emulate: bool) -> Tuning:
    """The coefficients of ``target``; raises what opening a device raises."""
    return _on_device(target, host, emulate) if host or emulate else _here(target)


def _source(place: str, what: str) -> str:
    from edgezip import __version__

    return f"{what} on {place}, {datetime.date.today().isoformat()}, by edgezip {__version__} targets calibrate"


def _here(target: Target) -> Tuning:
    from edgezip import tuning
    from edgezip.measure import environment
    from edgezip.measure.step_times import step_times

    threads = min(2, len(os.sched_getaffinity(0)))
    place = str(environment.describe().get("cpu") or "this machine")
    return tuning.measure(target, step_times, threads, _source(place, "measured"))


def _on_device(target: Target, host: str | None, emulate: bool) -> Tuning:
    from edgezip import tuning

    what = "emulated, so the figures mean nothing," if emulate else "measured"
    with _device(target, host, tuning.probes(target)[0]) as first:
        place, threads = first.name, min(2, first.processors())

    def step_times(program: Program, count: int) -> list[float]:
        with _device(target, host, program) as device:
            return device.step_times(count)

    return tuning.measure(target, step_times, threads, _source(place, what))


def _device(target: Target, host: str | None, program: Program) -> Device:
    from edgezip.cli.programs import Opened, open_device

    return open_device(Opened(Path("probe"), program, b"", target.name), host)
