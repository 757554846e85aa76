"""Where a program runs: in this process, or through ``ez_run`` on a device (real, or emulated)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgezip.measure.bit_exact import PathCheck
from edgezip.program import Program

Array = np.ndarray[Any, Any]


class Place(Protocol):
    """What verbs need of a place."""

    name: str
    isa: str
    is_here: bool

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference."""
        ...

    def check_bits(self, program: Program, samples: Sequence[Mapping[str, Array]]) -> list[PathCheck]:
        """Its answers against the NumPy reference."""
        ...

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...


class Here:
    """This process."""

    is_here = True
    name = "this machine"

    def __init__(self, program: Program, threads: int = 1) -> None:
        from edgezip.runtime.session import Session

        self._session = Session(program, threads=threads)
        self.isa = self._session.isa

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference."""
        return self._session.run(feeds)

    def check_bits(self, program: Program, samples: Sequence[Mapping[str, Array]]) -> list[PathCheck]:
        """Every path that this processor offers."""
        from edgezip.measure.bit_exact import check_paths

        return check_paths(program, samples)

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close: the session goes with the object."""
