"""Which graph inputs are states: what a run leaves in a paired graph output is there in the next run."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import ShapeError, UsageError

if TYPE_CHECKING:
    from edgezip.graph import Model

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Carried:
    """A state by the names of its graph input and output; ``initial`` None stands for zeros."""

    input: str
    output: str
    initial: Array | None = None


def states_of(model: Model, given: Mapping[str, str], initial: Mapping[str, Array]) -> list[Carried]:
    """The states of a model, in the order of its inputs: those that it declares itself (its metadata), and ``given``.

    Raises UsageError (no such input or output, nothing left for the caller) and ShapeError (the two ends, or an initial value,
    differ in type or shape).
    """
    pairs = {**json.loads(graph.get_metadata(model, graph.STATE) or "{}"), **given}
    initial = {**_declared(model), **initial}
    inputs = {str(value.name): value for value in graph.input_values(model)}
    outputs = {str(value.name): value for value in graph.output_values(model)}
    _check_names("input", pairs, inputs)
    _check_names("output", pairs.values(), outputs)
    _check_names("state", initial, pairs)
    if len(set(pairs.values())) < len(pairs):
        raise UsageError("one output cannot be the state of two inputs", where="--state", got=_written(pairs))
    for kind, names, ends in (("input", pairs, inputs), ("output", pairs.values(), outputs)):
        if pairs and len(names) == len(ends):
            raise UsageError(f"no {kind} is left that is not a state", where="--state", got=_written(pairs))
    for name, result in pairs.items():
        own, back = inputs[name], outputs[result]
        wanted = f"{graph.dtype(own)} {graph.shape(own)}"
        if graph.shape(own) != graph.shape(back) or graph.dtype(own) != graph.dtype(back):
            got = f"{graph.dtype(back)} {graph.shape(back)}"
            raise ShapeError(
                f"output '{result}' cannot be the next '{name}'", where=f"--state {name}={result}", expected=wanted, got=got
            )
        if name in initial and (initial[name].shape != graph.shape(own) or initial[name].dtype != graph.dtype(own)):
            got = f"{initial[name].dtype} {initial[name].shape}"
            raise ShapeError("the initial value does not fit the state", where=name, expected=wanted, got=got)
    return [Carried(name, pairs[name], initial.get(name)) for name in inputs if name in pairs]


def _declared(model: Model) -> dict[str, Array]:
    """The first values that a front end found in the file, by input."""
    held = json.loads(graph.get_metadata(model, graph.STATE_INITIAL) or "{}")
    ends = {str(value.name): value for value in graph.input_values(model) if value.name in held}
    arrays = {name: np.frombuffer(base64.b64decode(held[name]), graph.dtype(value)) for name, value in ends.items()}
    return {name: array.reshape(graph.shape(ends[name])) for name, array in arrays.items()}


def _check_names(kind: str, names: Any, known: Mapping[str, Any]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        expected = ", ".join(known) or "none"
        raise UsageError(f"no {kind} is called {', '.join(unknown)}", where="--state", expected=expected, got=", ".join(unknown))


def _written(pairs: Mapping[str, str]) -> str:
    return ",".join(f"{name}={result}" for name, result in pairs.items())
