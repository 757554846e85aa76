"""Calibration samples that can be gone through more than once: every pass begins at the first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feed = Mapping[str, Array]


class SampleSet:
    """``source`` gives the feeds from the start each time it is called; nothing is held in memory."""

    def __init__(self, source: Callable[[], Iterable[Feed]]) -> None:
        self._source = source

    def __call__(self) -> Iterator[Feed]:
        """All feeds, from the first on."""
        return iter(self._source())

    def __len__(self) -> int:
        return self._facts[0]

    @property
    def digest(self) -> str:
        """SHA-256 of names, shapes, types and bytes of all samples, in order."""
        return self._facts[1]

    @cached_property
    def _facts(self) -> tuple[int, str]:
        """Number of samples and digest, from one reading."""
        count, state = 0, hashlib.sha256()
        for feed in self():
            count += 1
            for name in sorted(feed):
                array = np.ascontiguousarray(feed[name])
                state.update(f"{name}{array.shape}{array.dtype.str}".encode())
                state.update(array.tobytes())
        return count, state.hexdigest()
