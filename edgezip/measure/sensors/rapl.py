"""RAPL: energy counters of x86 packages, in microjoules, which wrap at ``max_energy_range_uj`` (Linux, powercap)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgezip.measure.sensors.access import Access, number

PACKAGES = "/sys/class/powercap/intel-rapl:[0-9]*/energy_uj"


@dataclass
class _Counter:
    path: str
    range_uj: float
    last_uj: float
    sum_uj: float = 0.0


@dataclass
class Rapl:
    """All packages together; with a ``psys`` domain that alone, which holds them."""

    access: Access
    counters: list[_Counter]
    source: str
    kind: Literal["power", "energy"] = field(default="energy", init=False)

    def read(self) -> float:
        """Joules since the sensor was found; read it more often than a counter wraps (minutes)."""
        for counter in self.counters:
            now = number(self.access, counter.path)
            counter.sum_uj += now - counter.last_uj + (counter.range_uj if now < counter.last_uj else 0.0)
            counter.last_uj = now
        return sum(counter.sum_uj for counter in self.counters) / 1e6


def find(access: Access) -> Rapl | None:
    """RAPL where it can be read (by root only, on current kernels)."""
    domains: dict[str, str] = {}
    for path in access.matches(PACKAGES):
        folder = path.rsplit("/", 1)[0]
        name = access.text(f"{folder}/name") or ""
        if folder.rsplit("/", 1)[1].count(":") == 1 and access.text(path) and (name.startswith("package") or name == "psys"):
            domains[folder] = name
    chosen = [folder for folder, name in domains.items() if name == "psys"][:1] or list(domains)
    if not chosen:
        return None
    counters = [
        _Counter(f"{folder}/energy_uj", number(access, f"{folder}/max_energy_range_uj"), number(access, f"{folder}/energy_uj"))
        for folder in chosen
    ]
    return Rapl(access, counters, "RAPL, " + ", ".join(domains[folder] for folder in chosen))
