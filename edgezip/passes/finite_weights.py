"""Weights that are no numbers are refused where they stand, before a pass spreads them over the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.errors import InvalidModelError

if TYPE_CHECKING:
    from edgezip.graph import Model


def check_finite(model: Model) -> None:
    """Raises InvalidModelError: a float constant that a Conv, ConvTranspose, Gemm or MatMul reads holds NaN or infinity."""
    for node in graph.nodes(model):
        if node.domain or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        for value in node.inputs:
            held = graph.constant(value)
            if value is None or held is None or held.dtype.kind != "f" or np.isfinite(held).all():
                continue
            wrong = ~np.isfinite(held)
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise InvalidModelError(
                f"{int(wrong.sum())} of {held.size} weights are not finite",
                where=f"node '{node.name}' ({node.op_type}), weight '{value.name}' at {place}",
                expected="numbers",
                got=str(held[place]),
                hint="the training has diverged or the file is damaged: export the model again",
            )
