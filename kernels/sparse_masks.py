"""Which weights stay, for each pattern that the kernels know: from saliencies (outputs, columns) to a mask of the same shape.

The columns are those of the packed weights: within a span (a row of the kernel's window, or one tap) channels are fastest, and
groups of four begin anew with every span.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def unstructured(saliency: Array, density: float) -> Array:
    """The ``density`` share of the largest, all outputs together; ties go to the first."""
    return _largest(saliency.reshape(-1), _count(density, saliency.size)).reshape(saliency.shape)


def by_row(saliency: Array, density: float) -> Array:
    """The ``density`` share of the largest of each row."""
    return n_of_m(saliency, _count(density, saliency.shape[1]), saliency.shape[1])


def n_of_m(saliency: Array, n: int, m: int) -> Array:
    """The ``n`` largest of each ``m`` neighbours of a row; a shorter last group keeps its share, rounded up."""
    keep = np.zeros(saliency.shape, bool)
    for first in range(0, saliency.shape[1], m):
        part = saliency[:, first : first + m]
        kept = -(-n * part.shape[1] // m)
        best = np.argsort(-part, axis=1, kind="stable")[:, :kept]
        np.put_along_axis(keep[:, first : first + m], best, True, axis=1)
    return keep


def blocks(saliency: Array, density: float, columns: Sequence[slice], outputs: int) -> Array:
    """Whole blocks of ``outputs`` rows by one of ``columns``: the ``density`` share of the blocks with the largest sums.

    Smaller blocks at the ends count by their mean, so that being small is no reason to go.
    """
    rows = [slice(at, min(at + outputs, len(saliency))) for at in range(0, len(saliency), outputs)]
    score = np.array([[float(saliency[r, c].mean()) for c in columns] for r in rows])
    chosen = _largest(score.reshape(-1), _count(density, score.size)).reshape(score.shape)
    keep = np.zeros(saliency.shape, bool)
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            keep[r, c] = chosen[i, j]
    return keep


def column_groups(span: int, spans: int, width: int) -> list[slice]:
    """Groups of ``width`` columns of ``spans`` spans of ``span`` columns each; the last group of a span may be shorter."""
    return [slice(s * span + at, s * span + min(at + width, span)) for s in range(spans) for at in range(0, span, width)]


def _count(density: float, total: int) -> int:
    return int(np.rint(density * total))


def _largest(values: Array, count: int) -> Array:
    keep = np.zeros(values.shape, bool)
    keep[np.argsort(-values, kind="stable")[:count]] = True
    return keep
