"""Packed int8 weights without their empty groups, as programs carry them (EZ_FORM_BLOCKS of ``ez_format.h``).

A group is one k-step of a panel: 4 k (K4N16) or 8 k (K8N16) of 16 outputs, 64 or 128 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ALIGN = 64
HEAD_BYTES = 64
MOST_STEPS = 65536
MOST_EXPANDED = 1 << 30
ISAS = ("portable", "avx2", "avxvnni", "avx512vnni", "avx512vbmi", "amx", "neon", "dotprod", "i8mm")  # bits of dense_on


@dataclass(frozen=True, slots=True)
class Blocks:
    """The kept groups: ``values`` uint8 (groups, bytes of one), ``index`` uint16 its k-step, ``starts`` uint32 by panel."""

    steps: int
    starts: Array
    index: Array
    values: Array
    dense_on: int = 0

    @property
    def share(self) -> float:
        """Groups that are there, of all."""
        return len(self.index) / ((len(self.starts) - 1) * self.steps)

    @property
    def bytes(self) -> int:
        """Length of the constant."""
        return _lists_bytes(len(self.starts) - 1, len(self.index)) + self.values.nbytes

    def panels_from(self, first: int, count: int) -> Blocks:
        """Some of the panels."""
        starts = self.starts[first : first + count + 1]
        held = slice(int(starts[0]), int(starts[-1]))
        return Blocks(self.steps, starts - starts[0], self.index[held], self.values[held], self.dense_on)

    def panels(self) -> Array:
        """The packed panels, uint8 (panels * steps * bytes of a group,)."""
        out = np.zeros((len(self.starts) - 1, self.steps, self.values.shape[1]), np.uint8)
        panel = np.repeat(np.arange(len(self.starts) - 1), _lengths(self.starts))
        out[panel, self.index] = self.values
        return out.reshape(-1)

    def to_bytes(self) -> Array:
        """The constant, uint8."""
        head = np.zeros(HEAD_BYTES // 4, "<u4")
        head[:4] = len(self.starts) - 1, self.steps, len(self.index), self.dense_on
        lists = head.tobytes() + self.starts.astype("<u4").tobytes() + self.index.astype("<u2").tobytes()
        gap = bytes(_lists_bytes(len(self.starts) - 1, len(self.index)) - len(lists))
        return np.frombuffer(lists + gap + self.values.tobytes(), np.uint8)


def _lists_bytes(panels: int, groups: int) -> int:
    return -(-(HEAD_BYTES + 4 * (panels + 1) + 2 * groups) // ALIGN) * ALIGN


def _lengths(starts: Array) -> Array:
    lengths: Array = starts[1:].astype(np.int64) - starts[:-1].astype(np.int64)
    return lengths


def blocks_of(packed: Array, panels: int, group_bytes: int, dense_on: int = 0) -> Blocks:
    """The non-zero groups of packed panels (uint8)."""
    groups = packed.reshape(panels, -1, group_bytes)
    kept = groups.any(axis=2)
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.uint32)
    return Blocks(kept.shape[1], starts, np.nonzero(kept)[1].astype(np.uint16), groups[kept], dense_on)


def read(raw: Array, group_bytes: int) -> Blocks:
    """The blocks of a constant (uint8). Raises ValueError where its lists are not sound."""
    if len(raw) < HEAD_BYTES:
        raise ValueError("blocks without a head")
    panels, steps, groups, dense_on = (int(v) for v in raw[:16].view("<u4"))
    lists = _lists_bytes(panels, groups)
    if not 0 < steps <= MOST_STEPS or panels * steps * group_bytes > MOST_EXPANDED or len(raw) != lists + groups * group_bytes:
        raise ValueError("blocks whose head contradicts their size")
    starts = raw[HEAD_BYTES : HEAD_BYTES + 4 * (panels + 1)].view("<u4")
    index = raw[HEAD_BYTES + 4 * (panels + 1) :][: 2 * groups].view("<u2")
    lengths = _lengths(starts)
    if starts[0] or starts[-1] != groups or (lengths < 0).any() or (index >= steps).any():
        raise ValueError("groups of blocks out of range")
    panel = np.repeat(np.arange(panels), lengths)
    if ((index[1:] <= index[:-1]) & (panel[1:] == panel[:-1])).any():
        raise ValueError("groups of blocks out of order")
    return Blocks(steps, starts, index, raw[lists:].reshape(groups, group_bytes), dense_on)
