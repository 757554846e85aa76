"""What a device says of itself: processor, clock, temperature, load, free memory, and whether it throttled meanwhile.

One shell script asks for everything and prints a "key value" line each; a file that is not there gives an empty value.
"""

from __future__ import annotations

from typing import Any

from edgezip.deploy.transports import Transport
from edgezip.errors import DeviceError
from edgezip.program import Program

MARGIN_BYTES = 4 << 20  # stacks, the runner's own data, page tables
# Bits of the Raspberry Pi's firmware: clock capped, throttled, soft temperature limit; the same 16 higher: since start-up.
THROTTLED_NOW = 0b1110
THROTTLED_SINCE = THROTTLED_NOW << 16

SCRIPT = r"""
line() { printf '%s %s\n' "$1" "$2"; }
cpus=/sys/devices/system/cpu
cpu=$cpus/cpu0/cpufreq
line cpu "$(grep -m1 -e '^Model' -e '^model name' /proc/cpuinfo | cut -d: -f2-)"
line cores "$(grep -c '^processor' /proc/cpuinfo)"
line governor "$(cat $cpu/scaling_governor 2>/dev/null)"
line khz "$(cat $cpu/scaling_cur_freq 2>/dev/null)"
line millidegrees "$(cat /sys/class/thermal/thermal_zone0/temp 2>/dev/null)"
line kernel "$(uname -r)"
line load "$(cut -d' ' -f1 /proc/loadavg 2>/dev/null)"
line available_kb "$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo 2>/dev/null)"
line pi_flags "$(cat /sys/devices/platform/soc/soc:firmware/get_throttled 2>/dev/null ||
  vcgencmd get_throttled 2>/dev/null | cut -d= -f2)"
line throttle_events "$(cat $cpus/cpu[0-9]*/thermal_throttle/*_throttle_count 2>/dev/null |
  awk '{n += $1} END {if (NR) print n}')"
"""


def ask(transport: Transport) -> dict[str, str]:
    """The device's answer by key. Raises DeviceUnreachableError, DeviceError."""
    lines = (line.partition(" ") for line in transport.run(["sh", "-c", SCRIPT]).stdout.splitlines())
    return {key: value.strip() for key, _, value in lines}


def environment(said: dict[str, str]) -> dict[str, Any]:
    """The ``environment`` object of the JSON; what the device did not say is null."""
    cores = _number(said, "cores")
    return {
        "cpu": said.get("cpu") or None,
        "cores": None if cores is None else int(cores),
        "governor": said.get("governor") or None,
        "clock_mhz": _number(said, "khz", 1000),
        "temperature_c": _number(said, "millidegrees", 1000),
        "kernel": said.get("kernel") or None,
        "load_1min": _number(said, "load"),
    }


def throttled(before: dict[str, str], after: dict[str, str]) -> bool | None:
    """Whether the device throttled between two answers; None when it has no way to tell."""
    flags = [_hexadecimal(said.get("pi_flags", "")) for said in (before, after)]
    events = [_number(said, "throttle_events") for said in (before, after)]
    verdicts = []
    if None not in flags:
        first, last = (flag or 0 for flag in flags)
        verdicts.append(bool((first | last) & THROTTLED_NOW or last & ~first & THROTTLED_SINCE))
    if None not in events:
        verdicts.append(events[0] != events[1])
    return any(verdicts) if verdicts else None


def check_memory(said: dict[str, str], program: Program, sent_bytes: int, threads: int, where: str) -> None:
    """Raises DeviceError when what a run holds at once is more than the device has free: before anything is sent."""
    available = _number(said, "available_kb")
    if available is None:
        return
    edges = sum(program.tensors[i].bytes for i in (*program.graph_inputs, *program.graph_outputs))
    needed = sent_bytes + program.arena_bytes + threads * program.scratch_bytes + edges + MARGIN_BYTES
    if needed > available * 1024:
        raise DeviceError(
            "not enough memory on the device", where=where, expected=f"{needed // 1024:,} kB free", got=f"{available:,.0f} kB",
            hint="close other programs there, or make the model smaller; nothing was sent",
        )  # fmt: skip


def _number(said: dict[str, str], key: str, divisor: float = 1.0) -> float | None:
    try:
        return float(said[key]) / divisor
    except (KeyError, ValueError):
        return None


def _hexadecimal(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None
