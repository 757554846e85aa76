"""An Android device's battery: microamperes and microvolts by the kernel's rules, with the sign as the maker likes it.

Slow (a quarter of a second to some seconds between new values), and only true while nothing charges it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgezip.errors import DeviceError
from edgezip.measure.sensors.access import Access, number, whole_watts

FOLDER = "/sys/class/power_supply/battery"
MICRO_TIMES_MICRO = 1e-12
LEAST_UA, MOST_UA = 10_000, 20_000_000  # a running device draws no less; some makers write milliamperes
LEAST_UV, MOST_UV = 2_000_000, 30_000_000


@dataclass
class Battery:
    """What flows out of the battery."""

    access: Access
    source: str = field(default="battery", init=False)
    kind: Literal["power", "energy"] = field(default="power", init=False)

    def read(self) -> float:
        """Watts now; DeviceError while it charges, or when the unit cannot be told."""
        status = self.access.text(f"{FOLDER}/status")
        if status != "Discharging":
            raise DeviceError(
                "the battery is not what feeds the device", where=self.access.name, expected="Discharging", got=repr(status)[:40],
                hint="unplug it, and reach it over Wi-Fi: adb tcpip 5555, adb connect ADDRESS",
            )  # fmt: skip
        current, voltage = abs(number(self.access, f"{FOLDER}/current_now")), number(self.access, f"{FOLDER}/voltage_now")
        if not (LEAST_UA <= current <= MOST_UA and LEAST_UV <= voltage <= MOST_UV):
            raise DeviceError(
                "the battery's unit cannot be told", where=f"{self.access.name}:{FOLDER}", expected="microamperes and microvolts",
                got=f"{current:g} and {voltage:g}", hint="use an external meter: --power meter:FILE.csv",
            )  # fmt: skip
        return whole_watts(current * voltage * MICRO_TIMES_MICRO, FOLDER)


def find(access: Access) -> Battery | None:
    """The battery, where its current can be read."""
    has = all(access.text(f"{FOLDER}/{name}") for name in ("current_now", "voltage_now"))
    return Battery(access) if has else None
