"""Our own runtime, measured like every peer: a process of its own, arrays bound, ``EDGEZIP_ISA`` from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.peers.row import FLOAT32, INT8, Array, Feed, Loaded, Row

ENVIRONMENT = ""
REQUIREMENTS: tuple[str, ...] = ()
ROWS = (Row("edgezip int8", INT8, "int8.ez", takes_stored=True), Row("edgezip float32", FLOAT32, "float.ez"))


def convert(kit: Path, row: Row) -> None:
    """The kit holds both programs."""


def load(path: Path, threads: int, feed: Feed, options: Mapping[str, str]) -> Loaded:
    """A session that writes into arrays of ours."""
    from importlib import metadata

    from edgezip.runtime.session import Session

    session = Session(path, threads=threads)
    results: dict[str, Array] = {info.name: np.empty(info.shape, info.dtype.numpy) for info in session.outputs}

    def outputs() -> list[Array]:
        session.run_into(feed, results)
        return list(results.values())

    return Loaded(lambda: session.run_into(feed, results), outputs, f"{metadata.version('edgezip')} {session.isa}")
