"""How one step takes another's work over: whose results only it reads, whose tensor it writes from then on."""

from __future__ import annotations

from collections.abc import Callable

from edgezip.pack.builder import Builder
from edgezip.pack.uses import is_whole, readers, writers
from edgezip.program import Step


def kill(builder: Builder, index: int) -> None:
    """Leave a step without effect: it writes a buffer of its own that nobody reads, and drop_unread removes it."""
    step = builder.steps[index]
    old = builder.tensors[step.outputs[0]]
    step.outputs = (builder.arena(old.name, old.dtype, old.dims, old.scale, old.zero_point),)
    step.inputs = tuple(-1 for _ in step.inputs)


def producers_of(builder: Builder, index: int, tensor: int, fits: Callable[[Step], bool]) -> list[int]:
    """Steps that write ``tensor``, when step ``index`` is their only reader and all of them fit; else nothing."""
    if readers(builder, tensor) != [index] or not is_whole(builder, tensor):
        return []
    made_by = writers(builder, tensor)
    return made_by if made_by and all(i < index and fits(builder.steps[i]) for i in made_by) else []


def describe(builder: Builder, place: int, absorbed: int) -> None:
    """Note in the form of step ``place`` which nodes it now computes too."""
    held = builder.forms[absorbed]
    fused = [*held.get("fused", ()), *([held["node"]] if "node" in held else ())]
    builder.forms[place]["fused"] = [*builder.forms[place].get("fused", ()), *fused]


def redirect(builder: Builder, step: Step, tensor: int) -> None:
    """Let ``step`` write ``tensor``, seen under the dims that the step wrote before."""
    dims = builder.tensors[step.outputs[0]].dims
    step.outputs = (builder.view(tensor, dims),)


def with_input(step: Step, position: int, tensor: int) -> None:
    """Gives the step an optional input."""
    inputs = list(step.inputs) + [-1] * (position + 1 - len(step.inputs))
    inputs[position] = tensor
    step.inputs = tuple(inputs)
