"""A network that says the same with channels of very different size: what a quantiser with one scale for the tensor fails on.

Every place where channels may be divided on one side and multiplied on the other (see ``passes.channel_links``) gets powers of
two, drawn at random, chains with ReLU6 too; powers of two leave the float outputs as they were, to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph
from edgezip.passes.channel_links import apply_scale, find_links

if TYPE_CHECKING:
    from edgezip.graph import Model

EXPONENT = 5  # the largest, to both sides: a channel may be 1024 times as large as another


def rescaled(model: Model, seed: int = 0) -> Model:
    """A copy of ``model`` with channels divided by random powers of two where they are made, multiplied where they are read."""
    changed = graph.clone(model)
    generator = np.random.default_rng(seed)
    for link in find_links(changed, through_caps=True):
        apply_scale(changed, link, 2.0 ** generator.integers(-EXPONENT, EXPONENT + 1, link.channels))
    return changed
