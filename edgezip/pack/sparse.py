"""Which form packed int8 weights take in the file: panels, or blocks without the empty groups; and where the blocks are skipped.

Blocks are stored wherever they are smaller. Whether a kernel then skips what is not there, or multiplies by the panels that
they stand for, is decided here, layer by layer, from the target's measured break-even table (``[sparse]`` of its profile).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.kernels.sparse_blocks import ISAS, MOST_EXPANDED, MOST_STEPS, blocks_of
from edgezip.pack.layouts import k_step
from edgezip.program import BLOCKS, DType

if TYPE_CHECKING:
    from edgezip.pack.builder import Builder
    from edgezip.target import BreakEven

Array = np.ndarray[Any, Any]
MOST_SHARE = 7 / 8  # of groups: more are not worth a list
FEW_ROWS = 5
WINOGRAD_CHANNELS, WINOGRAD_TILES, WINOGRAD_ROW = (16, 1024), 9, 1 << 20  # core/winograd_driver.c


def runs_blocks(share: float, kinds: set[str], even: BreakEven | None) -> bool:
    """Whether skipping beats panels when ``share`` of the groups is left: below the break-even of each of ``kinds``."""
    return even is not None and all(share <= getattr(even, kind) for kind in kinds)


def constant(builder: Builder, name: str, packed: Array, panels: int, kinds: set[str]) -> tuple[int, dict[str, Any]]:
    """The tensor of packed weights (uint8), and what the metadata says of it; ``kinds``: how its dense kernel works here."""
    size = 16 * k_step(builder.layout)
    if packed.nbytes > MOST_EXPANDED or packed.nbytes // panels // size > MOST_STEPS:
        return builder.constant(name, packed, DType.U8), {}
    made = blocks_of(packed, panels, size)
    if made.share > MOST_SHARE or made.bytes >= packed.nbytes:
        return builder.constant(name, packed, DType.U8), {}
    kinds = {"rows", "few_rows", "winograd"} if builder.any_size else kinds
    skips = [isa for isa in ISAS if runs_blocks(made.share, kinds, builder.sparse.get(isa))]
    dense_on = sum(1 << bit for bit, isa in enumerate(ISAS) if isa not in skips)
    raw = blocks_of(packed, panels, size, dense_on).to_bytes()
    told = {"kept": round(made.share, 4), "skipped_on": skips}
    return builder.constant(name, raw, DType.U8, form=BLOCKS), {"blocks": told}


def kinds_of_rows(rows: int) -> set[str]:
    """The kernel that a product of so many rows meets."""
    return {"few_rows"} if rows <= FEW_ROWS else {"rows"}


def kinds_of_conv(params: Mapping[str, Any], batch: int, channels: int) -> set[str]:
    """The same of a convolution: where an ISA has Winograd's, it runs 3x3 ones as core/winograd_driver.c says."""
    window = [params[f"{name}_{axis}"] for name in ("kernel", "stride", "dilation", "out_step") for axis in "hw"]
    height, width = params["out_h"], params["out_w"]
    down, across = -(-height // 2), -(-width // 2)
    least, most = WINOGRAD_CHANNELS
    by_tiles = (
        window == [3, 3, 1, 1, 1, 1, 1, 1] and params["groups"] == 1 and channels % 4 == 0 and least <= channels <= most
        and down * across >= WINOGRAD_TILES and 2 * down * across <= height * width and across * channels * 32 <= WINOGRAD_ROW
    )  # fmt: skip
    return {"winograd"} if by_tiles else kinds_of_rows(batch * height * width)
