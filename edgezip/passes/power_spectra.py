"""Squares under a root or a logarithm: the power of a spectrum on its way to magnitudes or decibels.

A square doubles the range in powers of two that int8 would have to hold, and the root takes it back: between them float is used.
Silero VAD, 40 noisy clips: area under the ROC curve 96.30 in float, 96.09 with int8 powers (27 clips worse, 11 better), 96.45
without (13 worse, 8 better).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node

ROOTS = {"Sqrt", "Log"}
BETWEEN = {"Add", "ReduceSum", "ReduceMean", "MatMul", "Clip", "Max"}  # sums, mel filters, a floor before the logarithm


def nodes_under_roots(model: Model) -> set[str]:
    """Names of the roots and logarithms that stand behind squares, of the squares, and of what stands between."""
    found: set[str] = set()
    for node in graph.nodes(model):
        if node.op_type in ROOTS and (chain := _chain(node)):
            found |= chain
    return found


def _chain(root: Node) -> set[str]:
    """Everything from the squares to ``root``; nothing when there are no squares."""
    chain: set[str] = {root.name or ""}
    pending, has_square = [root], False
    while pending:
        for value in pending.pop().inputs:
            maker = graph.producer(value) if value is not None else None
            if maker is None or (maker.name or "") in chain:
                continue
            if is_square(maker):
                has_square = True
            elif maker.op_type not in BETWEEN:
                continue
            else:
                pending.append(maker)
            chain.add(maker.name or "")
    return chain if has_square else set()


def is_square(node: Node) -> bool:
    """x * x, or x to the power of two."""
    if node.op_type == "Mul":
        return node.inputs[0] is node.inputs[1]
    exponent = graph.constant(node.inputs[1]) if node.op_type == "Pow" else None
    return exponent is not None and exponent.size == 1 and float(exponent.reshape(())) == 2.0
