"""Nodes that int8 would gain nothing on, or harm: what stands between the float operators of a transformer.

Scores of attention reach from a product of two activations to the softmax: their mask is -10,000, which no int8 range holds
beside them. The sums that a normalisation reads are the stream of a transformer, whose outliers int8 would flatten. And an
elementwise node between float operators alone would only be quantised to be dequantised again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

NORMS = {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"}
SCORES = {"Mul", "Div", "Add", "Sub", "Where", "Softmax"}
MOVEMENT = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"}
SCORES_REASON = "scores of attention stay in float between their products"
STREAM_REASON = "the sum that a normalisation reads stays in float"
ISLAND_REASON = "stands between operators that run in float"


def multiplies_activations(node: Node) -> bool:
    """Whether the node is a MatMul of two activations: no constants, nor weights that a pass before stored as integers."""
    return node.op_type == "MatMul" and all(
        v is not None and graph.constant(v) is None and not _is_stored(v) for v in node.inputs
    )


def _is_stored(value: Value) -> bool:
    maker = graph.producer(value)
    return maker is not None and maker.op_type == "DequantizeLinear"


def float_islands(model: Model, quantisable: dict[str, bool], elementwise: set[str]) -> dict[str, str]:
    """Nodes among the ``quantisable`` that should run in float, and why; ``elementwise``: operators that may be islands."""
    kept: dict[str, str] = {}
    for node in graph.nodes(model):
        if node.op_type == "Softmax" and any(multiplies_activations(user) for user in _users(node)):
            _keep_scores(node, kept)
    for node in reversed(graph.nodes(model)):
        users = _users(node)
        if node.op_type != "Add" or not quantisable[node.name or ""] or not users:
            continue
        in_stream = any(user.op_type in NORMS for user in users)
        if in_stream or all(kept.get(user.name or "") == STREAM_REASON for user in users):
            kept.setdefault(node.name or "", STREAM_REASON)

    def is_float(node: Node) -> bool:
        return node.name in kept or not quantisable[node.name or ""]

    candidates = [n for n in graph.nodes(model) if n.op_type in elementwise and not is_float(n)]
    for node in reversed(candidates):
        users = _users(node)
        if users and all(user.name in kept for user in users):
            kept[node.name or ""] = ISLAND_REASON
    kept.update(dict.fromkeys(_islands([n for n in candidates if not is_float(n)], is_float), ISLAND_REASON))
    return {name: reason for name, reason in kept.items() if quantisable.get(name)}


def _users(node: Node) -> list[Node]:
    """Who reads the results, behind operators that only move data."""
    found: list[Node] = []
    for output in node.outputs:
        for user, _ in graph.consumers(output):
            found += _users(user) if user.op_type in MOVEMENT else [user]
    return found


def _maker(value: Value) -> Node | None:
    maker = graph.producer(value)
    while maker is not None and maker.op_type in MOVEMENT and maker.inputs[0] is not None:
        maker = graph.producer(maker.inputs[0])
    return maker


def _keep_scores(softmax: Node, kept: dict[str, str]) -> None:
    """The softmax and what leads to it from the product: each node read by the next alone."""
    chain, node = [softmax], softmax
    while True:
        before = [maker for v in node.inputs if v is not None and (maker := _maker(v)) is not None]
        before = [maker for maker in before if graph.dtype(maker.outputs[0]) == np.float32]
        if any(multiplies_activations(maker) for maker in before):
            kept.update({each.name or "": SCORES_REASON for each in chain})
            return
        single = [maker for maker in before if maker.op_type in SCORES and len(_users(maker)) == 1]
        if len(single) != 1:
            return
        node = single[0]
        chain.append(node)


def _islands(candidates: list[Node], is_float: Callable[[Node], bool]) -> set[str]:
    """Names of the candidates that only float nodes and each other feed and read.

    What the outside feeds may be int8 from the start, as a picture is: it is no island.
    """
    left = {n.name or "": n for n in candidates}

    def is_inside(node: Node | None) -> bool:
        return node is not None and (is_float(node) or node.name in left)

    while True:
        ashore = [name for name, node in left.items() if not all(map(is_inside, [*_users(node), *_makers(node)]))]
        if not ashore:
            return set(left)
        for name in ashore:
            del left[name]


def _makers(node: Node) -> list[Node | None]:
    return [_maker(v) for v in node.inputs if v is not None and graph.constant(v) is None]
