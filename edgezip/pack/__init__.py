"""From an ONNX model to a program for one target: lowering, fusion, packed weights, arena plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.program import Layout, Program

Array = np.ndarray[Any, Any]
if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.target import Target

__all__ = ["compile"]


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
    from edgezip import __version__, graph
    from edgezip.pack.carried import states_of
    from edgezip.pack.lowering import Lowering

    if isinstance(target, str):
        from edgezip.target import load_target

        target = load_target(target)
    states = states_of(model, state or {}, initial or {})
    lowering = Lowering(model, Layout[target.layout.upper()], target.act_sign, states)
    builder = lowering.run()
    metadata = {
        "edgezip": __version__,
        "target": target.name,
        "model": model.graph.name or "",
        "source_sha256": hashlib.sha256(graph.to_bytes(model)).hexdigest(),
        "notes": sorted(set(lowering.context.notes)),
    }
    program = builder.finish(metadata)
    program.solo_us, program.spin_us = (_or_none(value) for value in (target.cost.solo_us, target.spin_us))
    return program


def _or_none(value: int | None) -> int:
    """As the file has it: 0 is the runtime's own choice, -1 stands for 0."""
    return 0 if value is None else value or -1
