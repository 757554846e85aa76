"""INA219, INA226, INA260 and their kin behind Linux's hwmon: ``power1_input`` in microwatts, or milliamperes times millivolts.

The number of a hwmon folder changes from start to start: chips are known by ``name``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgezip.measure.sensors.access import Access, number, whole_watts

CHIPS = frozenset({"ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina233", "ina237", "ina238", "ina260"})
MICROWATTS, MILLI_TIMES_MILLI = 1e-6, 1e-6


@dataclass
class Hwmon:
    """One chip: the power of what it sits in front of."""

    access: Access
    folder: str
    source: str
    has_power: bool
    kind: Literal["power", "energy"] = field(default="power", init=False)

    def read(self) -> float:
        """Watts now."""
        if self.has_power:
            return whole_watts(number(self.access, f"{self.folder}/power1_input", MICROWATTS), self.folder)
        current_ma, bus_mv = (number(self.access, f"{self.folder}/{name}") for name in ("curr1_input", "in1_input"))
        return whole_watts(current_ma * bus_mv * MILLI_TIMES_MILLI, self.folder)


def find(access: Access) -> Hwmon | None:
    """The first such chip that gives power, or current and voltage."""
    for path in access.matches("/sys/class/hwmon/hwmon*/name"):
        folder, chip = path.rsplit("/", 1)[0], access.text(path) or ""
        if chip not in CHIPS:
            continue
        has_power = access.text(f"{folder}/power1_input") is not None
        if has_power or all(access.text(f"{folder}/{name}") is not None for name in ("curr1_input", "in1_input")):
            return Hwmon(access, folder, f"{chip} ({folder.rsplit('/', 1)[1]})", has_power)
    return None
