"""The records of a .tflite file, read through the generated schema and checked index by index before anything trusts them.

The generated accessors read wherever an offset points and believe every length; so every length is compared with the size of
the file, every index with what it points into, and whatever still escapes (struct.error of a cut file) becomes an
InvalidModelError. Source: TensorFlow Lite schema v3 (schema.fbs).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgezip.errors import EdgeZipError, InvalidModelError, MissingFileError, RuntimeUnavailableError, UnsupportedModelError
from edgezip.frontends.tflite.sparsity import densify

Array = np.ndarray[Any, Any]
MAX_BYTES = 1 << 31  # what a flatbuffer can address
MAX_ELEMENTS = 1 << 31
MAX_RANK = 8
DTYPES = {
    "FLOAT32": "f4", "FLOAT16": "f2", "INT64": "i8", "INT32": "i4", "INT16": "i2", "INT8": "i1", "INT4": "i1", "UINT32": "u4",
    "UINT8": "u1", "BOOL": "?", "RESOURCE": "i4",
}  # fmt: skip
AGAIN = "export the model again"


@dataclass(slots=True)
class Tensor:
    """One tensor of the subgraph. ``data`` is None unless it is constant; ``scale`` is empty unless it is quantised."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: Array | None
    scale: Array
    zero_point: Array
    axis: int
    is_variable: bool = False
    signature: tuple[int, ...] = ()  # the shape with -1 where the file does not fix it

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether the tensor may have that shape."""
        pairs = zip(self.signature, shape, strict=False)
        return len(shape) == len(self.signature) and all(new > 0 and old in (-1, new) for old, new in pairs)


@dataclass(slots=True)
class Operator:
    """One operator: its builtin name, option getter, and tensor indices (-1: an optional input that is absent)."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None
    custom: bytes = b""  # options of a custom operator


@dataclass(slots=True)
class Subgraph:
    """The subgraph that runs."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    where: str
    initial: dict[str, Array] = field(default_factory=dict)  # what its variables start with, by their names

    @property
    def is_dynamic(self) -> bool:
        """Whether an input has an unknown dimension: shapes behind it are declared as if it were 1."""
        return any(-1 in self.tensors[i].signature for i in self.inputs)


def read(path: str | Path) -> Subgraph:
    """The graph of a file that runs. Raises MissingFileError and what ``parse`` raises."""
    where = str(path)
    file = Path(path)
    if not file.is_file():
        raise MissingFileError("no such model file", where=where)
    if file.stat().st_size > MAX_BYTES:
        raise InvalidModelError("larger than a flatbuffer can be", where=where, expected="2 GiB", got=str(file.stat().st_size))
    return parse(file.read_bytes(), where)


def parse(data: bytes, where: str = "model") -> Subgraph:
    """The same of a file's bytes. Raises InvalidModelError, UnsupportedModelError, RuntimeUnavailableError."""
    try:
        import tflite
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"reading .tflite needs the schema package ({error})", where=where, hint="pip install 'edgezip[tflite]'"
        ) from error
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise InvalidModelError("not a TensorFlow Lite file, or cut short", where=where, expected="TFL3", got=repr(data[4:8]))
    with damage(where):
        from edgezip.frontends.tflite import subgraphs

        reader = _Reader(tflite, data, where)
        graph = subgraphs.inlined(reader.subgraph, reader.entry())
        reader.check_order(graph)
        return graph


@contextmanager
def damage(where: str) -> Iterator[None]:
    """Turns what the generated accessors (and NumPy) raise on offsets and lengths that lie into InvalidModelError."""
    try:
        yield
    except EdgeZipError:
        raise
    except (struct.error, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise InvalidModelError(f"damaged or hostile: {error or type(error).__name__}", where=where, hint=AGAIN) from error


class _Reader:
    """The records of one file."""

    def __init__(self, tflite: Any, data: bytes, where: str) -> None:
        self.schema, self.data, self.where = tflite, data, where
        self.model = tflite.Model.GetRootAs(data, 0)
        self.types = {value: name for name, value in vars(tflite.TensorType).items() if isinstance(value, int)}
        self.builtins = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}

    def fail(self, what: str, place: str = "") -> InvalidModelError:
        return InvalidModelError(what, where=f"{self.where}, {place}" if place else self.where, hint=AGAIN)

    def count(self, length: Callable[[], int], what: str) -> int:
        """A vector's length; each element takes at least a byte, so it cannot exceed the file."""
        n = length()
        if not 0 <= n <= len(self.data):
            raise self.fail(f"{what}: {n} elements cannot stand in a file of {len(self.data)} bytes")
        return n

    def entry(self) -> int:
        """The graph that is called from outside: that of the signature, else the first."""
        if self.model.Version() != 3:
            raise self.fail(f"schema version {self.model.Version()}; 3 is read")
        if self.count(self.model.SubgraphsLength, "subgraphs") < 1:
            raise self.fail("no subgraph")
        signatures = [self.model.SignatureDefs(i) for i in range(self.count(self.model.SignatureDefsLength, "signatures"))]
        entries = {
            int(signature.SubgraphIndex()): (signature.SignatureKey() or b"").decode(errors="replace") for signature in signatures
        }
        if len(entries) > 1:
            raise UnsupportedModelError(
                f"{len(entries)} entry points: {', '.join(entries.values())}",
                where=self.where,
                expected="one",
                hint="convert one signature or concrete function a file",
            )
        return next(iter(entries), 0)

    def subgraph(self, number: int) -> Subgraph:
        """Graph ``number`` as the file has it."""
        g = self.model.Subgraphs(self.index(number, self.count(self.model.SubgraphsLength, "subgraphs"), "subgraph"))
        inner = self.intermediates(g)
        tensors = [self.tensor(g.Tensors(i), i, i in inner) for i in range(self.count(g.TensorsLength, "tensors"))]
        n = len(tensors)
        inputs = tuple(self.index(g.Inputs(i), n, "input") for i in range(self.count(g.InputsLength, "inputs")))
        outputs = tuple(self.index(g.Outputs(i), n, "output") for i in range(self.count(g.OutputsLength, "outputs")))
        operators = [self.operator(g.Operators(i), i, n) for i in range(self.count(g.OperatorsLength, "operators"))]
        return Subgraph(tensors, operators, inputs, outputs, self.where)

    def intermediates(self, g: Any) -> set[int]:
        """Tensors inside of operators, which nobody reads: the int16 gates of an int8 LSTM are no obstacle."""
        operators = [g.Operators(i) for i in range(self.count(g.OperatorsLength, "operators"))]
        return {int(op.Intermediates(k)) for op in operators for k in range(self.count(op.IntermediatesLength, "intermediates"))}

    def index(self, value: int, size: int, what: str) -> int:
        if not 0 <= value < size:
            raise self.fail(f"{what} {value} does not exist; there are {size}")
        return int(value)

    def tensor(self, t: Any, index: int, is_inner: bool) -> Tensor:
        name = (t.Name() or b"").decode(errors="replace") or f"tensor_{index}"
        place = f"tensor {index} ({name})"
        rank = self.count(t.ShapeLength, f"{place}: shape")
        if rank > MAX_RANK:
            raise self.fail(f"rank {rank}; at most {MAX_RANK} is read", place)
        shape = tuple(int(t.Shape(i)) for i in range(rank))
        if any(dim < 0 for dim in shape) or prod(shape) > MAX_ELEMENTS:
            raise self.fail(f"absurd shape {shape}", place)
        kind = self.types.get(t.Type(), str(t.Type()))
        dtype = self.dtype(kind, place)
        sparsity = t.Sparsity()
        if sparsity is None:
            data = self.buffer(t.Buffer(), kind, dtype, shape, place)
        else:
            data = densify(self.raw(t.Buffer(), place).view(dtype), shape, sparsity, self.count)
        is_float_here = kind == "INT16" and (is_inner or bool(t.IsVariable()))  # gates and cell state of an int8 LSTM
        scale, zero_point, axis = self.quantisation(None if is_float_here else t.Quantization(), shape, kind, place)
        declared = tuple(int(t.ShapeSignature(i)) for i in range(self.count(t.ShapeSignatureLength, f"{place}: signature")))
        signature = declared if len(declared) == rank else shape
        if any(dim not in (-1, size) for dim, size in zip(signature, shape, strict=True)):
            raise self.fail(f"signature {signature} of a tensor of shape {shape}", place)
        return Tensor(name, shape, dtype, data, scale, zero_point, axis, bool(t.IsVariable()), signature)

    def dtype(self, kind: str, place: str) -> np.dtype[Any]:
        if kind not in DTYPES:
            raise UnsupportedModelError(
                f"elements of type {kind} are not read", where=f"{self.where}, {place}", expected=", ".join(DTYPES), got=kind
            )
        return np.dtype(DTYPES[kind])

    def raw(self, index: int, place: str) -> Array:
        """The bytes of a buffer, empty when it holds none."""
        buffer = self.model.Buffers(self.index(index, self.count(self.model.BuffersLength, "buffers"), f"{place}: buffer"))
        if self.count(buffer.DataLength, f"{place}: data"):
            return np.asarray(buffer.DataAsNumpy(), np.uint8)
        offset, size = (int(buffer.Offset()), int(buffer.Size())) if hasattr(buffer, "Offset") else (0, 0)
        if offset <= 1:  # behind the flatbuffer only in files that are too large for one
            return np.zeros(0, np.uint8)
        if size < 0 or offset + size > len(self.data):
            raise self.fail(f"data lies outside of the file ({offset} + {size} bytes)", place)
        return np.frombuffer(self.data, np.uint8, size, offset)

    def buffer(self, index: int, kind: str, dtype: np.dtype[Any], shape: tuple[int, ...], place: str) -> Array | None:
        raw = self.raw(index, place)
        if not raw.size:
            return None
        count = prod(shape)
        if kind == "INT4":
            raw = _nibbles(raw, count)
        if raw.nbytes != count * dtype.itemsize:
            raise self.fail(f"{raw.nbytes} bytes of data for shape {shape} of {dtype}", place)
        return raw.view(dtype).reshape(shape)

    def quantisation(self, q: Any, shape: tuple[int, ...], kind: str, place: str) -> tuple[Array, Array, int]:
        none = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        if q is None or not self.count(q.ScaleLength, f"{place}: scales") or kind in ("FLOAT32", "FLOAT16", "BOOL", "INT64"):
            return none
        if kind == "INT16":
            raise UnsupportedModelError(
                "int16 activations are not supported",
                where=f"{self.where}, {place}",
                hint="convert with int8 activations (TFLITE_BUILTINS_INT8), or compress the float model with edgezip",
            )
        scale = np.asarray(q.ScaleAsNumpy(), np.float32).reshape(-1)
        points = self.count(q.ZeroPointLength, f"{place}: zero points")
        zero_point = np.asarray(q.ZeroPointAsNumpy(), np.int64).reshape(-1) if points else np.zeros(len(scale), np.int64)
        axis = int(q.QuantizedDimension())
        if len(zero_point) == 1:
            zero_point = np.repeat(zero_point, len(scale))
        if len(zero_point) != len(scale) or not np.all(np.isfinite(scale)) or np.any(scale <= 0):
            raise self.fail("scales must be finite and positive, with as many zero points", place)
        if len(scale) > 1 and not (0 <= axis < len(shape) and shape[axis] == len(scale)):
            raise self.fail(f"{len(scale)} scales along dimension {axis} of {shape}", place)
        low, high = (0, 255) if kind == "UINT8" else (-128, 127)
        if np.any(zero_point < low) or np.any(zero_point > high):
            raise self.fail(f"zero point outside of [{low}, {high}]", place)
        return scale, zero_point, axis

    def operator(self, op: Any, index: int, tensors: int) -> Operator:
        place = f"operator {index}"
        codes = self.count(self.model.OperatorCodesLength, "operator codes")
        code = self.model.OperatorCodes(self.index(op.OpcodeIndex(), codes, f"{place}: code"))
        number = max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))
        name = self.builtins.get(number, f"builtin {number}")
        if name == "CUSTOM":
            name = f"CUSTOM {(code.CustomCode() or b'').decode(errors='replace')}"
        inputs = tuple(
            -1 if op.Inputs(i) == -1 else self.index(op.Inputs(i), tensors, f"{place} ({name}): input")
            for i in range(self.count(op.InputsLength, f"{place}: inputs"))
        )
        outputs = tuple(
            self.index(op.Outputs(i), tensors, f"{place} ({name}): output")
            for i in range(self.count(op.OutputsLength, f"{place}: outputs"))
        )
        return Operator(index, name, inputs, outputs, self.options(op), self.custom(op, place))

    def custom(self, op: Any, place: str) -> bytes:
        """The bytes of a custom operator's options."""
        return bytes(op.CustomOptions(i) for i in range(self.count(op.CustomOptionsLength, f"{place}: custom options")))

    def options(self, op: Any) -> Any:
        """The table of the operator's own options, None without one."""
        kinds, number, table = self.schema.BuiltinOptions, op.BuiltinOptionsType(), op.BuiltinOptions()
        if table is None and hasattr(op, "BuiltinOptions2"):  # where the first union had no more room
            kinds, number, table = self.schema.BuiltinOptions2, op.BuiltinOptions2Type(), op.BuiltinOptions2()
        names = {value: key for key, value in vars(kinds).items() if isinstance(value, int)}
        kind = names.get(number, "NONE")
        if table is None or kind == "NONE" or not hasattr(self.schema, kind):
            return None
        options = getattr(self.schema, kind)()
        options.Init(table.Bytes, table.Pos)
        return options

    def check_order(self, g: Subgraph) -> None:
        """Every tensor that is read is an input, a constant, a variable or an earlier result; none is made twice."""
        ready = {i for i, t in enumerate(g.tensors) if t.data is not None or t.is_variable} | set(g.inputs)
        if any(g.tensors[i].data is not None for i in g.inputs):
            raise self.fail("an input of the graph is a constant")
        for op in g.operators:
            for i in op.inputs:
                if i >= 0 and i not in ready and 0 not in g.tensors[i].shape:
                    raise self.fail(
                        f"tensor {i} ({g.tensors[i].name}) is read before it is made", f"operator {op.index} ({op.name})"
                    )
            for i in op.outputs:
                if i in ready:
                    raise self.fail(f"tensor {i} ({g.tensors[i].name}) is made twice", f"operator {op.index} ({op.name})")
                ready.add(i)
        for i in g.outputs:
            if i not in ready:
                raise self.fail(f"output {i} ({g.tensors[i].name}) is never made")


def _nibbles(raw: Array, count: int) -> Array:
    """Two signed 4-bit numbers a byte, the low nibble first."""
    halves = np.stack([raw & 15, raw >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
    return np.asarray((halves ^ 8) - 8, np.int8).view(np.uint8)
