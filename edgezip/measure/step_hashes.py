"""Hashes of every step's outputs over the bundled vectors, by the NumPy reference: what a device compares its own steps with."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgezip.program import HEADER, Program
from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]


def write_hashes(program: Program, data: bytes) -> bytes:
    """The file for ``ez_run verify --per-step`` (csrc/tools/run_verify.c); ``data`` begins with the header of the program there.

    A line a step with the CRC-32 of its outputs, for each vector; the first line names the program by the CRC-32 of its header.
    """
    (digest,) = struct.unpack_from("<I", data, HEADER.itemsize - 4)
    lines: list[str] = []
    session = ReferenceSession(program)  # one for all: states go from vector to vector
    for vector in program.vectors:
        feeds = {program.tensors[index].name: array for index, array in zip(program.inputs, vector, strict=False)}
        lines += [f"{_hash(outputs):08x}" for _, _, outputs in session.steps(feeds)]
    head = f"edgezip-steps 1 {digest:08x} {len(program.vectors)} {len(lines)}"
    return ("\n".join([head, *lines]) + "\n").encode()


def _hash(outputs: Mapping[int, Array]) -> int:
    crc = 0
    for stored in outputs.values():
        crc = zlib.crc32(np.ascontiguousarray(stored).tobytes(), crc)
    return crc
