"""Results whose length the data decide (NonZero, NonMaxSuppression, ...) beside a reference that has just their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
COUNT = ".count"  # behind the name of a result: how many of its rows are meant


def aligned(expected: Mapping[str, Array], got: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Both with such results as long as the longer of the two, zeros behind the shorter, and ``got`` without the counts."""
    wanted, made = dict(expected), dict(got)
    for count in [name for name in got if name.endswith(COUNT) and name not in expected]:
        name = count.removesuffix(COUNT)
        if name in wanted and name in made and wanted[name].ndim == made[name].ndim:
            wanted[name], made[name] = _as_long(wanted[name], made[name], int(made.pop(count).item()))
    return wanted, made


def _as_long(reference: Array, room: Array, meant: int) -> tuple[Array, Array]:
    axis = next((i for i, (a, b) in enumerate(zip(reference.shape, room.shape, strict=True)) if a != b), None)
    if axis is None:
        return reference, room
    rows = np.take(room, range(min(meant, room.shape[axis])), axis)
    length = max(rows.shape[axis], reference.shape[axis])
    return _padded(reference, axis, length), _padded(rows, axis, length)


def _padded(array: Array, axis: int, length: int) -> Array:
    return np.pad(array, [(0, length - size if i == axis else 0) for i, size in enumerate(array.shape)])
