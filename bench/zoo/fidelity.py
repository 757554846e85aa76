"""Paired counts of two runners on the same samples, with their sign test."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

from bench.zoo.task import Score
from edgezip.measure.agreement import Agreement


def outputs_agreement(reference: Score, candidate: Score) -> Agreement:
    """SQNR, cosine and the rest of the candidate's outputs against the reference's."""
    agreement = Agreement()
    for expected, got in zip(reference.outputs, candidate.outputs, strict=True):
        agreement.add(expected, got)
    return agreement


def paired(reference: Score, candidate: Score) -> dict[str, float]:
    """``paired_counts`` of what is counted: a picture is worse when fewer of its crops are right.

    ``lost``: pictures of which more than half of the crops were right, and are no longer.
    """
    counts = paired_counts(reference.counted, candidate.counted)
    if reference.alike == 1:
        return counts
    half = reference.alike / 2
    lost = sum(r > half >= c for r, c in zip(reference.counted, candidate.counted, strict=True))
    return {**counts, "lost": lost}


def paired_counts(reference: Sequence[float], candidate: Sequence[float]) -> dict[str, float]:
    """Samples that the candidate does worse, better or equally well, and the two-sided p-value of the sign test."""
    worse = sum(c < r for r, c in zip(reference, candidate, strict=True))
    better = sum(c > r for r, c in zip(reference, candidate, strict=True))
    moved = worse + better
    tail = sum(comb(moved, k) for k in range(min(worse, better) + 1))
    p_value = min(1.0, 2 * tail / 2**moved) if moved else 1.0
    return {"worse": worse, "better": better, "same": len(reference) - moved, "p_value": round(p_value, 4)}
