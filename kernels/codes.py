"""Weights of 4 or 2 bits as EZ_OP_CODES holds them: indices into a table of int8, one f16 scale a block and output.

Uniform int4 and int2 are the table ``code - offset``; a codebook is any other. ``csrc/isa/codes.h`` is the same in C.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgezip.kernels import reference as ref
from edgezip.kernels.float_functions import fma

Array = np.ndarray[Any, Any]
PANEL, STEP = 16, 32  # columns of a panel; blocks are multiples of STEP
MOST_BLOCK = 131072  # EZ_MOST_CODES_BLOCK


@dataclass(frozen=True, slots=True)
class Form:
    """``block`` elements of K share a scale; ``table`` holds the entry of each of the 2^bits codes."""

    bits: int
    block: int
    table: tuple[int, ...]

    @property
    def is_uniform(self) -> bool:
        """Whether the table is ``code - offset``."""
        return all(entry == code + self.table[0] for code, entry in enumerate(self.table))

    @property
    def text(self) -> str:
        """For reports: ``int4 blocks of 32``, ``codebook of 16, blocks of 64``."""
        kind = f"int{self.bits}" if self.is_uniform else f"codebook of {1 << self.bits}"
        return f"{kind}, blocks of {self.block}"

    def params(self) -> dict[str, Any]:
        """The parameters of the step."""
        table = np.zeros(PANEL, np.int32)
        table[: len(self.table)] = self.table
        return {"bits": self.bits, "block": self.block, "low": tuple(table[:8].tolist()), "high": tuple(table[8:].tolist())}


@dataclass(slots=True)
class Codes:
    """Weights (outputs, K): ``values`` int8 and ``scales`` float32 (outputs, blocks), whose bits fit an f16."""

    values: Array
    scales: Array


def form_of(params: Mapping[str, Any]) -> Form:
    """What ``Form.params`` wrote."""
    table = [*params["low"], *params["high"]][: 1 << params["bits"]]
    return Form(int(params["bits"]), int(params["block"]), tuple(int(entry) for entry in table))


def choose_table(values: Array) -> tuple[int, tuple[int, ...]] | None:
    """(bits, table) of the fewest bits that holds these whole numbers in [-127, 127], uniform where it can be; or None."""
    used = np.unique(values)
    if not used.size or used[0] < -127 or used[-1] > 127:
        return None
    for bits in (2, 4):
        count = 1 << bits
        if int(used[-1]) - int(used[0]) < count:
            low = max(min(-(count // 2), int(used[0])), int(used[-1]) - count + 1)
            return bits, tuple(range(low, low + count))
        if used.size <= count:
            return bits, tuple(int(v) for v in np.concatenate([used, np.repeat(used[-1:], count - used.size)]))
    return None


def to_half(scales: Array) -> tuple[Array, Array]:
    """float32 (outputs, blocks) >= 0 -> what an f16 holds of them, and a power of two for each output to multiply them by."""
    top = scales.max(axis=1)
    unit = np.where(top > 0, np.ldexp(np.float32(0.5), np.frexp(top)[1]), np.float32(1)).astype(np.float32)
    return (scales / unit[:, None]).astype(np.float16).astype(np.float32), unit


def pack(weights: Codes, form: Form) -> Array:
    """The bytes of the step's second operand."""
    outputs, k = weights.values.shape
    panels, blocks, planes = -(-outputs // PANEL), -(-k // form.block), 8 // form.bits
    order = np.argsort(np.array(form.table), kind="stable")
    index = np.zeros((panels * PANEL, blocks * form.block), np.uint8)
    index[:outputs, :k] = order[np.searchsorted(np.array(form.table)[order], weights.values)]
    steps = index.reshape(panels, PANEL, blocks, -1, planes, 4).transpose(0, 2, 3, 1, 5, 4)  # panel, block, step, n, j, plane
    packed = (steps << (form.bits * np.arange(planes, dtype=np.uint8))).sum(-1).astype(np.uint8)
    halves = np.zeros((panels * PANEL, blocks), np.float16)
    halves[:outputs] = weights.scales
    scales = np.ascontiguousarray(halves.reshape(panels, PANEL, blocks).transpose(0, 2, 1)).view(np.uint8)
    return np.concatenate([scales, packed.reshape(panels, blocks, -1)], axis=2).reshape(-1)


def unpack(packed: Array, form: Form, outputs: int, k: int) -> Codes:
    """What ``pack`` wrote; any bytes are weights of some kind."""
    panels, blocks, planes = -(-outputs // PANEL), -(-k // form.block), 8 // form.bits
    both = (
        packed.reshape(-1)
        .view(np.uint8)[: panels * blocks * (2 * PANEL + 2 * form.bits * form.block)]
        .reshape(panels, blocks, -1)
    )
    halves = np.ascontiguousarray(both[:, :, : 2 * PANEL]).view("<u2").astype(np.uint32) << 13
    scales = halves.view(np.float32) * np.float32(2.0**112)
    held = both[:, :, 2 * PANEL :].reshape(panels, blocks, -1, PANEL, 4, 1)
    index = (held >> (form.bits * np.arange(planes, dtype=np.uint8))) & ((1 << form.bits) - 1)
    values = np.array(form.table, np.int8)[index.transpose(0, 3, 1, 2, 5, 4).reshape(panels * PANEL, -1)]
    return Codes(values[:outputs, :k], scales.transpose(0, 2, 1).reshape(panels * PANEL, blocks)[:outputs].astype(np.float32))


def product(rows: Array, weights: Codes, form: Form, mult: Array, addend: Array) -> Array:
    """float32 (M, K) -> (M, N): rows as int8 (rule 8), exact sums of blocks, ``fmaf`` with the scale of each (rule 1)."""
    q, row_scale = ref.quantize_rows(rows)
    total = np.zeros((len(rows), len(weights.values)), np.float32)
    for g in range(weights.scales.shape[1]):
        part = slice(g * form.block, (g + 1) * form.block)
        acc = q[:, part].astype(np.int64) @ weights.values[:, part].astype(np.int64).T
        total = fma(acc.astype(np.int32).astype(np.float32), np.broadcast_to(weights.scales[:, g], acc.shape), total)
    return ref.scale_accumulator(total, row_scale, mult, addend)
