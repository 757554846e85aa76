"""What a caller gives by name, looked at before it is computed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgezip.errors import EdgeZipError, ShapeError, UsageError

Array = np.ndarray[Any, Any]


def array_of(arrays: Mapping[str, Array], name: str, kind: str = "input") -> Array:
    """The array of this name. Raises UsageError (no dictionary), ShapeError (missing, or no array)."""
    try:
        return np.asarray(arrays[name])
    except Exception as error:  # whatever the caller's object raises
        raise _refused(arrays, name, kind, error) from error


def shapes_of(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """By name. Raises what ``array_of`` raises."""
    if not isinstance(arrays, Mapping):
        raise _refused(arrays, "", "input", TypeError())
    return {name: held.shape if isinstance(held, np.ndarray) else array_of(arrays, name).shape for name, held in arrays.items()}


def _refused(arrays: Any, name: str, kind: str, error: Exception) -> EdgeZipError:
    if not isinstance(arrays, Mapping):
        return UsageError(f"{kind}s are given by name", expected="a dictionary {name: array}", got=type(arrays).__name__)
    if name not in arrays:
        got = ", ".join(key if isinstance(key, str) else repr(key) for key in arrays) or "nothing"
        return ShapeError(f"{kind} is missing", where=name, expected=name, got=got)
    return ShapeError(
        f"{kind} is no array: {' '.join(str(error).split())[:200]}", where=str(name), got=type(arrays[name]).__name__
    )
