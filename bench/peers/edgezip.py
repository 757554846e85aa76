"""Our own runtime, measured like every peer: a process of its own, arrays bound, ``EDGEZIP_ISA`` from the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.row import FLOAT32, INT8, Array, Feed, Loaded, Row

ENVIRONMENT = ""
REQUIREMENTS: tuple[str, ...] = ()
ROWS = (Row("edgezip int8", INT8, "int8.ez", takes_stored=True), Row("edgezip float32", FLOAT32, "float.ez"))
OPERATOR_ROWS = (
    Row("edgezip int8", INT8, "int8.ez", options={"step": "conv,depthwise"}, takes_stored=True),
    Row("edgezip float32", FLOAT32, "float.ez", options={"step": "conv"}),
)


def convert(kit: Path, row: Row) -> None:
    """The kit holds both programs."""


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """A session bound to its arrays, as the peers are."""
    from importlib import metadata

    from edgezip.runtime.session import Session

    session = Session(path, threads=threads, profile="step" in options)
    results: dict[str, Array] = {info.name: np.empty(info.shape, info.dtype.numpy) for info in session.outputs}
    run = session.bind(feed, results)

    def outputs() -> list[Array]:
        run()
        return list(results.values())

    kernel_ns = partial(_slowest_step, session, options["step"].split(",")) if "step" in options else None
    return Loaded(run, outputs, f"{metadata.version('edgezip')} {session.isa}", kernel_ns, keep=feed)


def _slowest_step(session: Any, operators: Sequence[str]) -> int:
    """Nanoseconds of the step that is one of ``operators``: integers of a caller are copied in and out around it."""
    times: list[int] = [ns for _, operator, _, ns in session.profile() if operator in operators]
    return max(times)
