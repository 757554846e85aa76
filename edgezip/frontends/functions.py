"""Model-local functions: refused when recursive or when inlining would explode, inlined otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgezip.errors import InvalidModelError
from edgezip.frontends.structure import MAX_NESTING, MAX_NODES

if TYPE_CHECKING:
    import onnx

    from edgezip.graph import Model

Key = tuple[str, str, str]


def check(proto: onnx.ModelProto, where: str) -> None:
    """Raises InvalidModelError on recursion, on chains deeper than 32 and on more than 10^5 nodes after inlining."""
    bodies: dict[Key, Any] = {}
    for function in proto.functions:
        key = (function.domain, function.name, function.overload)
        if key in bodies:
            raise InvalidModelError(f"function '{function.name}' is defined twice", where=where)
        bodies[key] = function
    calls = {key: _calls(body, bodies) for key, body in bodies.items()}
    sizes: dict[Key, tuple[int, int]] = {}  # nodes after inlining, depth of calls
    for key in bodies:
        _measure(key, bodies, calls, sizes, where)
    total = len(proto.graph.node) + sum(sizes[key][0] for key in _calls(proto.graph, bodies))
    if total > MAX_NODES:
        raise InvalidModelError(
            "functions expand to too many nodes", where=where, expected=f"at most {MAX_NODES}", got=str(total)
        )


def _calls(body: Any, bodies: dict[Key, Any]) -> list[Key]:
    """The functions that a body calls, once for every call, subgraphs included."""
    found, stack = [], list(body.node)
    while stack:
        node = stack.pop()
        key = (node.domain, node.op_type, node.overload)
        if key in bodies:
            found.append(key)
        for attr in node.attribute:
            for inner in [*([attr.g] if attr.HasField("g") else []), *attr.graphs]:
                stack.extend(inner.node)
    return found


def _measure(
    start: Key, bodies: dict[Key, Any], calls: dict[Key, list[Key]], sizes: dict[Key, tuple[int, int]], where: str
) -> None:
    """Fills ``sizes`` for ``start`` and all below it with an explicit stack: a chain may be thousands deep."""
    stack, open_keys = [start], set()
    while stack:
        key = stack[-1]
        if key in sizes:
            stack.pop()
            continue
        waiting = [called for called in dict.fromkeys(calls[key]) if called not in sizes]
        if (key in open_keys and waiting) or key in calls[key]:
            raise InvalidModelError(
                f"function '{key[1]}' calls itself", where=where, hint="export the model without recursive functions"
            )
        open_keys.add(key)
        if waiting:
            stack.extend(waiting)
            if any(called in open_keys for called in waiting):
                raise InvalidModelError(
                    f"function '{key[1]}' calls itself", where=where, hint="export the model without recursive functions"
                )
            continue
        depth = 1 + max((sizes[called][1] for called in calls[key]), default=0)
        if depth > MAX_NESTING:
            raise InvalidModelError(
                "functions nest too deep",
                where=f"{where}: function '{key[1]}'",
                expected=f"at most {MAX_NESTING}",
                got=str(depth),
            )
        count = len(bodies[key].node) + sum(sizes[called][0] for called in calls[key])
        sizes[key] = (min(count, MAX_NODES + 1), depth)
        stack.pop()


def inline(model: Model, where: str) -> None:
    """Replaces every call by the function's nodes. Raises InvalidModelError."""
    if not model.functions:
        return
    import onnx_ir.passes.common as common

    steps: list[Any] = [common.InlinePass(), common.RemoveUnusedFunctionsPass(), common.RemoveUnusedOpsetsPass()]  # type: ignore[no-untyped-call]
    try:
        for step in steps:
            step(model)
    except Exception as error:  # onnx_ir wraps any failure in a class of its own
        raise InvalidModelError(f"cannot inline the model's functions: {error}", where=where) from error
