"""Energy sensors: one module each, chosen by its name. A modelled figure is never given as energy."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from edgezip.errors import UsageError

SENSORS = ("none",)


class Sensor(Protocol):
    """What every sensor module offers."""

    def is_available(self) -> bool:
        """Whether it can be read here and now."""
        ...

    def start(self) -> None:
        """Begin to count."""
        ...

    def stop(self) -> float | None:
        """Energy since ``start`` in millijoules; None when there is no sensor."""
        ...


def load(name: str) -> Sensor:
    """The sensor called ``name``; raises UsageError with the known names."""
    if name not in SENSORS:
        raise UsageError("no such sensor", where="--power", expected=", ".join(SENSORS), got=name)
    sensor: Sensor = import_module(f"edgezip.measure.sensors.{name}").Sensor()
    return sensor
