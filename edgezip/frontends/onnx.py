"""ONNX files, opset 1 to 28: bytes -> checked -> shapes known -> constants folded -> simplified model.

The order is the defence: nothing is allocated, inferred or computed before the structure and the sizes were checked, and no
external file is opened before its path was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import InvalidModelError
from edgezip.frontends import (
    attributes,
    control_flow,
    decompose,
    dimensions,
    empty,
    external,
    fold,
    frozen,
    functions,
    outside,
    parse,
    patterns,
    precision,
    rewrite,
    simplify,
    spectral,
    standard,
    structure,
    transposes,
    versions,
)

if TYPE_CHECKING:
    import onnx

    from edgezip.graph import Model

MAX_ROUNDS = 32  # of inference and folding; each round but the last folds at least one node
FREE_INITIALIZERS = 4  # the first version whose constants need not be inputs too; exporters of older files often left that out
IR_VERSION = 10  # the first whose nodes and values carry metadata; older files put initializers among the inputs


def load(
    path: str | Path | bytes,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, graph.Array] | None = None,
    batch: int = 1,
    fold_limit_bytes: int = fold.LIMIT_BYTES,
    where: str | None = None,
) -> Model:
    """The checked and simplified model of an ONNX file (or of its bytes, then without external data).

    A dynamic first dimension of an input becomes ``batch``; ``shapes`` (``{input name: dimensions}``) fixes all others. Every
    value of the result has a static shape and a dtype. ``constants`` (``{input name: array}``) fixes inputs to a value: they are
    no inputs any more. No constant larger than ``fold_limit_bytes`` is computed. ``where`` names
    the model in messages when it is given as bytes. Raises
    MissingFileError, InvalidModelError (malformed or hostile), UnsupportedModelError, ShapeError, UsageError.
    """
    where = where or ("model" if isinstance(path, bytes) else str(path))
    given = _given(shapes)
    return simplified(checked(path, given, constants or {}, where), where, given, batch, fold_limit_bytes)


@np.errstate(all="ignore")
def checked(
    path: str | Path | bytes, given: Mapping[str, tuple[int, ...]], constants: Mapping[str, graph.Array], where: str
) -> onnx.ModelProto:
    """The file, whole and valid, as it is; what it declares may still be dynamic."""
    proto = parse.read(path, where)
    structure.check(proto, where)
    frozen.freeze(proto, constants, where)
    functions.check(proto, where)
    external.load(proto, None if isinstance(path, bytes) else Path(path), where)
    precision.to_float32(proto, where)
    proto.ir_version = max(proto.ir_version, FREE_INITIALIZERS)
    outside.rewrite(proto)
    structure.check_operators(proto, where)
    dimensions.declare_missing(proto, given, where)
    _run_checker(proto, where)
    return versions.raise_old(proto, where)


def _given(shapes: Mapping[str, tuple[int, ...]] | None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(dim) for dim in dims) for name, dims in (shapes or {}).items()}


def _run_checker(proto: onnx.ModelProto, where: str) -> None:
    import onnx

    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # ValidationError, and plain RuntimeError from its C++ part
        raise InvalidModelError(f"not valid ONNX: {_first_line(error)}", where=where, hint="export the model again") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@np.errstate(all="ignore")  # a hostile file's infinities and NaN stay what they are, without warnings of NumPy
def simplified(
    proto: onnx.ModelProto,
    where: str,
    given: Mapping[str, tuple[int, ...]],
    batch: int,
    limit: int,
    *,
    check: bool = True,
    weights: Mapping[str, Any] | None = None,
) -> Model:
    """The model of a checked file at the given sizes; the file itself is left as it is.

    ``check``: prove the result valid. ``weights``: initializers by name that the file has only the types of (``resizable.py``).
    """
    try:
        model = graph.from_proto(proto)
    except Exception as error:  # onnx_ir raises a chain of its own classes
        raise InvalidModelError(f"cannot build the graph: {_first_line(error)}", where=where) from error
    for value in graph.initializers(model) if weights else ():
        value.const_value = weights.get(str(value.name), value.const_value) if weights else None
    model.ir_version = max(model.ir_version, IR_VERSION)
    functions.inline(model, where)
    structure.check_domains(model, where)
    simplify.inputs_without_initializers(model)
    simplify.name_nodes(model)
    spectral.write_defaults(model)
    attributes.check(model, where)
    declared = dimensions.fix_inputs(model, given, batch, where)
    _fold_and_infer(model, where, limit)
    if dimensions.learn_missing(model, where):
        _fold_and_infer(model, where, limit)
    control_flow.check_choices(model, where)
    dimensions.check_outputs(model, declared, where)
    attributes.check_against_shapes(model, where)
    rewrite.run(model)
    transposes.sink(model)
    simplify.run(model)
    if patterns.run(model):
        _fold_and_infer(model, where, limit)
    empty.settle(model, where)
    if check:
        _run_checker(graph.to_proto(model), where)
    return model


def _fold_and_infer(model: Model, where: str, limit: int) -> None:
    budget = fold.Budget(limit, limit + sum(value.const_value.nbytes for value in graph.initializers(model) if value.const_value))
    for _ in range(MAX_ROUNDS):
        dimensions.infer(model, where)
        folded = empty.settle(model, where) | fold.run(model, budget, where)
        if control_flow.inline_branches(model, where) or folded:
            continue
        if decompose.run(model) or standard.expand(model, where) or control_flow.select_branches(model, where):
            continue
        break
    control_flow.refuse(model, where)
