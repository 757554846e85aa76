"""No sensor: energy stays unknown, and is said to be so."""

from __future__ import annotations


class Sensor:
    """Measures nothing."""

    def is_available(self) -> bool:
        """Always."""
        return True

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> float | None:
        """Unknown."""
        return None
