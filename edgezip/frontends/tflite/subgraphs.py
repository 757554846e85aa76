"""The one graph that runs: the entry that the file names, with the graphs that its operators call put in their place.

STABLEHLO_COMPOSITE (litert-torch writes whole layers so) and CALL always run another graph, IF one of two; where its condition is
a constant it is settled here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgezip.errors import InvalidModelError, UnsupportedModelError
from edgezip.frontends.tflite.schema import Array, Operator, Subgraph, Tensor

MAX_DEPTH = 16
MAX_OPERATORS = 100_000
Read = Callable[[int], Subgraph]
CALLS: dict[str, str] = {"STABLEHLO_COMPOSITE": "DecompositionSubgraphIndex", "CALL": "Subgraph"}


def inlined(read: Read, index: int, depth: int = 0, done: dict[int, Subgraph] | None = None) -> Subgraph:
    """Graph ``index`` with no call left; ``done`` keeps what was made. Raises InvalidModelError (a circle, too much)."""
    done = {} if done is None else done
    if index in done:
        return done[index]
    graph = read(index)
    initial: dict[str, Array] = {}
    if depth > MAX_DEPTH:
        raise InvalidModelError("graphs call each other too deep, or in a circle", where=graph.where)
    tensors, operators = list(graph.tensors), []
    for op in graph.operators:
        called = _called(graph, op)
        if op.name == "CALL_ONCE" and op.options is not None:
            initial |= _assigned(inlined(read, int(op.options.InitSubgraphIndex()), depth + 1, done))
        operators += [op] if called is None else _inside(inlined(read, called, depth + 1, done), op, tensors, graph.where)
        if len(operators) > MAX_OPERATORS:
            raise InvalidModelError(f"more than {MAX_OPERATORS} operators", where=graph.where)
    numbered = [replace(op, index=number) for number, op in enumerate(operators)]
    done[index] = Subgraph(tensors, numbered, graph.inputs, graph.outputs, graph.where, initial)
    return done[index]


def _assigned(once: Subgraph) -> dict[str, Array]:
    """What a graph that runs once gives to variables: constants only."""
    names: dict[int, str] = {}
    found: dict[str, Array] = {}
    for op in once.operators:
        place = f"{once.where}, operator {op.index} ({op.name}) of the graph that initialises"
        if op.name == "VAR_HANDLE" and op.options is not None and op.outputs:
            names[op.outputs[0]] = (op.options.SharedName() or b"").decode(errors="replace")
        elif op.name == "ASSIGN_VARIABLE" and len(op.inputs) == 2 and op.inputs[0] in names and op.inputs[1] >= 0:
            data = once.tensors[op.inputs[1]].data
            if data is None or once.tensors[op.inputs[1]].scale.size:
                raise UnsupportedModelError("a variable that starts with a computed or quantised value", where=place)
            found[names[op.inputs[0]]] = data
        else:
            raise UnsupportedModelError("more than constants given to variables", where=place, hint="convert it frozen")
    return found


def _called(graph: Subgraph, op: Operator) -> int | None:
    """The graph that an operator runs; None when it is an operator of its own."""
    place = f"{graph.where}, operator {op.index} ({op.name})"
    if op.name in CALLS and op.options is not None:
        return int(getattr(op.options, CALLS[op.name])())
    if op.name != "IF" or op.options is None or not op.inputs or op.inputs[0] < 0:
        return None
    condition = graph.tensors[op.inputs[0]].data
    if condition is None:
        raise UnsupportedModelError(
            "a condition that is computed at run time", where=place, hint="convert each branch as a model of its own"
        )
    return int(op.options.ThenSubgraphIndex() if condition.reshape(-1)[0] else op.options.ElseSubgraphIndex())


def _inside(called: Subgraph, op: Operator, tensors: list[Tensor], where: str) -> list[Operator]:
    """The operators of the called graph on the caller's tensors, to which its inner ones are added."""
    given = op.inputs[1:] if op.name == "IF" else op.inputs
    if len(given) != len(called.inputs) or len(op.outputs) != len(called.outputs) or -1 in given:
        raise InvalidModelError(
            "inputs or outputs that the called graph does not have", where=f"{where}, operator {op.index} ({op.name})"
        )
    place = dict(zip(called.inputs, given, strict=True))
    handed: list[Operator] = []
    for inner, outer in zip(called.outputs, op.outputs, strict=True):
        if inner in place or called.tensors[inner].data is not None:  # an input, a constant, or given twice
            handed.append(Operator(op.index, "RESHAPE", (inner,), (outer,)))
        else:
            place[inner] = outer
    for number, tensor in enumerate(called.tensors):
        if number not in place:
            place[number] = len(tensors)
            tensors.append(replace(tensor, name=f"{op.name.lower()}_{op.index}/{tensor.name}"))
    body = [
        replace(part, inputs=tuple(place.get(i, -1) for i in part.inputs), outputs=tuple(place[i] for i in part.outputs))
        for part in called.operators
    ]
    return body + [replace(part, inputs=(place[part.inputs[0]],)) for part in handed]
