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

_PATTERNS: tuple[tuple[str, frozenset[str], Callable[[Model, Node], bool]], ...] = (
    ("Sigmoid in pieces: one operator", sigmoid.LAST, sigmoid.rewrite),
    ("HardSigmoid in pieces: one operator", hard_sigmoid.LAST, hard_sigmoid.rewrite),
    ("HardSwish in pieces: one operator", hard_swish.LAST, hard_swish.rewrite),
    ("x + x * gate: one product", gated_skip.LAST, gated_skip.rewrite),
    ("Gelu in pieces: one operator", gelu.LAST, gelu.rewrite),
    ("LayerNormalization in pieces: one operator", layer_norm.LAST, layer_norm.rewrite),
    ("RMSNormalization in pieces: one operator", rms_norm.LAST, rms_norm.rewrite),
    ("Softmax in pieces: one operator", softmax.LAST, softmax.rewrite),
    ("one-hot rows times a table: Gather", one_hot.LAST, one_hot.rewrite),
    ("elementwise work behind Gather: done on the table", gathered.LAST, gathered.rewrite),
)  # in this order: a later one may be made of what an earlier one makes


def run(model: Model) -> bool:
    """Rewrites in place and says whether there was anything; the nodes that nobody reads any more are gone afterwards."""
    found_any = False
    for note, last, rewrite in _PATTERNS:
        found = 0
        for node in graph.nodes(model):
            if not node.domain and node.op_type in last and node.graph is not None:
                found += rewrite(model, node)
        if found:
            graph.count_note(model, note, found)
            graph.remove_unused(model)  # the next pattern counts readers
        found_any |= bool(found)
    return found_any
