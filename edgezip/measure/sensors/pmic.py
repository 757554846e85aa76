"""The Raspberry Pi 5's power chip: ``vcgencmd pmic_read_adc`` lists amperes and volts of its rails.

Their sum is what the chip gives, not what the board takes: the losses of the chip itself and the USB ports are not in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from edgezip.errors import DeviceError
from edgezip.measure.sensors.access import Access, whole_watts

COMMAND = ("vcgencmd", "pmic_read_adc")
LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?\d+(?:\.\d+)?)[AV]\s*$", re.MULTILINE)


@dataclass
class Pmic:
    """Sum over all rails that have both a current and a voltage."""

    access: Access
    rails: int
    source: str
    kind: Literal["power", "energy"] = field(default="power", init=False)

    def read(self) -> float:
        """Watts now."""
        found = _rails(self.access.run(COMMAND) or "")
        if len(found) != self.rails:
            raise DeviceError(
                "the power chip lists other rails than before",
                where=self.access.name,
                expected=str(self.rails),
                got=str(len(found)),
            )
        return whole_watts(sum(found.values()), f"{self.access.name}, pmic_read_adc")


def _rails(text: str) -> dict[str, float]:
    """Watts by rail."""
    values: dict[tuple[str, str], float] = {(name, unit): float(value) for name, unit, value in LINE.findall(text)}
    return {name: value * values[name, "V"] for (name, unit), value in values.items() if unit == "A" and (name, "V") in values}


def find(access: Access) -> Pmic | None:
    """The chip, where the firmware's tool lists its rails."""
    rails = _rails(access.run(COMMAND) or "")
    return Pmic(access, len(rails), f"PMIC, sum of {len(rails)} rails (its output, not the board's input)") if rails else None
