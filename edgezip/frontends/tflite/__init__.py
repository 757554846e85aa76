"""TensorFlow Lite files -> ONNX in QDQ form -> the one checked and simplified model that the ONNX front end makes.

``schema`` reads and checks the records, ``emitter`` builds the ONNX graph, one module of operators for each family.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgezip.errors import ShapeError, UnsupportedModelError
from edgezip.frontends import onnx
from edgezip.frontends.tflite import (
    batches,  # noqa: F401
    detection,  # noqa: F401
    elementwise,  # noqa: F401
    indexing,  # noqa: F401
    movement,  # noqa: F401
    products,  # noqa: F401
    recurrent,  # noqa: F401
    reductions,  # noqa: F401
    schema,
    subgraphs,
    variables,  # noqa: F401
)
from edgezip.frontends.tflite.emitter import CONVERTERS, Emitter

if TYPE_CHECKING:
    from edgezip.graph import Model


@np.errstate(all="ignore")  # a hostile file's numbers stay what they are, without warnings of NumPy
def load(path: str | Path, *, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Model:
    """The checked and simplified model of a .tflite file: float32, float16 weights, or fully quantised int8.

    Activations stay NHWC at the graph's inputs and outputs, as in the file. Unknown dimensions become 1, or what ``shapes`` says;
    the others are those of the file. Raises MissingFileError, InvalidModelError, UnsupportedModelError (all operators it cannot
    take, at once), ShapeError, RuntimeUnavailableError (no schema package).
    """
    graph = schema.read(path)
    for name, wanted in (shapes or {}).items():
        given = next((graph.tensors[i] for i in graph.inputs if graph.tensors[i].name == name), None)
        if given is None or not given.takes(tuple(wanted)):
            known = {graph.tensors[i].name: graph.tensors[i].signature for i in graph.inputs}
            raise ShapeError(
                "the file fixes that shape", where=f"{path}, input {name}", expected=str(known), got=str(tuple(wanted)),
                hint="only dimensions of -1 can be chosen; convert the model again for another size",
            )  # fmt: skip
        given.shape = tuple(wanted)
    return onnx.load(to_onnx(graph), where=str(path))


def builtin_operators() -> dict[str, str | None]:
    """Every builtin operator of the schema, with what becomes of it; None when it is refused."""
    import tflite

    names = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    how: dict[str, str | None] = dict.fromkeys((names[number] for number in sorted(names)), None)
    how |= dict.fromkeys(CONVERTERS, "operators of ONNX")
    how |= dict.fromkeys(subgraphs.CALLS, "the graph that it calls")
    return how | {"IF": "the branch that a constant condition chooses"}


def to_onnx(graph: schema.Subgraph) -> bytes:
    """The subgraph as the bytes of a QDQ ONNX model."""
    unknown = [f"{op.name} (operator {op.index})" for op in graph.operators if op.name not in CONVERTERS]
    if unknown:
        raise UnsupportedModelError(
            f"{len(unknown)} operators have no counterpart: {', '.join(unknown[:20])}",
            where=graph.where,
            hint="convert that part to other operators, or export the model to ONNX",
        )
    emitter = Emitter(graph)
    with schema.damage(graph.where):  # options are read only now
        for op in graph.operators:
            emitter.convert(op)
        return emitter.model()
