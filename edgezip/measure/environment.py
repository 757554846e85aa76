"""Where a measurement was made: processor, governor, clock, temperature, kernel, load; and whether it throttled."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROC = Path("/proc")
SYS = Path("/sys")


def describe(proc: Path = PROC, sys: Path = SYS) -> dict[str, Any]:
    """The ``environment`` object of the JSON; what cannot be read is null."""
    return {
        "cpu": cpu_name(proc),
        "cores": os.cpu_count(),
        "governor": _text(sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock_mhz": clock_mhz(proc, sys),
        "temperature_c": temperature_c(sys),
        "kernel": platform.release(),
        "load_1min": load_1min(proc),
    }


def cpu_name(proc: Path = PROC) -> str | None:
    """Model name of the first processor; the machine architecture when the kernel gives no name (many ARM kernels)."""
    facts = _cpu_facts(proc)
    return facts.get("model name") or facts.get("Model") or facts.get("Hardware") or platform.machine() or None


def clock_mhz(proc: Path = PROC, sys: Path = SYS) -> float | None:
    """Present clock of processor 0."""
    khz = _text(sys / "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if khz is not None:
        return float(khz) / 1000
    mhz = _cpu_facts(proc).get("cpu MHz")
    return float(mhz) if mhz else None


def temperature_c(sys: Path = SYS) -> float | None:
    """Warmest thermal zone."""
    readings = [_text(path) for path in sorted((sys / "class/thermal").glob("thermal_zone*/temp"))]
    degrees = [int(text) / 1000 for text in readings if text and text.lstrip("-").isdigit()]
    return max(degrees, default=None)


def load_1min(proc: Path = PROC) -> float | None:
    """Runnable processes, averaged over the last minute: above the core count, times are noise."""
    text = _text(proc / "loadavg")
    return float(text.split()[0]) if text else None


@dataclass
class ThrottleWatch:
    """Tells whether the machine throttled between its creation and the question."""

    sys: Path = SYS

    def __post_init__(self) -> None:
        self._before = self._events()

    def throttled(self) -> bool | None:
        """True or False by the kernel's throttle counters; None when this machine has none."""
        after = self._events()
        return None if after is None or self._before is None else after > self._before

    def _events(self) -> int | None:
        counters = (self.sys / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
        counts = [int(text) for path in counters if (text := _text(path)) and text.isdigit()]
        return sum(counts) if counts else None


def _cpu_facts(proc: Path) -> dict[str, str]:
    """Keys of the first block of cpuinfo, and of the last lines, where ARM kernels name the board."""
    facts: dict[str, str] = {}
    for line in (_text(proc / "cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())
    return facts


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:  # absent on this kernel, or not for us to read: the answer is "unknown"
        return None
