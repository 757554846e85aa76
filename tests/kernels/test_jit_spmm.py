"""Block-sparse products in Numba equal plain integer arithmetic, and a session on them equals the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from block_cases import as_blocks, random_mask
from conv_cases import ConvSizes, by_reference, conv_program, pack_gemm_s8, random_arena

from edgezip.kernels.jit_spmm import BlocksProduct
from edgezip.kernels.sparse_blocks import blocks_of
from edgezip.program import Layout, Op
from edgezip.runtime.numba_session import NumbaSession


@pytest.mark.parametrize("step", [4, 8])
def test_any_pattern_gives_the_exact_sums(step: int) -> None:
    rng = np.random.default_rng(step)
    for _ in range(60):
        outputs, spans, span, rows = (int(rng.integers(1, most)) for most in (50, 4, 40, 9))
        weights = rng.integers(-127, 128, (outputs, spans, span), np.int8)
        packed = np.ascontiguousarray(pack_gemm_s8(weights, step)).view(np.uint8)
        panels = -(-outputs // 16)
        groups = packed.reshape(panels, -1, 16 * step)
        kept = np.where(random_mask(rng, *groups.shape[:2])[:, :, None], groups, 0).astype(np.uint8)
        blocks = blocks_of(kept, panels, 16 * step)
        dense = blocks.panels().view(np.int8).reshape(panels, -1, 16, step).transpose(0, 2, 1, 3).reshape(panels * 16, spans, -1)
        bias = rng.integers(-1000, 1000, outputs, np.int32)
        product = BlocksProduct(blocks, span, bias)
        seen = rng.integers(-128, 128, (rows, product.k), np.int8)
        acc = np.empty((rows, product.columns), np.int32)
        product(seen.view(np.uint8), rows, acc)
        want = seen.astype(np.int64) @ dense[:outputs, :, :span].reshape(outputs, -1).astype(np.int64).T + bias
        np.testing.assert_array_equal(acc[:, :outputs], want)


@pytest.mark.parametrize(("layout", "act_sign"), [(Layout.K4N16, 0x80), (Layout.K8N16, 0)])
def test_session_equals_the_interpreter(layout: Layout, act_sign: int) -> None:
    rng = np.random.default_rng(layout)
    for case in range(40):
        sizes = ConvSizes(int(rng.choice([6, 16, 40])), 33, (4, 5), kernel=3) if case % 4 == 0 else None
        program = as_blocks(rng, conv_program(rng, Op.CONV, layout, act_sign, True, sizes))
        arena = random_arena(rng, program)
        session = NumbaSession(program, threads=1 + case % 2)
        session._arena[: len(arena)] = arena
        for step in program.steps:
            session._execute(step)
        np.testing.assert_array_equal(session._arena[: len(arena)], by_reference(program, arena)[: len(arena)])
