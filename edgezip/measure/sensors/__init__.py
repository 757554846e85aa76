"""Energy sensors: one module each, chosen by its name. A modelled figure is never given as energy.

A sensor reads through an ``Access``: the files below a root here (tests bring recorded trees), or a device behind a transport.
"""

from __future__ import annotations

from importlib import import_module
from typing import Literal, Protocol

from edgezip.errors import DeviceError, UsageError
from edgezip.measure.sensors.access import Access

# In the order in which `auto` looks: what measures the whole board first.
SENSORS = ("ina3221", "hwmon", "pmic", "rapl", "battery")
CHOICES = ("auto", "none", *SENSORS)


class Sensor(Protocol):
    """What every sensor module offers as ``find(access) -> Sensor | None``."""

    source: str  # what is measured, for people
    kind: Literal["power", "energy"]  # watts now, or joules since some moment

    def read(self) -> float:
        """Watts or joules; raises DeviceError for what no honest sensor says."""
        ...


def load(name: str, access: Access) -> Sensor | None:
    """The sensor called ``name``; None for ``none``, and for ``auto`` where there is none.

    Raises UsageError (no such name), DeviceError (that sensor is not there).
    """
    if name not in CHOICES:
        raise UsageError("no such sensor", where="--power", expected=", ".join([*CHOICES, "meter:FILE.csv"]), got=name)
    wanted = SENSORS if name == "auto" else () if name == "none" else (name,)
    for each in wanted:
        sensor: Sensor | None = import_module(f"edgezip.measure.sensors.{each}").find(access)
        if sensor is not None:
            return sensor
    if name in SENSORS:
        raise DeviceError("no such sensor here", where=f"{access.name}, --power {name}", hint="--power auto takes what there is")
    return None
