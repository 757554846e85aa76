"""How near answers are to a reference: SQNR, cosine, greatest error and top-1, over any number of samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgezip.errors import ShapeError

Array = np.ndarray[Any, Any]


class Agreement:
    """Adds up samples; memory does not grow with their number."""

    def __init__(self) -> None:
        self.samples = 0
        self.max_abs_error = 0.0
        self._signal = self._error = self._candidate = self._product = 0.0
        self._same_top1 = 0

    def add(self, reference: Array, candidate: Array) -> None:
        """One answer of each; raises ShapeError when their shapes differ."""
        if reference.shape != candidate.shape:
            raise ShapeError("answers differ in shape", expected=str(reference.shape), got=str(candidate.shape))
        r, c = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
        self.samples += 1
        self._signal += float(r @ r)
        self._candidate += float(c @ c)
        self._product += float(r @ c)
        self._error += float((r - c) @ (r - c))
        self.max_abs_error = max(self.max_abs_error, float(np.abs(r - c).max(initial=0.0)))
        self._same_top1 += int(reference.shape[-1:] == (0,) or bool(np.array_equal(reference.argmax(-1), candidate.argmax(-1))))

    @property
    def sqnr_db(self) -> float:
        """10 log10(signal power / error power); infinite when nothing differs."""
        if self._error == 0:
            return math.inf
        return 10 * math.log10(self._signal / self._error) if self._signal else -math.inf

    @property
    def cosine(self) -> float:
        """Cosine of the angle between all answers taken as one long vector; 1 when both are zero."""
        norm = math.sqrt(self._signal * self._candidate)
        return self._product / norm if norm else float(self._signal == self._candidate)

    @property
    def top1_agreement(self) -> float:
        """Share of samples whose greatest element along the last axis stands at the same place."""
        return self._same_top1 / self.samples if self.samples else 0.0

    def as_dict(self) -> dict[str, float]:
        """The figures under their JSON names."""
        return {
            "cosine": self.cosine,
            "sqnr_db": self.sqnr_db,
            "top1_agreement": self.top1_agreement,
            "max_abs_error": self.max_abs_error,
        }
