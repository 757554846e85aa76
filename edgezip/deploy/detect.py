"""A profile of a live device, from what its kernel says: cores, clocks, caches, memory, extensions, power sensors.

One shell script asks for everything and prints a "key value" line each. What the kernel does not say is left out, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from edgezip.deploy.transports import Transport
from edgezip.errors import DeviceError
from edgezip.target import host

SCRIPT = r"""
line() { printf '%s %s\n' "$1" "$2"; }
line machine "$(uname -m)"
line model "$(tr -d '\0' < /proc/device-tree/model 2>/dev/null || getprop ro.product.model 2>/dev/null)"
line cpu "$(grep -m1 -e '^Model' -e '^model name' /proc/cpuinfo | cut -d: -f2-)"
line features "$(grep -m1 -e '^Features' -e '^flags' /proc/cpuinfo | cut -d: -f2-)"
line memory_kb "$(awk '/^MemTotal:/ {print $2}' /proc/meminfo)"
line libc "$(ldd --version 2>/dev/null | head -n1)"
line parts "$(awk -F: '/^CPU part/ {printf "%s ", $2}' /proc/cpuinfo)"
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  n=${cpu##*cpu}
  line "core$n.khz" "$(cat $cpu/cpufreq/cpuinfo_max_freq 2>/dev/null)"
  line "core$n.capacity" "$(cat $cpu/cpu_capacity 2>/dev/null)"
  for cache in $cpu/cache/index[0-9]*; do
    [ -r "$cache/level" ] || continue
    line "core$n.cache" "$(cat $cache/level) $(cat $cache/type) $(cat $cache/size) $(cat $cache/shared_cpu_list)"
  done
done
for hwmon in /sys/class/hwmon/hwmon*; do line hwmon "$(cat $hwmon/name 2>/dev/null)"; done
[ -r /sys/class/powercap/intel-rapl:0/energy_uj ] && line rapl yes
[ -r /sys/class/power_supply/battery/current_now ] && line battery yes
vcgencmd pmic_read_adc >/dev/null 2>&1 && line pmic yes
true
"""
# Arm's part numbers of main cores, arch/arm64/include/asm/cputype.h of Linux
PARTS = {
    "0xc07": "cortex-a7", "0xc09": "cortex-a9", "0xc0f": "cortex-a15", "0xc0e": "cortex-a17",
    "0xd03": "cortex-a53", "0xd04": "cortex-a35", "0xd05": "cortex-a55", "0xd07": "cortex-a57", "0xd08": "cortex-a72",
    "0xd09": "cortex-a73", "0xd0a": "cortex-a75", "0xd0b": "cortex-a76", "0xd0c": "neoverse-n1", "0xd0d": "cortex-a77",
    "0xd40": "neoverse-v1", "0xd41": "cortex-a78", "0xd42": "cortex-a78ae", "0xd44": "cortex-x1", "0xd46": "cortex-a510",
    "0xd47": "cortex-a710", "0xd48": "cortex-x2", "0xd49": "neoverse-n2", "0xd4d": "cortex-a715", "0xd4e": "cortex-x3",
    "0xd80": "cortex-a520", "0xd81": "cortex-a720", "0xd82": "cortex-x4",
}  # fmt: skip
HWMON_SENSORS = frozenset({"ina219", "ina220", "ina226", "ina230", "ina231", "ina260", "ina238"})
MOST_CORES = 1024
TEXT_LIMIT = 120
SIZE = re.compile(r"(\d{1,9})K")


@dataclass
class _Core:
    number: int
    uarch: str = "unknown"
    khz: int | None = None
    capacity: int | None = None
    l1d_kb: int | None = None
    l2_kb: int | None = None
    l2_shared: bool = False
    l3_kb: int | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        return (self.uarch, self.khz, self.capacity, self.l1d_kb, self.l2_kb, self.l2_shared)


@dataclass
class _Said:
    facts: dict[str, str] = field(default_factory=dict)
    cores: dict[int, _Core] = field(default_factory=dict)
    hwmon: set[str] = field(default_factory=set)


def detect(transport: Transport, name: str, base: str | None = None) -> dict[str, Any]:
    """The facts of a profile called ``name`` for the device behind ``transport``; ``base``: the profile to build on, instead of
    the generic one of its architecture. Raises DeviceUnreachableError, DeviceError (an architecture without kernels)."""
    reply = transport.run(["sh", "-c", SCRIPT])
    return profile_of(reply.stdout, name, transport.name, base)


def profile_of(text: str, name: str, where: str, base: str | None = None) -> dict[str, Any]:
    """The facts of a profile from the script's answer."""
    said = _parse(text)
    machine = said.facts.get("machine", "")
    base = base or host.profile_for(machine, frozenset(said.facts.get("features", "").split()))
    if base is None:
        raise DeviceError(
            "no kernels for this architecture", where=where, got=machine or "no answer", hint="name one with --from"
        )
    facts: dict[str, Any] = {"name": name, "base": base, "summary": _summary(said, machine), "sources": [f"detected on {where}"]}
    if libc := said.facts.get("libc"):
        facts["device_libc"] = libc[:TEXT_LIMIT]
    if (kilobytes := _whole(said.facts.get("memory_kb", ""))) and kilobytes >= 1024:
        facts["ram_mb"] = [kilobytes // 1024]
    clusters = list(_clusters(said))
    facts["default_threads"] = max((cluster["count"] for cluster in clusters if cluster["role"] == "big"), default=1)
    facts["sensor"] = _sensor(said)
    if l3_kb := max((core.l3_kb for core in said.cores.values() if core.l3_kb), default=None):
        facts["memory"] = {"l3_kb": l3_kb}
    return facts | {"clusters": clusters}


def _summary(said: _Said, machine: str) -> str:
    named = said.facts.get("model") or said.facts.get("cpu") or machine
    return f"{named[:TEXT_LIMIT]}, {len(said.cores)} cores"


def _parse(text: str) -> _Said:
    said = _Said()
    for row in text.splitlines():
        key, _, value = row.partition(" ")
        value = value.strip()
        if key == "hwmon":
            said.hwmon.add(value)
        elif match := re.fullmatch(r"core(\d{1,4})\.(khz|capacity|cache)", key):
            number = int(match.group(1))
            if number < MOST_CORES:
                _note(said.cores.setdefault(number, _Core(number)), match.group(2), value)
        elif value:
            said.facts[key] = value
    parts = said.facts.get("parts", "").split()
    for number, core in said.cores.items():
        part = parts[number] if number < len(parts) else ""
        core.uarch = PARTS.get(
            part, part if re.fullmatch(r"0x[0-9a-f]{3}", part) else said.facts.get("cpu", "unknown")[:TEXT_LIMIT]
        )
    return said


def _note(core: _Core, key: str, value: str) -> None:
    if key != "cache":
        setattr(core, key, _whole(value))
        return
    words = value.split()
    size = SIZE.fullmatch(words[2]) if len(words) >= 3 else None
    if size is None or not int(size.group(1)):
        return
    kilobytes, kind = int(size.group(1)), (words[0], words[1])
    if kind == ("1", "Data"):
        core.l1d_kb = kilobytes
    elif words[0] == "2":
        core.l2_kb, core.l2_shared = kilobytes, len(words) > 3 and not words[3].isdigit()
    elif words[0] == "3":
        core.l3_kb = kilobytes


def _clusters(said: _Said) -> Iterator[dict[str, Any]]:
    """Cores of one kind together, the strongest first; the kernel's capacity says who is big, else the clock."""
    groups: dict[tuple[Any, ...], list[_Core]] = {}
    for _, core in sorted(said.cores.items()):
        groups.setdefault(core.kind, []).append(core)
    strength = {kind: (cores[0].capacity or 0, cores[0].khz or 0) for kind, cores in groups.items()}
    best = max(strength.values(), default=(0, 0))
    for kind, cores in sorted(groups.items(), key=lambda item: strength[item[0]], reverse=True):
        core = cores[0]
        known = {
            "max_mhz": core.khz // 1000 if core.khz else None,
            "l1d_kb": core.l1d_kb,
            "l2_kb": core.l2_kb,
            "l2_shared": core.l2_shared if core.l2_kb else None,
        }
        facts = {key: value for key, value in known.items() if value is not None}
        yield {"uarch": core.uarch, "count": len(cores), **facts, "role": "big" if strength[kind] == best else "little"}


def _sensor(said: _Said) -> str:
    if said.facts.get("pmic") == "yes":
        return "pmic"
    if "ina3221" in said.hwmon:
        return "ina3221"
    if said.hwmon & HWMON_SENSORS:
        return "hwmon"
    return next((sensor for sensor in ("rapl", "battery") if said.facts.get(sensor) == "yes"), "none")


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,12}", text) and int(text) else None
