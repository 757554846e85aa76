"""Shapes: dynamic dimensions of inputs fixed, the rest inferred by ONNX, what it leaves unknown learned from ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edgezip import graph
from edgezip.errors import EdgeZipError, InvalidModelError, ShapeError, UnsupportedModelError, UsageError
from edgezip.frontends import control_flow, structure

if TYPE_CHECKING:
    import onnx

    from edgezip.graph import Model, Value

BIG_BYTES = 4096  # weights above this hold no shape arithmetic; inference sees their type only
DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Unique", "Compress", "Loop", "Scan", "SplitToSequence", "StringSplit"}


def fix_inputs(model: Model, given: Mapping[str, tuple[int, ...]], batch: int, where: str) -> dict[str, Any]:
    """Gives every input static dimensions and forgets all other declared shapes; returns the declared dtypes of outputs.

    Raises ShapeError (a dimension is unknown or contradicted) and UsageError (no such input).
    """
    names = [str(value.name) for value in graph.input_values(model)]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise UsageError(
            f"no input is called {', '.join(unknown)}", where=where, expected=", ".join(names), got=", ".join(unknown)
        )
    bound: dict[str, int] = {}  # symbol -> size, from the shapes that the user gave
    for value in graph.input_values(model):
        if value.name in given:
            _bind(value, given[str(value.name)], bound, where)
    for value in graph.input_values(model):
        dims = given[str(value.name)] if value.name in given else _fixed(value, bound, batch, where)
        structure.check_dims(list(dims), f"input '{value.name}'", where)
        graph.set_type(value, graph.dtype(value), dims)
    declared = {str(value.name): value.dtype for value in graph.output_values(model)}
    _forget_shapes(model)
    return declared


def declare_missing(proto: onnx.ModelProto, given: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Writes a shape where a file has none: onnx.checker wants one, ONNX Runtime and exporters do not. Raises ShapeError."""
    for info in proto.graph.output:
        info.type.tensor_type.shape.SetInParent()  # inferred later in any case
    constants = {tensor.name for tensor in proto.graph.initializer}
    for info in proto.graph.input:
        if info.type.tensor_type.HasField("shape") or info.name in constants:
            continue
        if info.name not in given:
            _refuse_unknown(info.name, [], where)
        for dim in given[info.name]:
            info.type.tensor_type.shape.dim.add(dim_value=dim)


def _symbol(dim: Any) -> str | None:
    return None if isinstance(dim, int) else getattr(dim, "value", None)


def _is_fixed(dim: Any) -> bool:
    return isinstance(dim, int) and dim > 0  # exporters write 0 or -1 for "unknown"


def _bind(value: Value, dims: tuple[int, ...], bound: dict[str, int], where: str) -> None:
    declared = list(value.shape) if value.shape is not None else [None] * len(dims)
    fits = len(declared) == len(dims) and all(not _is_fixed(old) or old == new for old, new in zip(declared, dims, strict=False))
    empty = [new for old, new in zip(declared, dims, strict=False) if new < 1 and not (new == 0 and old == 0)]
    if not fits or empty:  # 0 only where the file itself says 0
        raise ShapeError(
            f"input '{value.name}' cannot have the given shape",
            where=where,
            expected=_written(declared),
            got=_written(dims),
            hint="only unknown dimensions can be chosen; export the model again for another size",
        )
    for old, new in zip(declared, dims, strict=True):
        symbol = _symbol(old)
        if symbol is not None:
            bound.setdefault(symbol, new)


def _written(dims: Any) -> str:
    return "x".join(str(dim) if _is_fixed(dim) else (_symbol(dim) or "?") for dim in dims)


def _fixed(value: Value, bound: Mapping[str, int], batch: int, where: str) -> tuple[int, ...]:
    declared: list[Any] = [] if value.shape is None else list(value.shape)
    dims: list[int | None] = [dim if _is_fixed(dim) else bound.get(_symbol(dim) or "") for dim in declared]
    if len(dims) >= 2 and dims[0] is None:
        dims[0] = batch
    fixed = [dim for dim in dims if dim is not None]
    if value.shape is None or len(fixed) < len(dims):
        _refuse_unknown(str(value.name), declared, where)
    return tuple(fixed)


def _refuse_unknown(name: str, declared: list[Any], where: str) -> NoReturn:
    filled = [dim if _is_fixed(dim) else 1 if index == 0 else 224 for index, dim in enumerate(declared)] or [1, 3, 224, 224]
    raise ShapeError(
        f"input '{name}' has unknown dimensions",
        where=where,
        expected="numbers",
        got=_written(declared) or "no shape at all",
        hint=f"fix them, for example: --shape {name}={'x'.join(map(str, filled))}",
    )


def _forget_shapes(model: Model) -> None:
    """Declared inner shapes may lie or belong to another batch; every one is inferred anew."""
    for node in graph.nodes(model):
        for value in node.outputs:
            value.shape = None
            value.type = None


def infer(model: Model, where: str) -> None:
    """Runs ONNX's shape inference with data propagation and writes what it finds into the model. Raises InvalidModelError."""
    inferred = _inferred(model, where)
    known = graph.values(model)
    for info in [*inferred.graph.value_info, *inferred.graph.output]:
        value = known.get(info.name)
        if value is not None and value.producer() is not None and info.type.HasField("tensor_type"):
            _take(value, info.type.tensor_type, where)


def _inferred(model: Model, where: str) -> onnx.ModelProto:
    """With the propagation of data, or without where that fails: it takes every tensor of whole numbers for a row and refuses
    the sum of a column and a row; folding finds what it would have found, round by round."""
    import onnx

    error: Exception | None = None
    for data_prop in (True, False):
        try:
            return onnx.shape_inference.infer_shapes(_skeleton(model), check_type=True, strict_mode=True, data_prop=data_prop)
        except Exception as failure:  # InferenceError, plain RuntimeError from its C++ part, SerdeError of what no file can hold
            error = failure
    text = " ".join(str(error).split())
    raise InvalidModelError(f"shapes do not fit: {text[:400]}", where=where, hint="check --shape, or export again") from error


def _skeleton(model: Model) -> onnx.ModelProto:
    """The model as protobuf without its big weights, which appear as inputs with their types, and without control flow."""
    big = [value for value in graph.initializers(model) if value.const_value is not None and value.const_value.nbytes > BIG_BYTES]
    for value in big:
        model.graph.initializers.pop(str(value.name))
    model.graph.inputs.extend(big)
    try:
        proto = graph.to_proto(model)
    finally:
        for value in big:
            model.graph.inputs.remove(value)
            model.graph.register_initializer(value)
    _drop_control_flow(proto.graph)
    return proto


def _drop_control_flow(body: onnx.GraphProto) -> None:
    """Takes out If, Loop and Scan with all that hangs on them: a branch that is not taken may contradict the shapes."""
    unknown: set[str] = set()
    kept = []
    for node in body.node:
        if node.op_type in control_flow.KINDS or not unknown.isdisjoint(node.input):
            unknown.update(name for name in node.output if name)
        else:
            kept.append(node)
    if unknown:
        outputs = [info for info in body.output if info.name not in unknown]
        del body.node[:], body.output[:]
        body.node.extend(kept)
        body.output.extend(outputs)


def _take(value: Value, declared: onnx.TypeProto.Tensor, where: str) -> None:
    import onnx_ir

    if declared.elem_type:
        value.type = onnx_ir.TensorType(onnx_ir.DataType(declared.elem_type))
    if not declared.HasField("shape"):
        return
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in declared.shape.dim]
    structure.check_dims([dim for dim in dims if dim is not None], f"tensor '{value.name}'", where)
    value.shape = onnx_ir.Shape(dims)


def _unknown(model: Model) -> list[Value]:
    made = [value for node in graph.nodes(model) for value in node.outputs if value.name]
    return [value for value in made if value.dtype is None or not graph.has_static_shape(value)]


def learn_missing(model: Model, where: str) -> bool:
    """Runs the model in ONNX Runtime for the shapes that inference left unknown; those that depend on the data are refused.

    Returns whether there were any.
    """
    unknown = _unknown(model)
    if not unknown:
        return False
    culprits = [node for node in graph.nodes(model) if node.op_type in DATA_DEPENDENT]
    if culprits or any(value.dtype is None for value in unknown) or _may_divide_by_zero(model):
        _refuse_dynamic(unknown, where)
    names = [str(value.name) for value in unknown]
    try:
        first, second = graph.run_many(model, [_feed(model, None), _feed(model, 0)], names)
    except EdgeZipError as error:
        raise InvalidModelError(f"shapes cannot be determined: {error.what}", where=where) from error
    for value in unknown:
        one, two = first[str(value.name)], second[str(value.name)]
        if one.shape != two.shape:
            _refuse_dynamic([value], where)
        structure.check_dims(list(one.shape), f"tensor '{value.name}'", where)
        graph.set_type(value, one.dtype, one.shape)
    return True


def _feed(model: Model, seed: int | None) -> dict[str, graph.Array]:
    """Zeros, or small random numbers, for every input."""
    random = np.random.default_rng(seed)
    feed = {}
    for value in graph.input_values(model):
        size, kind = graph.shape(value), graph.dtype(value)
        feed[str(value.name)] = np.zeros(size, kind) if seed is None else random.integers(0, 2, size).astype(kind)
    return feed


def _may_divide_by_zero(model: Model) -> bool:
    """Integer division by a computed number would raise a signal in ONNX Runtime when that is zero."""
    return any(
        node.op_type in {"Div", "Mod"}
        and node.inputs[1] is not None
        and graph.constant(node.inputs[1]) is None
        and (node.inputs[1].dtype is None or np.issubdtype(graph.dtype(node.inputs[1]), np.integer))
        for node in graph.nodes(model)
    )


def _refuse_dynamic(unknown: list[Value], where: str) -> None:
    labels = []
    for value in unknown[:8]:
        node = value.producer()
        labels.append(f"tensor '{value.name}' of node '{node.name}' ({node.op_type})" if node else f"tensor '{value.name}'")
    raise UnsupportedModelError(
        f"{len(unknown)} shapes depend on the data or are not known: {'; '.join(labels)}",
        where=where,
        hint="cut the model before these nodes (post-processing) and export it again",
    )


def check_outputs(model: Model, declared: Mapping[str, Any], where: str) -> None:
    """Raises InvalidModelError when an output's declared type contradicts the inferred one."""
    for value in graph.output_values(model):
        wanted = declared.get(str(value.name))
        if wanted is not None and wanted != value.dtype:
            raise InvalidModelError(
                f"output '{value.name}' has another type than declared", where=where, expected=str(wanted), got=str(value.dtype)
            )
