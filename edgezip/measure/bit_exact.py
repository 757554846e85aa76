"""Holds every ISA path of the C runtime on this machine against the NumPy reference, step by step, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgezip.errors import UsageError
from edgezip.program import Program
from edgezip.runtime.reference import ReferenceSession, first_difference
from edgezip.runtime.session import Session, isas

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]


@dataclass
class PathCheck:
    """One ISA path: how many samples and steps were compared, and where the first difference stands ("" for none).

    ``kernels`` are those that really ran: a step without a kernel of its path runs in one of the next, down to portable C.
    """

    isa: str
    samples: int = 0
    steps: int = 0
    first_difference: str = ""
    kernels: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether every byte of every step was equal."""
        return not self.first_difference


def open_paths(program: Program, threads: int = 1) -> dict[str, Session]:
    """A session for every ISA path that this CPU offers and that can read the program's layout."""
    sessions = {}
    for isa, is_offered in isas():
        if is_offered:
            try:
                sessions[isa] = Session(program, threads=threads, isa=isa, profile=True)
            except UsageError:  # the program is packed for another family of processors
                continue
    return sessions


def check_paths(program: Program, samples: Sequence[Feeds], threads: int = 1) -> list[PathCheck]:
    """Every path over all samples, step by step, and then in one call; a path stops at its first difference."""
    sessions = open_paths(program, threads)
    checks = {isa: PathCheck(isa) for isa in sessions}
    reference = ReferenceSession(program)  # one for all: states go from sample to sample
    for number, feeds in enumerate(samples):
        walks = {isa: sessions[isa].steps(feeds) for isa, check in checks.items() if check.is_exact}
        expected: dict[int, Array] = {}
        for step in reference.steps(feeds):
            expected |= {index: data.copy() for index, data in step[2].items() if index in program.outputs}
            for isa in [isa for isa in walks if checks[isa].is_exact]:
                difference = first_difference(program, iter([step]), iter([next(walks[isa])]))
                checks[isa].steps += 1
                checks[isa].first_difference = difference and f"sample {number}, {difference}"
        for isa in walks:
            if checks[isa].is_exact:
                checks[isa].first_difference = _whole_run(program, sessions[isa], feeds, expected, number)
                checks[isa].samples += checks[isa].is_exact
                checks[isa].kernels = tuple(sorted({kernel for _, _, kernel, _ in sessions[isa].profile()}))
    return list(checks.values())


def _whole_run(program: Program, session: Session, feeds: Feeds, expected: Mapping[int, Array], number: int) -> str:
    """One call must give what the steps gave: it also goes through the threads."""
    got = session.run(feeds)
    for index, data in expected.items():
        name = program.tensors[index].name
        if data.tobytes() != got[name].tobytes():
            return f"sample {number}, output {name}: one call gives other bytes than its steps"
    return ""
