"""Candidates: our rows on each ISA, the peers' rows, and the peers held to an older processor."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.peers import PEERS, environments
from bench.peers.client import Candidate
from bench.peers.row import Row
from edgezip.errors import ToolError
from edgezip.runtime.session import isas

HOLDABLE = ("avx2", "avxvnni")  # what hold_isa.c knows; ours is chosen by EDGEZIP_ISA
HELD_PEERS = ("onnxruntime", "openvino", "litert")  # the three that lead somewhere


def rows_of(name: str, is_operator: bool) -> tuple[Row, ...]:
    """A peer's rows for whole networks, or for single operators."""
    module = environments.peer(name)
    rows: tuple[Row, ...] = module.OPERATOR_ROWS if is_operator else module.ROWS
    return rows


def ours(levels: Iterable[str], is_operator: bool = False) -> list[Candidate]:
    """Both of our programs on the best ISA of this processor and on each of ``levels`` that this build offers."""
    rows = rows_of("edgezip", is_operator)
    offered = [name for name, is_here in isas() if is_here]
    found = [Candidate(row.label, "edgezip", row) for row in rows]
    for level in (level for level in levels if level in offered and level != offered[0]):
        found += [Candidate(f"{row.label} {level}", "edgezip", row, {"EDGEZIP_ISA": level}) for row in rows]
    return found


def peers(names: Sequence[str] = PEERS, is_operator: bool = False) -> list[Candidate]:
    """All rows of the peers, free to use what the processor has."""
    return [Candidate(row.label, name, row) for name in names for row in rows_of(name, is_operator)]


def held(names: Iterable[str], levels: Iterable[str], folder: Path, is_operator: bool = False) -> list[Candidate]:
    """The rows of the leading peers with newer instructions hidden from them, under "<row> <level>"."""
    library = build_holder(folder)
    return [
        Candidate(f"{row.label} {level}", name, row, {"LD_PRELOAD": str(library), "EDGEZIP_HOLD": level})
        for name in names
        if name in HELD_PEERS
        for row in rows_of(name, is_operator)
        for level in levels
    ]


def build_holder(folder: Path) -> Path:
    """Compiles hold_isa.c into ``folder``; raises ToolError when there is no gcc."""
    source, library = Path(__file__).with_name("hold_isa.c"), (folder / "hold_isa.so").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError("gcc failed", where=str(source), got=done.stderr[-300:])
    return library
