"""``session.state``: what a session carries from run to run, as arrays by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgezip.errors import ShapeError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class StateInfo:
    """Name, element type and shape of a state."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class CarriedState(Mapping[str, Array]):
    """A view of a session's states. Reading gives a copy; ``state[name] = array`` sets what the next run begins with."""

    def __init__(self, infos: Sequence[StateInfo], get: Callable[[int], Array], set_: Callable[[int, Array], None]) -> None:
        self._infos = {info.name: (index, info) for index, info in enumerate(infos)}
        self._get, self._set = get, set_

    def __getitem__(self, name: str) -> Array:
        return self._get(self._infos[name][0])

    def __setitem__(self, name: str, values: Array) -> None:
        """Raises KeyError (no such state) and ShapeError (another dtype or shape)."""
        index, info = self._infos[name]
        array = np.asarray(values)
        if array.dtype != info.dtype or array.shape != info.shape:
            raise ShapeError(
                "state does not fit", where=name, expected=f"{info.dtype} {info.shape}", got=f"{array.dtype} {array.shape}"
            )
        self._set(index, np.array(array, order="C"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)
