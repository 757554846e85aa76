"""One layer of a compressed network in the place where the untouched network has it, with what makes its weights or inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value


def swapped(before: Model, after: Model, name: str) -> Model | None:
    """A copy of ``before`` with the layer ``name`` as ``after`` has it; None where that does not fit: its shapes are others."""
    made = graph.clone(before)
    graph.raise_opset(made, graph.opset(after))
    old, new = ({node.name: node for node in graph.nodes(model)} for model in (made, after))
    current = graph.values(made)
    if name not in old or name not in new or not same_places(old[name], new[name], current):
        return None
    mine = old[name].outputs[0]
    readers = graph.consumers(mine)
    graph.replace_uses(mine, copied(made, new[name], current).outputs[0], uses=readers, outputs=True)
    graph.sort(made)
    graph.remove_unused(made)
    return made


def same_places(old: Node, new: Node, current: Mapping[str, Value]) -> bool:
    """Whether the new layer, with what makes its weights or thins its input, fits where the old one stands."""
    if graph.shape(old.outputs[0]) != graph.shape(new.outputs[0]):
        return False
    pending = [value for value in new.inputs if value is not None and graph.constant(value) is None]
    while pending:
        value = pending.pop()
        known, maker = current.get(value.name or ""), graph.producer(value)
        if known is not None:
            if graph.shape(known) != graph.shape(value):
                return False
        elif maker is None:
            return False
        else:
            pending += [v for v in maker.inputs if v is not None and graph.constant(v) is None]
    return True


def copied(model: Model, node: Node, current: Mapping[str, Value]) -> Node:
    """The node, with all that makes its weights or thins its input, in ``model``."""
    inputs: list[Value | None] = []
    for value in node.inputs:
        held = graph.constant(value)
        if value is None:
            inputs.append(None)
        elif held is not None:
            inputs.append(graph.add_initializer(model, f"{value.name}_changed", held))
        elif (known := current.get(value.name or "")) is not None:
            inputs.append(known)
        else:
            maker = graph.producer(value)
            assert maker is not None, f"{value.name} is made by nothing"
            inputs.append(copied(model, maker, current).outputs[0])
    made = graph.new_node(model, node.op_type, inputs, f"{node.name}_changed", attrs=graph.attributes(node), like=node.outputs[0])
    copy = graph.producer(made)
    assert copy is not None
    return copy
