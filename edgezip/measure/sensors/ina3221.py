"""INA3221 of Jetson modules: three rails, millivolts and milliamperes each, no power file (Linux, hwmon/ina3221)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgezip.measure.sensors.access import Access, number, whole_watts

# The rail that everything comes through, by module; the others are parts of it.
INPUTS = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "SYS_VIN_5V", "VDD_5V_SYS")
CHANNELS = (1, 2, 3)
MILLI_TIMES_MILLI = 1e-6


@dataclass
class Ina3221:
    """The input rail where it has its name, else the sum of all rails."""

    access: Access
    folder: str
    channels: tuple[int, ...]
    source: str
    kind: Literal["power", "energy"] = field(default="power", init=False)

    def read(self) -> float:
        """Watts now."""
        watts = 0.0
        for channel in self.channels:
            volts, amperes = (number(self.access, f"{self.folder}/{name}{channel}_input") for name in ("in", "curr"))
            watts += whole_watts(volts * amperes * MILLI_TIMES_MILLI, f"{self.folder}, channel {channel}")
        return watts


def find(access: Access) -> Ina3221 | None:
    """The first INA3221 with a rail that can be read."""
    for path in access.matches("/sys/class/hwmon/hwmon*/name"):
        folder = path.rsplit("/", 1)[0]
        if access.text(path) != "ina3221":
            continue
        rails = {
            channel: access.text(f"{folder}/in{channel}_label") or f"channel {channel}"
            for channel in CHANNELS
            if all(access.text(f"{folder}/{name}{channel}_input") for name in ("in", "curr"))
        }
        whole = [channel for channel, label in rails.items() if label in INPUTS]
        chosen = tuple(whole[:1] or rails)
        if chosen:
            return Ina3221(access, folder, chosen, "ina3221, " + " + ".join(rails[channel] for channel in chosen))
    return None
