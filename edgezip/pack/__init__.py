"""From an ONNX model to a program for one target: lowering, fusion, packed weights, arena plan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.program import Program

Array = np.ndarray[Any, Any]
if TYPE_CHECKING:
    from edgezip.dynamic import Symbol
    from edgezip.graph import Model
    from edgezip.pack.builder import Builder
    from edgezip.target import Target

__all__ = ["compile", "compile_dynamic"]


def compile(
    model: Model,
    target: Target | str = "host",
    *,
    state: Mapping[str, str] | None = None,
    initial: Mapping[str, Array] | None = None,
) -> Program:
    """The program of a model whose shapes are all static (as ``edgezip.frontends.load`` gives it), for ``target``.

    ``state`` names the graph inputs that the session carries from run to run, each with the graph output that follows it, beside
    those that the model declares itself; ``initial`` gives values that are not zeros. Deterministic: the same arguments give the
    same bytes. Raises UnsupportedModelError that lists every node without a kernel, NumericsError (an accumulator may overflow),
    TargetError, UsageError and ShapeError (states).
    """
    from edgezip.pack.carried import states_of
    from edgezip.pack.lowering import Lowering

    target = _loaded(target)
    states = states_of(model, state or {}, initial or {})
    lowering = Lowering(model, target, states)
    builder = lowering.run()
    program = builder.finish(_source(model, target, set(lowering.context.notes)))
    program.solo_us, program.spin_us = (_or_none(value) for value in (target.cost.solo_us, target.spin_us))
    return program


def compile_dynamic(
    model_at: Callable[[tuple[int, ...]], Model],
    symbols: Sequence[Symbol],
    shown_by: Sequence[tuple[str, int]],
    target: Target | str = "host",
    *,
    state: Mapping[str, str] | None = None,
    initial: Mapping[str, Array] | None = None,
) -> Program:
    """One program for every size of one or two dynamic dimensions; ``model_at`` gives the model of one.

    ``shown_by``: the graph input and axis that show the size of each symbol.

    Raises what ``compile`` raises, and UnsupportedModelError that names node and field when something depends on the size in a
    way that has no formula.
    """
    from edgezip.pack.carried import states_of
    from edgezip.pack.dynamic import StepsChangeError, compile_sizes
    from edgezip.pack.lowering import Lowering

    chosen, notes = _loaded(target), set()
    bound = tuple(symbol.high for symbol in symbols)
    largest = model_at(bound)

    def lower(sizes: tuple[int, ...], uniform: bool) -> Builder:
        model = largest if sizes == bound else model_at(sizes)
        states = states_of(model, state or {}, initial or {})
        lowering = Lowering(model, chosen, states, any_size=True, uniform=uniform)
        builder = lowering.run()
        notes.update(lowering.context.notes)
        return builder

    try:
        program = compile_sizes(partial(lower, uniform=False), symbols, shown_by)
    except StepsChangeError:
        program = compile_sizes(partial(lower, uniform=True), symbols, shown_by)
    program.metadata |= _source(largest, chosen, notes)
    program.solo_us, program.spin_us = (_or_none(value) for value in (chosen.cost.solo_us, chosen.spin_us))
    return program


def _loaded(target: Target | str) -> Target:
    if not isinstance(target, str):
        return target
    from edgezip.target import load_target

    return load_target(target)


def _source(model: Model, target: Target, notes: set[str]) -> dict[str, Any]:
    """What the metadata says of where a program comes from."""
    from edgezip import __version__, graph

    return {
        "edgezip": __version__,
        "target": target.name,
        "model": model.graph.name or "",
        "source_sha256": hashlib.sha256(graph.to_bytes(model)).hexdigest(),
        "notes": sorted(notes),
    }


def _or_none(value: int | None) -> int:
    """As the file has it: 0 is the runtime's own choice, -1 stands for 0."""
    return 0 if value is None else value or -1
