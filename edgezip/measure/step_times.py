"""The time of each step of a program in this process, every step shared among the threads however short it is."""

from __future__ import annotations

import numpy as np

from edgezip.program import Program
from edgezip.runtime.session import Session

WARM_UP, RUNS = 5, 100


def step_times(program: Program, threads: int) -> list[float]:
    """Microseconds: the shortest of 100 runs, on zeros (no kernel's time depends on its data)."""
    feeds = {t.name: np.zeros(t.dims, t.dtype.numpy) for t in (program.tensors[index] for index in program.inputs)}
    times = []
    with Session(program, threads=threads, profile=True, solo_us=0) as session:
        for _ in range(WARM_UP + RUNS):
            session.run(feeds)
            times.append([nanoseconds / 1e3 for *_, nanoseconds in session.profile()])
    return [float(us) for us in np.min(times[WARM_UP:], axis=0)]
