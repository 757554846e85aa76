"""What a pass did to one layer, for the report: form, size, and how much of the layer's signal survived."""

from __future__ import annotations

from dataclasses import dataclass

from edgezip.passes.measure_sqnr import decibels


@dataclass(frozen=True, slots=True)
class LayerChange:
    """``error`` and ``signal``: E|y' - y|^2 and E|y|^2 of the layer's outputs on float inputs, None without calibration data.

    ``reason``: why the layer was left as it is; empty when it was changed.
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

    @property
    def sqnr_db(self) -> float | None:
        """Signal to noise of the layer's outputs in decibels."""
        return None if self.signal is None or self.error is None else decibels(self.signal, self.error)
