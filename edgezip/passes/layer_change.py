"""What a pass did to one layer, for the report: form, size, and how much of the layer's signal survived."""

from __future__ import annotations

from dataclasses import dataclass

from edgezip.passes.measure_sqnr import decibels


@dataclass(frozen=True, slots=True)
class LayerChange:
    """``error`` and ``signal``: E|y' - y|^2 and E|y|^2 of the layer's outputs on float inputs, None without calibration data.

    ``reason``: why the layer was left as it is; empty when it was changed. ``outputs``: which outputs it still gives, in their
    new order, where some are gone or moved. ``predicted_us``: on one thread of the target, before and after. ``share``: of the
    error of the network's outputs, when each layer is changed alone. ``recovery``: how the layer was fitted again ("refit",
    "bias", "left"), and ``recovered_db``: the SQNR of what it then gives in the changed network.
    """

    name: str
    op: str
    form: str
    bits: int
    sparsity: float
    bytes_before: int
    bytes_after: int
    signal: float | None = None
    error: float | None = None
    reason: str = ""
    outputs: tuple[int, ...] | None = None
    predicted_us: tuple[float, float] | None = None
    share: float | None = None
    recovery: str = ""
    recovered_db: float | None = None

    @property
    def sqnr_db(self) -> float | None:
        """Signal to noise of the layer's outputs in decibels."""
        return None if self.signal is None or self.error is None else decibels(self.signal, self.error)
