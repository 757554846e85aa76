"""If nodes give way to the branch that is taken, or to both and a choice; other control flow is refused by name.

A program has one course. Where the condition is a constant, one branch stays. Where it is known only at run time, both are
computed and the results of one are chosen, which branches allow that give the same shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import InvalidModelError, UnsupportedModelError

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

CHOICE = "edgezip.choice"  # metadata of a Where that stands for an If of run time, until the shapes of both sides are compared
KINDS = {"If", "Loop", "Scan"}
WHY = {
    "If": "one of its branches cannot be written in its place",
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
        graph.count_note(model, "If with a constant condition: the branch that is taken")
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


def select_branches(model: Model, where: str) -> bool:
    """Puts both branches and a Where for each result in the place of every If that is left; whether there was one.

    To be called when no condition can become constant any more. ``check_choices`` compares the shapes once they are known.
    """
    found = [node for node in graph.nodes(model) if node.op_type == "If" and not node.domain and node.inputs[0] is not None]
    for node in found:
        graph.count_note(model, "If with a condition of run time: both branches, and a choice")
        place = f"{where}: node '{node.name}' (If)"
        taken, other = (_written_out(model, node, name, place) for name in ("then_branch", "else_branch"))
        shape = graph.add_initializer(model, f"{node.name}.scalar", np.zeros(0, np.int64))
        condition = graph.new_node(model, "Reshape", [node.inputs[0], shape], f"{node.name}.condition", before=node)
        for result, one, two in zip(node.outputs, taken, other, strict=True):
            chosen = graph.new_node(model, "Where", [condition, one, two], f"{result.name}.chosen", before=node)
            maker = graph.producer(chosen)
            assert maker is not None
            graph.set_metadata(maker, CHOICE, str(node.name))
            graph.replace_uses(result, chosen, outputs=True)
        graph.remove_node(model, node)
    return bool(found)


def check_choices(model: Model, where: str) -> None:
    """Raises UnsupportedModelError when a result of run time has another shape or type in one branch than in the other."""
    for node in graph.nodes(model):
        name = graph.get_metadata(node, CHOICE)
        if name is None:
            continue
        one, two = (value for value in node.inputs[1:] if value is not None)
        if graph.shape(one) != graph.shape(two) or graph.dtype(one) != graph.dtype(two):
            raise UnsupportedModelError(
                "the branches of a condition of run time give different shapes",
                where=f"{where}: node '{name}' (If)",
                expected=f"{graph.dtype(one)} {graph.shape(one)}",
                got=f"{graph.dtype(two)} {graph.shape(two)}",
                hint="a program computes both and chooses; export the model traced, or give the condition a constant value",
            )
        graph.set_metadata(node, CHOICE, None)


def _inline(model: Model, node: Node, where: str) -> None:
    place = f"{where}: node '{node.name}' (If)"
    held = graph.constant(node.inputs[0])
    assert held is not None
    if held.size != 1:
        raise InvalidModelError("the condition is not one truth value", where=place, expected="1 element", got=str(held.size))
    results = _written_out(model, node, "then_branch" if held.reshape(()) else "else_branch", place)
    for old, new in zip(node.outputs, results, strict=True):
        if old.is_graph_output():  # the branch may give a value of the outer graph, or one value twice
            new = graph.new_node(model, "Identity", [new], f"{old.name}_taken", before=node)
        graph.replace_uses(old, new, outputs=True)
    graph.remove_node(model, node)


def _written_out(model: Model, node: Node, name: str, place: str) -> list[Value]:
    """The results of a branch, whose nodes then stand before the node."""
    branch: Any = graph.attribute(node, name)
    if branch is None or len(branch.outputs) != len(node.outputs) or len(branch.inputs):
        raise InvalidModelError("the branch does not fit its node", where=place, hint="export the model again")
    results = [_result(model, branch, value, place) for value in branch.outputs]
    _move(model, node, branch)
    return results


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
