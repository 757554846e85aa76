"""Operators that exporters write in pieces, put together again: one file a pattern, one line here.

A pattern is a module with ``LAST``, the operators that its last node may be, and ``rewrite(model, node)``, which replaces the
pieces that end in ``node`` (``match.replace``) and says whether it did. Shapes are known, constants are folded. A pattern goes
from producer to producer, so whatever stands between the pieces (Q/DQ above all) keeps it from matching. The result computes
pieces compute but for the roundings between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgezip import graph
from edgezip.frontends.patterns import (
    gated_skip,
    gathered,
    gelu,
    hard_sigmoid,
    hard_swish,
    layer_norm,
    one_hot,
    rms_norm,
    sigmoid,
    softmax,
)

if TYPE_CHECKING:
    from edgezip.graph import Model, Node

_PATTERNS: tuple[tuple[frozenset[str], Callable[[Model, Node], bool]], ...] = (
    (sigmoid.LAST, sigmoid.rewrite),
    (hard_sigmoid.LAST, hard_sigmoid.rewrite),
    (hard_swish.LAST, hard_swish.rewrite),
    (gated_skip.LAST, gated_skip.rewrite),
    (gelu.LAST, gelu.rewrite),
    (layer_norm.LAST, layer_norm.rewrite),
    (rms_norm.LAST, rms_norm.rewrite),
    (softmax.LAST, softmax.rewrite),
    (one_hot.LAST, one_hot.rewrite),
    (gathered.LAST, gathered.rewrite),
)  # in this order: a later one may be made of what an earlier one makes


def run(model: Model) -> bool:
    """Rewrites in place and says whether there was anything; the nodes that nobody reads any more are gone afterwards."""
    found_any = False
    for last, rewrite in _PATTERNS:
        found = False
        for node in graph.nodes(model):
            if not node.domain and node.op_type in last and node.graph is not None:
                found |= rewrite(model, node)
        if found:
            graph.remove_unused(model)  # the next pattern counts readers
        found_any |= found
    return found_any
