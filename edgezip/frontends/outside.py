"""Operators that exporters write outside of ONNX and that ONNX can say: written in its words before anything is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Rule = Callable[["onnx.NodeProto"], "list[onnx.NodeProto]"]


def rewrite(proto: onnx.ModelProto) -> None:
    """Replaces, in place, every node that has a rule, whatever domain it claims; the rest is refused by name later."""
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        rule = RULES.get(node.op_type)
        nodes += [node] if rule is None or len(node.input) != 1 or len(node.output) != 1 else rule(node)
    if len(nodes) != len(proto.graph.node):
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)


def _erfc(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """tf2onnx, of Keras' exact GELU: 1 - erf(x)."""
    from onnx import helper

    one, erf = f"{node.output[0]}/one", f"{node.output[0]}/erf"
    return [
        helper.make_node("Constant", [], [one], name=one, value_float=1.0),
        helper.make_node("Erf", list(node.input), [erf], name=erf),
        helper.make_node("Sub", [one, erf], list(node.output), name=node.name),
    ]


RULES: dict[str, Rule] = {"Erfc": _erfc}
