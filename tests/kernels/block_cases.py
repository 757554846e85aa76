"""Weights of a step as blocks: which groups are there is drawn in every way that a pattern can be odd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from conv_cases import up

from edgezip.kernels.sparse_blocks import blocks_of
from edgezip.program import BLOCKS, DType, Layout, Program

Array = np.ndarray[Any, Any]


def group_bytes(program: Program) -> int:
    return 64 if program.layout is Layout.K4N16 else 128


def random_mask(rng: np.random.Generator, panels: int, steps: int) -> Array:
    """All, none, some at random, whole panels empty, one group a panel, pairs of panels alike (4x32)."""
    kind = rng.integers(6)
    mask = rng.random((panels, steps)) < rng.choice([0.05, 0.25, 0.5, 0.9])
    if kind == 0:
        mask[:] = True
    elif kind == 1:
        mask[:] = False
    elif kind == 2:
        mask[rng.random(panels) < 0.5] = False
    elif kind == 3:
        mask = np.arange(steps)[None] == rng.integers(0, steps, (panels, 1))
    elif kind == 4:
        mask[1::2] = mask[: 2 * (panels // 2) : 2]
    return mask


def panels_of(program: Program) -> int:
    """Panels of the only CONV or LINEAR step."""
    step, tensors = program.steps[0], program.tensors
    groups = step.params.get("groups", 1)
    return int(groups * up(tensors[step.outputs[0]].dims[-1] // groups, 16) // 16)


def as_blocks(rng: np.random.Generator, program: Program, dense_on: int = 0) -> Program:
    """The program with its weights thinned out, and stored without what is gone; the one before it keeps its own."""
    which = program.steps[0].inputs[1]
    held = program.tensors[which]
    packed = np.frombuffer(program.weights, np.uint8)[held.offset : held.offset + held.bytes]
    panels, size = panels_of(program), group_bytes(program)
    groups = packed.reshape(panels, -1, size)
    thin = np.where(random_mask(rng, *groups.shape[:2])[:, :, None], groups, 0).astype(np.uint8)
    raw = blocks_of(thin, panels, size, dense_on).to_bytes()
    start = up(len(program.weights), 64)
    weights = program.weights + bytes(start - len(program.weights)) + raw.tobytes()
    tensors = list(program.tensors)
    tensors[which] = replace(held, dtype=DType.U8, dims=(len(raw),), row_stride=len(raw), offset=start, form=BLOCKS)
    return replace(program, weights=weights, tensors=tensors)
