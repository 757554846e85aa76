"""How near a candidate's answers are to the float model's: SQNR, cosine, and paired counts with their sign test."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from bench.zoo.task import Array


def sqnr_db(reference: Sequence[Array], candidate: Sequence[Array]) -> float:
    """10 log10 of signal power over error power, all samples together; infinity when nothing differs."""
    signal = sum(float(np.square(r, dtype=np.float64).sum()) for r in reference)
    error = sum(float(np.square(r.astype(np.float64) - c).sum()) for r, c in zip(reference, candidate, strict=True))
    return 10 * float(np.log10(signal / error)) if error else float("inf")


def cosine(reference: Sequence[Array], candidate: Sequence[Array]) -> float:
    """Cosine of the angle between all outputs, taken as one long vector."""
    r = np.concatenate([a.ravel() for a in reference]).astype(np.float64)
    c = np.concatenate([a.ravel() for a in candidate]).astype(np.float64)
    return float(r @ c / (np.linalg.norm(r) * np.linalg.norm(c) + 1e-300))


def paired_counts(reference: Sequence[float], candidate: Sequence[float]) -> dict[str, float]:
    """Samples that the candidate does worse, better or equally well, and the two-sided p-value of the sign test."""
    worse = sum(c < r for r, c in zip(reference, candidate, strict=True))
    better = sum(c > r for r, c in zip(reference, candidate, strict=True))
    moved = worse + better
    tail = sum(comb(moved, k) for k in range(min(worse, better) + 1))
    p_value = min(1.0, 2 * tail / 2**moved) if moved else 1.0
    return {"worse": worse, "better": better, "same": len(reference) - moved, "p_value": round(p_value, 4)}
