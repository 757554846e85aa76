"""If nodes whose condition is a constant give way to the branch that is taken; other control flow is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgezip import graph
from edgezip.errors import InvalidModelError, UnsupportedModelError

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

KINDS = {"If", "Loop", "Scan"}
WHY = {
    "If": "its condition is known only at run time, and a program has one course",
    "Loop": "a program has one course: how often it turns, and the shapes within, must not depend on data",
    "Scan": "a program has one course; recurrent layers are read as RNN, GRU and LSTM",
}


def inline_branches(model: Model, where: str) -> bool:
    """Puts the taken branch in the place of every If whose condition is constant by now; whether there was one.

    Branches inside a branch wait for the next call. Raises InvalidModelError.
    """
    found = [node for node in graph.nodes(model) if node.op_type == "If" and graph.constant(node.inputs[0]) is not None]
    for node in found:
        _inline(model, node, where)
    return bool(found)


def refuse(model: Model, where: str) -> None:
    """Raises UnsupportedModelError that names every node of control flow that is left."""
    left = [node for node in graph.nodes(model) if node.op_type in KINDS and not node.domain]
    if not left:
        return
    listed = "; ".join(f"node '{node.name}' ({node.op_type}): {WHY[node.op_type]}" for node in left[:8])
    raise UnsupportedModelError(
        f"{len(left)} node(s) of control flow cannot be compiled: {listed}",
        where=where,
        hint="export the model traced (not scripted) with fixed shapes, or give the condition a constant value",
    )


def _inline(model: Model, node: Node, where: str) -> None:
    place = f"{where}: node '{node.name}' (If)"
    held = graph.constant(node.inputs[0])
    assert held is not None
    if held.size != 1:
        raise InvalidModelError("the condition is not one truth value", where=place, expected="1 element", got=str(held.size))
    branch: Any = graph.attribute(node, "then_branch" if held.reshape(()) else "else_branch")
    if branch is None or len(branch.outputs) != len(node.outputs) or len(branch.inputs):
        raise InvalidModelError("the branch does not fit its node", where=place, hint="export the model again")
    results = [_result(model, branch, value, place) for value in branch.outputs]
    _move(model, node, branch)
    for old, new in zip(node.outputs, results, strict=True):
        if old.is_graph_output():  # the branch may give a value of the outer graph, or one value twice
            new = graph.new_node(model, "Identity", [new], f"{old.name}_taken", before=node)
        graph.replace_uses(old, new, outputs=True)
    graph.remove_node(model, node)


def _result(model: Model, branch: Any, value: Value, place: str) -> Value:
    """The branch's result: its own value, or one of the graph around it under its name."""
    if value.producer() is not None or value.name in branch.initializers:
        return value
    outer = graph.values(model).get(str(value.name))
    if outer is None:
        raise InvalidModelError(f"branch output '{value.name}' is made by no node", where=place)
    return outer


def _move(model: Model, node: Node, branch: Any) -> None:
    """All nodes and constants of the branch into the main graph, under names that are free there."""
    values = set(graph.values(model))
    nodes = {own.name for own in graph.nodes(model)}
    constants = list(branch.initializers.values())
    body = list(branch)
    branch.outputs.clear()
    branch.initializers.clear()
    branch.remove(body)
    made = [value for own in body for value in own.outputs]
    for value in made:
        value.shape, value.type = None, None  # what the file declares may belong to other sizes
    for value in [*constants, *(value for value in made if value.name)]:
        graph.rename(value, _free(str(value.name), values))
    for value in constants:
        model.graph.register_initializer(value)
    for own in body:
        own.name = _free(own.name or f"{node.name}_{own.op_type}", nodes)
        model.graph.insert_before(node, own)


def _free(base: str, taken: set[Any]) -> str:
    name, count = base, 0
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name)
    return name
