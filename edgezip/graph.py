"""The one module that knows onnx_ir's API: a small vocabulary for passes and for pack.

A model is an ``onnx_ir.Model``. Other rooms import the names ``Model``, ``Node`` and ``Value`` for typing only, and touch of them
no more than ``node.name``, ``node.op_type``, ``node.domain``, ``node.inputs``, ``node.outputs`` and ``value.name``. All else is a
function of this module. It knows nothing of hostile files: models enter through ``edgezip.frontends``.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edgezip.errors import InvalidModelError, MissingFileError, ShapeError, UnsupportedModelError, UsageError

if TYPE_CHECKING:
    import onnx
    from onnx_ir import Model, Node, Value

__all__ = [
    "DYNAMIC_ROWS",
    "ROWS_ARE_READ",
    "STATE",
    "STATE_INITIAL",
    "Model",
    "Node",
    "Value",
    "add_initializer",
    "add_input",
    "attribute",
    "attributes",
    "clone",
    "constant",
    "consumers",
    "count_note",
    "dtype",
    "find_node",
    "find_value",
    "from_proto",
    "get_metadata",
    "has_static_shape",
    "initializers",
    "input_values",
    "insert_after",
    "insert_qdq",
    "is_graph_output",
    "load",
    "names",
    "new_node",
    "nodes",
    "notes",
    "opset",
    "output_values",
    "part",
    "producer",
    "quantize_weight",
    "raise_opset",
    "remove_node",
    "remove_unused",
    "rename",
    "replace_uses",
    "replace_weight",
    "run",
    "run_beside",
    "run_many",
    "run_proto",
    "save",
    "set_attribute",
    "set_metadata",
    "set_type",
    "shape",
    "sort",
    "splice",
    "to_bytes",
    "to_proto",
    "unique_name",
    "values",
]

Array = np.ndarray[Any, np.dtype[Any]]
Use = tuple["Node", int]  # a node and the index of its input
Item = TypeVar("Item")
Result = TypeVar("Result")

STATE = (
    "edgezip.state"  # metadata of a model: JSON object, input name -> output name, of what the session carries from run to run
)
STATE_INITIAL = "edgezip.state_initial"  # JSON object, input name -> base64 of its first value's bytes; absent: zeros
ROWS_ARE_READ = "edgezip.rows_are_read"  # of a NonMaxSuppression whose rows beyond the count other nodes take for what they are
DYNAMIC_ROWS = ("edgezip.activation", "dynamic_s8_row")  # metadata of a node whose rows are quantised at run time
ORT_OPSET = 25  # the newest that ONNX Runtime 1.2x reads; newer sets widen types and add operators, which it refuses by name
# without these int8 sums saturate on AVX2, and products with weights of few bits round their other operand to int8
EXACT = (("session.x64quantprecision", "1"), ("session.qdq_matmulnbits_accuracy_level", "1"))
UNDER_WAY = 2  # feeds that run side by side, each in one thread
UNDER_WAY_BYTES = 256 * 2**20  # of their results, and one more may wait; larger ones are run one by one
MAX_PROTO_BYTES = (1 << 31) - 1  # protobuf's own limit; above it weights go to an external file


# ---------------------------------------------------------------- files and protobuf


def load(path: str | Path) -> Model:
    """The model of a file that EdgeZip wrote itself, without checks or simplification.

    For a user's file use ``edgezip.frontends.load``. Raises MissingFileError, InvalidModelError.
    """
    import onnx

    path = Path(path)
    if not path.is_file():
        raise MissingFileError("no such model file", where=str(path), hint="check the path")
    try:
        return from_proto(onnx.load(str(path)))
    except Exception as error:  # protobuf, onnx and onnx_ir share no base class
        raise InvalidModelError(f"cannot read the model: {error}", where=str(path)) from error


def save(model: Model, path: str | Path) -> None:
    """Writes the model to ``path`` atomically (temporary file, fsync, rename); weights stay inside unless they pass 2 GB.

    Above 2 GB the weights go to ``<name>.data`` beside the file. A failed write leaves an old file as it was. Raises OSError.
    """
    path = Path(path)
    proto = to_proto(model)
    if proto.ByteSize() > MAX_PROTO_BYTES:
        _move_weights_out(proto, path.with_name(path.name + ".data"))
    _write_atomically(path, proto.SerializeToString(deterministic=True))


def _write_atomically(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp gives 0600; a model is an ordinary file
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _move_weights_out(proto: onnx.ModelProto, path: Path) -> None:
    import onnx

    blob = bytearray()
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) < 1024:
            continue
        blob.extend(b"\0" * (-len(blob) % 4096))
        onnx.external_data_helper.set_external_data(tensor, path.name, offset=len(blob), length=len(tensor.raw_data))
        blob.extend(tensor.raw_data)
        tensor.ClearField("raw_data")
    _write_atomically(path, bytes(blob))


def from_proto(proto: onnx.ModelProto) -> Model:
    """The model of an ``onnx.ModelProto`` whose tensors are all inside it."""
    import onnx_ir

    return onnx_ir.from_proto(proto)


def to_proto(model: Model) -> onnx.ModelProto:
    """The ``onnx.ModelProto`` of a model, all weights inside."""
    import onnx_ir

    return onnx_ir.to_proto(model)


def to_bytes(model: Model) -> bytes:
    """The serialized model; equal models give equal bytes."""
    data: bytes = to_proto(model).SerializeToString(deterministic=True)
    return data


def from_bytes(data: bytes) -> Model:
    """The model that ``to_bytes`` gave."""
    import onnx

    return from_proto(onnx.load_from_string(data))


def clone(model: Model) -> Model:
    """A copy that can be edited without touching the original (weight bytes are shared until replaced)."""
    return model.clone()


# ---------------------------------------------------------------- reading


def part(model: Model, inputs: Sequence[str], outputs: Sequence[str]) -> Model:
    """A copy of what lies between the values ``inputs`` and ``outputs``, as a model of its own with those names."""
    import onnx_ir

    made = onnx_ir.convenience.extract(model.graph, list(inputs), list(outputs))
    made.opset_imports.update(model.graph.opset_imports)
    return onnx_ir.Model(made, ir_version=model.ir_version)


def nodes(model: Model) -> list[Node]:
    """All nodes of the main graph, in topological order."""
    return list(model.graph)


def input_values(model: Model) -> list[Value]:
    """The graph's inputs (initializers are never among them)."""
    return list(model.graph.inputs)


def output_values(model: Model) -> list[Value]:
    """The graph's outputs."""
    return list(model.graph.outputs)


def initializers(model: Model) -> list[Value]:
    """The constant tensors of the main graph."""
    return list(model.graph.initializers.values())


def values(model: Model) -> dict[str, Value]:
    """Every named value of the main graph by name: inputs, initializers, node outputs."""
    found = {value.name: value for value in [*model.graph.inputs, *model.graph.initializers.values()] if value.name}
    for node in model.graph:
        found.update({value.name: value for value in node.outputs if value.name})
    return found


def find_value(model: Model, name: str) -> Value:
    """The value called ``name``. Raises UsageError when there is none."""
    try:
        return values(model)[name]
    except KeyError:
        raise UsageError(f"no tensor is called '{name}'", hint="list the names with `edgezip inspect --ops`") from None


def find_node(model: Model, name: str) -> Node:
    """The node called ``name``. Raises UsageError when there is none."""
    for node in model.graph:
        if node.name == name:
            return node
    raise UsageError(f"no node is called '{name}'", hint="list the names with `edgezip inspect --ops`")


def producer(value: Value) -> Node | None:
    """The node that makes the value; None for graph inputs and initializers."""
    return value.producer()


def consumers(value: Value) -> list[Use]:
    """(node, input index) of every use of the value by a node; a use as graph output is not among them."""
    return [(use.node, use.idx) for use in value.uses()]


def is_graph_output(value: Value) -> bool:
    """Whether the value is an output of the graph."""
    return value.is_graph_output()


def constant(value: Value | None) -> Array | None:
    """The value as an array when it is an initializer or the output of a Constant node, else None. Do not write into it."""
    if value is None:
        return None
    if value.const_value is not None and not value.is_graph_input():
        return value.const_value.numpy()
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain:
        return None
    return _constant_of(node)


_CONSTANT_FORMS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}


def _constant_of(node: Node) -> Array | None:
    held = attributes(node)
    if "value" in held:
        return np.asarray(held["value"])
    for name, kind in _CONSTANT_FORMS.items():
        if name in held:
            return np.asarray(held[name], dtype=kind)
    return None


def has_static_shape(value: Value) -> bool:
    """Whether every dimension of the value is a known number."""
    return value.shape is not None and all(isinstance(dim, int) for dim in value.shape)


def shape(value: Value) -> tuple[int, ...]:
    """The value's dimensions. Raises ShapeError when one is unknown."""
    if value.shape is None or not has_static_shape(value):
        raise ShapeError(
            "shape is not known",
            where=f"tensor '{value.name}'",
            expected="numbers",
            got=str(value.shape),
            hint="fix dynamic dimensions with `--shape NAME=1x3x224x224`",
        )
    return tuple(int(dim) for dim in value.shape if isinstance(dim, int))


def dtype(value: Value) -> np.dtype[Any]:
    """The value's element type as NumPy names it (ml_dtypes for bfloat16, float8 and int4). Raises ShapeError when unknown."""
    if value.dtype is None:
        raise ShapeError("element type is not known", where=f"tensor '{value.name}'")
    return np.dtype(value.dtype.numpy())


def attributes(node: Node) -> dict[str, Any]:
    """The node's attributes as plain Python: int, float, str, tuple of them, ndarray; subgraphs stay ``onnx_ir.Graph``."""
    return {name: _plain(attr) for name, attr in node.attributes.items()}


def attribute(node: Node, name: str, default: Any = None) -> Any:
    """One attribute as plain Python, or ``default``."""
    attr = node.attributes.get(name)
    return default if attr is None else _plain(attr)


def _plain(attr: Any) -> Any:
    value = attr.value
    if hasattr(value, "numpy"):
        return value.numpy()
    return tuple(value) if isinstance(value, (list, tuple)) else value


def opset(model: Model) -> int:
    """The version of the default operator set that the model imports."""
    return int(model.graph.opset_imports[""])


# ---------------------------------------------------------------- names and metadata


def names(model: Model) -> set[str]:
    """The names of all values and nodes. Whoever adds many passes it on as ``taken``, which then grows with them."""
    return set(values(model)) | {node.name for node in model.graph if node.name}


def unique_name(model: Model, base: str, taken: set[str] | None = None) -> str:
    """``base``, or ``base_1``, ``base_2`` ... when a value or node already has that name."""
    taken = names(model) if taken is None else taken
    name, count = base, 0
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name)
    return name


def rename(value: Value, name: str) -> None:
    """Gives the value another name (its uses follow)."""
    value.name = name


def get_metadata(owner: Model | Node | Value, key: str) -> str | None:
    """A metadata string (keys begin with ``edgezip.``), or None."""
    return owner.metadata_props.get(key)


def set_metadata(owner: Model | Node | Value, key: str, text: str | None) -> None:
    """Attaches a metadata string that is saved with the model; None takes it off."""
    if text is None:
        owner.metadata_props.pop(key, None)
    else:
        owner.metadata_props[key] = text


def count_note(model: Model, text: str, count: int = 1) -> None:
    """Adds ``count`` to what is remembered of the model's import under ``text``; lives with the object and is not saved."""
    notes = model.meta.setdefault("edgezip.import", {})
    notes[text] = notes.get(text, 0) + count


def notes(model: Model) -> dict[str, int]:
    """What ``count_note`` counted, by text, in the order in which it came up."""
    return dict(model.meta.get("edgezip.import", {}))


# ---------------------------------------------------------------- editing


def set_type(value: Value, kind: np.dtype[Any] | type[Any] | str, dims: Sequence[int]) -> None:
    """Declares element type and shape of a value."""
    import onnx_ir

    value.type = onnx_ir.TensorType(onnx_ir.DataType.from_numpy(np.dtype(kind)))
    value.shape = onnx_ir.Shape(dims)


def set_attribute(node: Node, name: str, content: Any) -> None:
    """Sets an attribute from plain Python; None removes it."""
    import onnx_ir

    if content is None:
        node.attributes.pop(name, None)
    else:
        node.attributes[name] = onnx_ir.convenience.convert_attribute(name, content)


def add_input(model: Model, name: str, kind: np.dtype[Any] | type[Any] | str, dims: Sequence[int]) -> Value:
    """A new input of the graph; its name is ``name`` made unique."""
    import onnx_ir

    value = onnx_ir.Value(name=unique_name(model, name))
    set_type(value, kind, dims)
    model.graph.inputs.append(value)
    return value


def add_initializer(model: Model, name: str, array: Array, taken: set[str] | None = None) -> Value:
    """A new constant tensor of the graph; its name is ``name`` made unique."""
    import onnx_ir

    array = np.asarray(array)
    name = unique_name(model, name, taken)
    tensor = onnx_ir.tensor(array if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = onnx_ir.Value(name=name, type=onnx_ir.TensorType(tensor.dtype), shape=onnx_ir.Shape(array.shape), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def replace_weight(model: Model, name: str, array: Array) -> None:
    """Writes ``array`` (any shape or dtype; both are declared anew) into the initializer ``name``. Raises UsageError."""
    import onnx_ir

    value = model.graph.initializers.get(name)
    if value is None:
        raise UsageError(f"no weight is called '{name}'", hint="list the weights with `edgezip inspect --weights`")
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    value.const_value = onnx_ir.tensor(array, name=name)
    set_type(value, array.dtype, array.shape)


def new_node(
    model: Model,
    op_type: str,
    inputs: Sequence[Value | None],
    output: str,
    *,
    attrs: Mapping[str, Any] | None = None,
    name: str | None = None,
    before: Node | None = None,
    like: Value | None = None,
    taken: set[str] | None = None,
) -> Value:
    """Adds a node with one output called ``output`` (made unique) and returns that value.

    It stands before ``before``, or at the end. ``like`` lends the output its type and shape.
    """
    import onnx_ir

    value = onnx_ir.Value(name=unique_name(model, output, taken))
    if like is not None:
        value.type, value.shape = like.type, like.shape.copy() if like.shape is not None else None
    node = onnx_ir.node(
        op_type, list(inputs), dict(attrs or {}), outputs=[value], name=unique_name(model, name or f"{output}_{op_type}", taken)
    )
    if before is None:
        model.graph.append(node)
    else:
        model.graph.insert_before(before, node)
    return value


def splice(model: Model, node: Node, body: onnx.ModelProto) -> None:
    """Puts the nodes of ``body`` in the place of ``node``; its inputs and outputs are called like those of the node."""
    inner = from_proto(body).graph
    for value in {id(value): value for value in node.inputs if value is not None}.values():
        replace_uses(next(held for held in inner.inputs if held.name == value.name), value)
    made = {str(value.name): value for value in inner.outputs}
    parts = list(inner)
    inner.outputs.clear()
    inner.remove(parts)
    outputs = {id(value) for value in made.values()}
    for number, part in enumerate(parts):
        part.name = f"{node.name}.{part.op_type}_{number}"
        for value in part.outputs:
            if id(value) not in outputs and value.name:
                value.name = f"{node.name}.{value.name}"
    model.graph.insert_before(node, parts)
    for value in node.outputs:
        if value.name:
            new = made[value.name]
            new.type, new.shape = value.type, value.shape
            replace_uses(value, new)
            for index, held in enumerate(model.graph.outputs):
                if held is value:
                    model.graph.outputs[index] = new
    model.graph.remove(node, safe=True)


def _first_after(model: Model, value: Value) -> Node | None:
    """The node before which something that reads ``value`` must stand; None: the end of the graph."""
    made_by = value.producer()
    if made_by is None:
        return next(iter(model.graph), None)
    order = list(model.graph)
    place = order.index(made_by) + 1
    return order[place] if place < len(order) else None


def replace_uses(old: Value, new: Value, *, uses: Iterable[Use] | None = None, outputs: bool = False) -> None:
    """Lets nodes read ``new`` instead of ``old``: all of them, or the given uses only.

    With ``outputs`` a graph output moves too and keeps its name: ``new`` takes the name, ``old`` gets a fresh one; an input that
    is an output as well stays both.
    """
    for node, index in consumers(old) if uses is None else list(uses):
        node.replace_input_with(index, new)
    if outputs and old.is_graph_output() and not old.is_graph_input():
        graph = old.graph
        assert graph is not None
        for index, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[index] = new
        name = old.name
        taken = {value.name for node in graph for value in node.outputs}
        fresh = f"{name}_raw"
        while fresh in taken:
            fresh += "_"
        old.name = fresh
        new.name = name


def insert_after(
    model: Model,
    value: Value,
    op_type: str,
    *,
    extra_inputs: Sequence[Value | None] = (),
    attrs: Mapping[str, Any] | None = None,
    name: str | None = None,
    uses: Iterable[Use] | None = None,
    like: Value | None = None,
) -> Value:
    """Puts a node behind ``value`` (its first input) and returns the node's output, which all former uses now read.

    With ``uses`` only those. A graph output keeps its name: it moves to the new node (only when ``uses`` is None).
    """
    targets = consumers(value) if uses is None else list(uses)
    base = f"{value.name}_{op_type}" if name is None else name
    made = new_node(
        model,
        op_type,
        [value, *extra_inputs],
        base,
        attrs=attrs,
        name=base,
        before=_first_after(model, value),
        like=like or value,
    )
    replace_uses(value, made, uses=targets, outputs=uses is None)
    return made


def insert_qdq(
    model: Model,
    value: Value,
    scale: Array,
    zero_point: Array,
    *,
    axis: int | None = None,
    uses: Iterable[Use] | None = None,
    taken: set[str] | None = None,
) -> Value:
    """Puts QuantizeLinear and DequantizeLinear behind ``value``; returns the dequantized value, which ``uses`` (or all) now read.

    ``scale`` float32 scalar, or (channels,) with ``axis``; ``zero_point`` int8 or uint8 of the same shape; ``taken``: see
    ``names``. Raises ShapeError.
    """
    scale, zero_point = _checked_parameters(value, scale, zero_point, axis)
    _raise_for_quantisation(model, zero_point, axis)
    base = value.name or "value"
    taken = names(model) if taken is None else taken
    held = (("scale", scale), ("zero_point", zero_point))
    parameters = [add_initializer(model, f"{base}_{ending}", array, taken) for ending, array in held]
    attrs = {} if axis is None else {"axis": axis}
    targets = consumers(value) if uses is None else list(uses)
    before = _first_after(model, value)

    def added(op_type: str, source: Value, ending: str) -> Value:
        name = f"{base}_{ending}"
        return new_node(model, op_type, [source, *parameters], name, attrs=attrs, before=before, like=value, taken=taken)

    quantized = added("QuantizeLinear", value, "quantized")
    set_type(quantized, zero_point.dtype, shape(value))
    dequantized = added("DequantizeLinear", quantized, "dequantized")
    replace_uses(value, dequantized, uses=targets, outputs=uses is None)
    return dequantized


def quantize_weight(
    model: Model,
    weight: Value,
    quantized: Array,
    scale: Array,
    zero_point: Array,
    *,
    axis: int | None = None,
    block: int = 0,
    uses: Iterable[Use] | None = None,
    taken: set[str] | None = None,
) -> Value:
    """Stores a weight as integers: initializer ``<name>_quantized`` -> DequantizeLinear, which the weight's users now read.

    ``quantized`` int8, uint8, (u)int4, (u)int2 or int32 (bias) in the weight's shape; ``scale`` float32, scalar or (channels,)
    with ``axis``, with ``block`` the weight's shape with ceil(channels / block) along ``axis``; ``zero_point`` like ``scale``, of
    the dtype of ``quantized``; ``taken``: see ``names``. The float weight goes when nothing reads it. Raises ShapeError.
    """
    if tuple(quantized.shape) != shape(weight):
        raise ShapeError(
            "quantized weight has another shape",
            where=f"weight '{weight.name}'",
            expected=str(shape(weight)),
            got=str(quantized.shape),
        )
    scale, zero_point = _checked_parameters(weight, scale, zero_point, axis, block)
    _raise_for_quantisation(model, quantized, axis, block)
    base = weight.name or "weight"
    taken = names(model) if taken is None else taken
    held = (("quantized", quantized), ("scale", scale), ("zero_point", zero_point))
    inputs: list[Value | None] = [add_initializer(model, f"{base}_{ending}", array, taken) for ending, array in held]
    targets = consumers(weight) if uses is None else list(uses)
    attrs = {} if axis is None else {"axis": axis} | ({"block_size": block} if block else {})
    before = _earliest(model, [node for node, _ in targets])
    name = f"{base}_dequantized"
    dequantized = new_node(model, "DequantizeLinear", inputs, name, attrs=attrs, before=before, like=weight, taken=taken)
    replace_uses(weight, dequantized, uses=targets)
    if weight.is_initializer() and not weight.uses() and not weight.is_graph_output():
        model.graph.initializers.pop(base)
    return dequantized


def _earliest(model: Model, users: Sequence[Node]) -> Node | None:
    chosen = {id(node) for node in users}
    return next((node for node in model.graph if id(node) in chosen), None)


def _raise_for_quantisation(model: Model, quantized: Array, axis: int | None, block: int = 0) -> None:
    """QuantizeLinear has an axis since opset 13, blocks and types of 4 bits since 21, of 2 bits since 25."""
    since = {"int4": 21, "uint4": 21, "int2": 25, "uint2": 25}.get(quantized.dtype.name, 21 if block else 13)
    raise_opset(model, since if axis is not None or since > 13 else 10)


def _checked_parameters(value: Value, scale: Array, zero_point: Array, axis: int | None, block: int = 0) -> tuple[Array, Array]:
    scale, zero_point = np.asarray(scale, np.float32), np.asarray(zero_point)
    dims = shape(value)
    expected: tuple[int, ...] = () if axis is None else (dims[axis],)
    if block and axis is not None:
        expected = (*dims[:axis], -(-dims[axis] // block), *dims[axis + 1 :])
    if scale.shape != expected or zero_point.shape != expected:
        raise ShapeError(
            "quantisation parameters do not fit",
            where=f"tensor '{value.name}'",
            expected=f"shape {expected}",
            got=f"scale {scale.shape}, zero point {zero_point.shape}",
        )
    return scale, zero_point


def remove_node(model: Model, node: Node) -> None:
    """Takes out a node whose outputs nobody reads any more. Raises UsageError when one is still in use."""
    for value in node.outputs:
        if value.uses() or value.is_graph_output():
            raise UsageError(f"output '{value.name}' is still in use", where=f"node '{node.name}'", hint="replace its uses first")
    model.graph.remove(node, safe=True)


def remove_unused(model: Model) -> None:
    """Drops nodes and initializers that no graph output depends on."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)


def sort(model: Model) -> None:
    """Brings the nodes into topological order (stable)."""
    model.graph.sort()


# ---------------------------------------------------------------- operator set versions

# attribute that became an input: operator -> (version, attribute, input index)
_ATTRIBUTE_TO_INPUT = {
    **dict.fromkeys(("Squeeze", "Unsqueeze", "ReduceSum"), (13, "axes", 1)),
    "Split": (13, "split", 1),
    **dict.fromkeys(
        (
            "ReduceL1",
            "ReduceL2",
            "ReduceLogSum",
            "ReduceLogSumExp",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSumSquare",
        ),
        (18, "axes", 1),
    ),
}
# attribute whose default changed: operator -> (version, attribute, the old default written out)
_OLD_DEFAULT = {"RoiAlign": (16, "coordinate_transformation_mode", "output_half_pixel")}
_FLATTENING = {"Softmax", "LogSoftmax", "Hardmax"}  # before 13 they flattened everything from `axis` on, default 1
# operators whose meaning changed in a way that is not rewritten here: operator -> version
_NOT_RAISED = {"GroupNormalization": 21, "GridSample": 20, "DFT": 20, "Upsample": 10, "Scatter": 11}


def raise_opset(model: Model, version: int) -> None:
    """Brings the model to operator set ``version`` (at most 25) at least, rewriting the nodes whose form changed on the way.

    Per-channel QuantizeLinear needs 13, int4 and block scales need 21, int2 needs 25. Raises UnsupportedModelError (a node cannot
    be rewritten).
    """
    old = opset(model)
    if old >= version:
        return
    stuck = [node.name for node in model.graph.all_nodes() if old < _NOT_RAISED.get(node.op_type, 0) <= version]
    if stuck:
        raise UnsupportedModelError(
            f"cannot be raised from opset {old} to {version}: {', '.join(map(str, stuck))}",
            hint=f"export the model with opset {version}",
        )
    for node in nodes(model):
        _raise_node(model, node, old, version)
    model.graph.opset_imports[""] = version


def _raise_node(model: Model, node: Node, old: int, version: int) -> None:
    if node.op_type in _FLATTENING and old < 13 <= version:
        _raise_flattening(model, node)
    since, name, index = _ATTRIBUTE_TO_INPUT.get(node.op_type, (0, "", 0))
    if old < since <= version and (held := attribute(node, name)) is not None:
        _set_input(node, index, add_initializer(model, f"{node.name}_{name}", np.asarray(held, np.int64)))
        set_attribute(node, name, None)
    since, name, default = _OLD_DEFAULT.get(node.op_type, (0, "", ""))
    if old < since <= version and attribute(node, name) is None:
        set_attribute(node, name, default)
    if node.op_type == "Split" and old < 18 <= version and (len(node.inputs) < 2 or node.inputs[1] is None):
        set_attribute(node, "num_outputs", len(node.outputs))


def _set_input(node: Node, index: int, value: Value) -> None:
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def _raise_flattening(model: Model, node: Node) -> None:
    """Softmax of the old form works on (product before axis, product from axis on); a Reshape on both sides says so."""
    source = node.inputs[0]
    assert source is not None
    dims = shape(source)
    axis = int(attribute(node, "axis", 1)) % max(len(dims), 1)
    if axis == len(dims) - 1:
        set_attribute(node, "axis", -1)
        return
    flat = (int(np.prod(dims[:axis])), int(np.prod(dims[axis:])))
    target = add_initializer(model, f"{node.name}_flat", np.asarray(flat, np.int64))
    before = new_node(model, "Reshape", [source, target], f"{node.name}_in", before=node, like=source)
    set_type(before, dtype(source), flat)
    node.replace_input_with(0, before)
    set_attribute(node, "axis", -1)
    result = node.outputs[0]
    back = add_initializer(model, f"{node.name}_back", np.asarray(dims, np.int64))
    insert_after(model, result, "Reshape", extra_inputs=[back], name=f"{node.name}_out")
    set_type(result, dtype(source), flat)


# ---------------------------------------------------------------- running


def run(
    model: Model, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None, *, threads: int = 1, optimize: bool = True
) -> dict[str, Array]:
    """One inference in ONNX Runtime on the CPU: ``{tensor name: array}``.

    ``outputs`` are any tensor names (default: the graph's outputs). The model is not changed.
    ``threads=1`` is deterministic. Raises ShapeError, UsageError, InvalidModelError.
    """
    return next(run_many(model, [feeds], outputs, threads=threads, optimize=optimize))


def run_many(
    model: Model,
    feeds: Iterable[Mapping[str, Array]],
    outputs: Sequence[str] | None = None,
    *,
    threads: int = 1,
    optimize: bool = True,
) -> Iterator[dict[str, Array]]:
    """Like ``run`` for a stream of feeds with one ONNX Runtime session; yields one dict per feed, in order, and keeps none.

    With ``threads=1`` UNDER_WAY feeds are run side by side where there are cores, each in one thread: results do not depend on
    it. So ``feeds`` is read ahead; whoever needs a feed beside its results takes ``run_beside``. ``optimize=False`` switches
    graph rewriting of ONNX Runtime off, so that QDQ nodes are computed one by one.
    """
    yield from (results for _, results in run_beside(model, feeds, outputs, threads=threads, optimize=optimize))


def run_beside(
    model: Model,
    feeds: Iterable[Mapping[str, Array]],
    outputs: Sequence[str] | None = None,
    *,
    threads: int = 1,
    optimize: bool = True,
) -> Iterator[tuple[Mapping[str, Array], dict[str, Array]]]:
    """``run_many``, each feed with its results."""
    names = [str(value.name) for value in model.graph.outputs] if outputs is None else list(outputs)
    session = _session(_with_outputs(model, names), threads, optimize)

    def one(feed: Mapping[str, Array]) -> tuple[Mapping[str, Array], dict[str, Array]]:
        try:
            arrays = session.run(names, {name: np.asarray(array) for name, array in feed.items()})
        except Exception as error:  # ONNX Runtime raises classes without a common base
            raise InvalidModelError(f"ONNX Runtime cannot run the model: {error}") from error
        return feed, dict(zip(names, arrays, strict=True))

    checked = (_checked_feed(model, feed) for feed in feeds)
    return _in_order(one, checked, _side_by_side(model, names) if threads == 1 else 1)


def _side_by_side(model: Model, names: Sequence[str]) -> int:
    """How many feeds are run at a time: as many as there are cores, if what they give fits into UNDER_WAY_BYTES."""
    known = values(model)
    if not all(has_static_shape(known[name]) for name in names):
        return 1
    each = sum(4 * int(np.prod(shape(known[name]))) for name in names)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(np.clip(UNDER_WAY_BYTES // max(each, 1), 1, min(UNDER_WAY, cores)))


def _in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``work`` of each of ``items``, in their order, up to ``workers`` of them at a time in threads."""
    if workers == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _with_outputs(model: Model, names: Sequence[str]) -> onnx.ModelProto:
    """The model as protobuf with exactly ``names`` as outputs."""
    import onnx_ir

    known = values(model)
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(f"no tensor is called {', '.join(missing)}", hint="list the names with `edgezip inspect --ops`")
    proto = to_proto(model)
    declared = {info.name: info for info in proto.graph.output}
    del proto.graph.output[:]
    for name in names:
        proto.graph.output.append(declared.get(name) or onnx_ir.serde.serialize_value(known[name]))
    _drop_unread(proto.graph, names)
    return proto


def _drop_unread(part: onnx.GraphProto, outputs: Sequence[str]) -> None:
    """Removes the nodes that no output hangs on: ONNX Runtime would run them all the same."""
    wanted = set(outputs)
    for number in reversed(range(len(part.node))):
        if wanted.intersection(part.node[number].output):
            wanted.update(_read_by(part.node[number]))
        else:
            del part.node[number]


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the node reads, inside of its bodies too."""
    yield from node.input
    for held in node.attribute:
        for body in (*held.graphs, *([held.g] if held.HasField("g") else [])):
            for inner in body.node:
                yield from _read_by(inner)
            yield from (value.name for value in body.output)


def _session(proto: onnx.ModelProto, threads: int, optimize: bool) -> Any:
    import onnxruntime

    for entry in proto.opset_import:
        entry.version = min(entry.version, ORT_OPSET) if entry.domain == "" else entry.version
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    for entry in EXACT:
        options.add_session_config_entry(*entry)
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        if proto.ByteSize() <= MAX_PROTO_BYTES:
            return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        with tempfile.TemporaryDirectory() as folder:
            _move_weights_out(proto, Path(folder) / "weights.data")
            (Path(folder) / "model.onnx").write_bytes(proto.SerializeToString())
            return onnxruntime.InferenceSession(str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises classes without a common base
        raise InvalidModelError(f"ONNX Runtime cannot load the model: {error}") from error


def run_proto(proto: onnx.ModelProto, names: Sequence[str]) -> list[Array] | None:
    """The outputs ``names`` of a model without inputs; None when ONNX Runtime cannot load or run it (no kernel for a type)."""
    try:
        arrays: list[Array] = _session(proto, 1, False).run(list(names), {})
    except Exception:  # also InvalidModelError of the session: the caller keeps such nodes as they are
        return None
    return arrays


def _checked_feed(model: Model, feed: Mapping[str, Array]) -> Mapping[str, Array]:
    expected = {str(value.name): value for value in model.graph.inputs}
    if set(feed) != set(expected):
        raise UsageError("wrong input names", expected=", ".join(sorted(expected)), got=", ".join(sorted(feed)))
    for name, array in feed.items():
        value = expected[name]
        if has_static_shape(value) and shape(value) != np.shape(array):
            raise ShapeError("wrong shape", where=f"input '{name}'", expected=str(shape(value)), got=str(np.shape(array)))
        if value.dtype is not None and dtype(value) != np.asarray(array).dtype:
            raise ShapeError("wrong dtype", where=f"input '{name}'", expected=str(dtype(value)), got=str(np.asarray(array).dtype))
    return feed
