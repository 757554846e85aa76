"""The .ez program file: its records, a builder, a writer and a reader.

The layout is that of ``csrc/include/edgezip/ez_format.h`` (a test holds both to the same offsets); the C verifier is the
authority on what is accepted. A leaf module: it knows bytes, not graphs.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from edgezip import coded as coding
from edgezip import dynamic
from edgezip.errors import MissingFileError, ProgramError, UsageError

MAGIC = b"EDGEZIP\x1a"
FORMAT_VERSION = 3
NUMERICS_EZN1 = 0x314E5A45
ALIGN = 64
OVERREAD = 64
MAX_RANK = 8
MAX_NAME = 4096  # bytes
MAX_STEP_INPUTS = 8
MAX_STEP_OUTPUTS = 4
ZEROS = 0xFFFFFFFF
PLAIN, BLOCKS = 0, 1  # forms of constants: as they are, or packed int8 weights without their empty groups
SECTIONS = ("steps", "tensors", "io", "strings", "weights", "metadata", "vectors", "shapes")


class Layout(IntEnum):
    """How int8 weights are packed."""

    K4N16 = 1
    K8N16 = 2


class DType(IntEnum):
    """Element type of a program tensor."""

    F32 = 1
    S8 = 2
    U8 = 3
    S32 = 4
    S64 = 5
    BOOL = 6

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of the stored elements (S8 is the logical int8)."""
        return _NUMPY[self]


_NUMPY = tuple(map(np.dtype, ("V", "<f4", "i1", "u1", "<i4", "<i8", "?")))  # by value of DType, which starts at 1


class Place(IntEnum):
    """Where a program tensor lives."""

    ARENA = 1
    WEIGHTS = 2
    INPUT = 3
    OUTPUT = 4


class Op(IntEnum):
    """Operation codes."""

    CONV = 1
    DEPTHWISE = 2
    BINARY = 3
    UNARY = 4
    TABLE = 5
    POOL = 6
    REDUCE = 7
    SOFTMAX = 8
    RESIZE = 9
    COPY = 10
    GATHER = 11
    PRELU = 12
    WHERE = 13
    MATMUL = 14
    NORM = 15
    LINEAR = 16
    ATTENTION = 17
    RECURRENT = 20
    INTEGER = 25
    MATH = 26
    ARG = 27
    TAKE = 28
    SCATTER = 29
    FOLD = 30
    CUMULATE = 31
    WINDOW = 32
    INTERPOLATE = 33
    GRID_SAMPLE = 34
    NMS = 35
    TOPK = 36
    ROI_ALIGN = 37
    PLACES = 38
    UNIQUE = 39
    CODES = 40


class Binary(IntEnum):
    """Kinds of EZ_OP_BINARY."""

    ADD = 1
    SUB = 2
    MUL = 3
    DIV = 4
    MIN = 5
    MAX = 6
    EQUAL = 7
    LESS = 8
    LESS_EQUAL = 9
    GREATER = 10
    GREATER_EQUAL = 11
    AND = 12
    OR = 13


class Integer(IntEnum):
    """Kinds of EZ_OP_INTEGER."""

    ADD = 1
    SUB = 2
    MUL = 3
    DIV = 4
    MIN = 5
    MAX = 6
    EQUAL = 7
    LESS = 8
    LESS_EQUAL = 9
    GREATER = 10
    GREATER_EQUAL = 11
    AND = 12
    OR = 13
    XOR = 14
    MOD = 15
    FMOD = 16
    SHIFT_LEFT = 17
    SHIFT_RIGHT = 18
    POW = 19


class Math(IntEnum):
    """Kinds of EZ_OP_MATH."""

    SIN = 1
    COS = 2
    TAN = 3
    ASIN = 4
    ACOS = 5
    ATAN = 6
    SINH = 7
    COSH = 8
    ASINH = 9
    ACOSH = 10
    ATANH = 11
    ROUND = 12
    SIGN = 13
    SELU = 14
    CELU = 15
    THRESHOLDED = 16
    SOFTSIGN = 17
    MISH = 18
    SHRINK = 19
    IS_NAN = 20
    IS_INF = 21
    ABS = 22
    NEG = 23
    BIT_NOT = 24


class Fold(IntEnum):
    """Kinds of EZ_OP_FOLD and, the first two, of EZ_OP_CUMULATE."""

    SUM = 1
    PRODUCT = 2
    MAX = 3
    MIN = 4


class Window(IntEnum):
    """Kinds of EZ_OP_WINDOW."""

    MAX = 1
    AVERAGE = 2
    LP = 3


class Sample(IntEnum):
    """Modes of EZ_OP_GRID_SAMPLE."""

    LINEAR = 1
    NEAREST = 2
    CUBIC = 3


class Border(IntEnum):
    """What EZ_OP_GRID_SAMPLE reads outside of the picture."""

    ZEROS = 1
    EDGE = 2
    REFLECTION = 3


class Scatter(IntEnum):
    """Reductions of EZ_OP_SCATTER."""

    SET = 0
    ADD = 1
    MUL = 2
    MIN = 3
    MAX = 4


class Unary(IntEnum):
    """Kinds of EZ_OP_UNARY."""

    CLIP = 1
    SIGMOID = 2
    TANH = 3
    EXP = 4
    ERF = 5
    GELU = 6
    SILU = 7
    HARD_SIGMOID = 8
    HARD_SWISH = 9
    LEAKY_RELU = 10
    ELU = 11
    SQRT = 12
    NEG = 13
    ABS = 14
    RECIPROCAL = 15
    FLOOR = 16
    CEIL = 17
    SOFTPLUS = 18
    NOT = 19
    LOG = 20
    GELU_TANH = 21


class Pool(IntEnum):
    """Kinds of EZ_OP_POOL."""

    MAX = 1
    AVERAGE = 2


class Reduce(IntEnum):
    """Kinds of EZ_OP_REDUCE."""

    MEAN = 1
    SUM = 2
    MAX = 3
    MIN = 4


class Norm(IntEnum):
    """Kinds of EZ_OP_NORM."""

    LAYER = 1
    RMS = 2


class Recurrent(IntEnum):
    """Kinds of EZ_OP_RECURRENT."""

    RNN = 1
    GRU = 2
    LSTM = 3

    @property
    def gates(self) -> int:
        """Products of each unit."""
        return (0, 1, 3, 4)[self]


class Convert(IntEnum):
    """Conversions of EZ_OP_COPY."""

    NONE = 0
    QUANTIZE = 1
    DEQUANTIZE = 2
    REQUANTIZE = 3
    CAST = 4
    BITS = 5


SECTION = np.dtype([("offset", "<u8"), ("bytes", "<u8"), ("crc32", "<u4"), ("reserved", "<u4")])
HEADER = np.dtype(
    [
        ("magic", "S8"), ("format_version", "<u4"), ("numerics", "<u4"), ("header_bytes", "<u4"), ("layout", "<u4"),
        ("file_bytes", "<u8"), ("arena_bytes", "<u8"), ("scratch_bytes", "<u8"), ("act_sign", "<u4"),
        ("n_steps", "<u4"), ("n_tensors", "<u4"), ("n_inputs", "<u4"), ("n_outputs", "<u4"), ("n_vectors", "<u4"),
        ("n_states", "<u4"), ("reserved0", "<u4"), ("sections", SECTION, (len(SECTIONS),)),
        ("solo_us", "<i4"), ("spin_us", "<i4"),
        ("reserved", "<u4", (9,)), ("crc32", "<u4"),
    ]
)  # fmt: skip
TENSOR = np.dtype(
    [
        ("dtype", "u1"), ("place", "u1"), ("rank", "u1"), ("form", "u1"), ("zero_point", "<i4"), ("scale", "<f4"),
        ("row_stride", "<i4"), ("dims", "<i4", (MAX_RANK,)), ("offset", "<u8"), ("bytes", "<u8"),
        ("name_offset", "<u4"), ("name_bytes", "<u4"), ("reserved1", "<u4", (6,)),
    ]
)  # fmt: skip
STEP = np.dtype(
    [
        ("op", "<u2"), ("n_inputs", "u1"), ("n_outputs", "u1"),
        ("name_offset", "<u4"), ("name_bytes", "<u4"), ("reserved", "<u4"),
        ("inputs", "<i4", (MAX_STEP_INPUTS,)), ("outputs", "<i4", (MAX_STEP_OUTPUTS,)), ("params", "u1", (256,)),
    ]
)  # fmt: skip


def _struct(spec: str) -> np.dtype[Any]:
    """Dtype of a params struct: ``i a b`` = int32 fields, ``f`` float32, ``q`` int64, ``v`` int32[8], ``w`` float32[8]."""
    types: dict[str, Any] = {"i": "<i4", "f": "<f4", "q": "<i8", "v": ("<i4", (MAX_RANK,)), "w": ("<f4", (MAX_RANK,))}
    fields: list[Any] = []
    for group in spec.split(";"):
        kind, *names = group.split()
        base = types[kind]
        fields += [(name, *base) if isinstance(base, tuple) else (name, base) for name in names]
    return np.dtype(fields, align=True)


_CONV = _struct(
    "i kernel_h kernel_w stride_h stride_w dilation_h dilation_w pad_top pad_left out_h out_w out_offset_h out_offset_w"
    " out_step_h out_step_w groups lo hi zero_point_mid zero_point_mid_out; f float_lo float_hi scale_a scale_b;"
    " i add_lo add_hi small_sums act; f act_alpha act_beta; i affine; f factor shift sum_lo sum_hi"
)
_INDEXED = _struct("i axis rank depth rows inner batch_rows batch_stride reduction; v dims extents strides")
_WINDOW_SIZES = " ".join(
    f"{name}_{axis}" for name in ("in", "out", "kernel", "stride", "dilation", "pad", "pad_end") for axis in "dhw"
)
PARAMS: dict[Op, np.dtype[Any]] = {
    Op.CONV: _CONV,
    Op.DEPTHWISE: _CONV,
    Op.BINARY: _struct("i kind rank; v dims stride_a stride_b stride_y; f scale_a scale_b; i lo hi; f float_lo float_hi"),
    Op.UNARY: _struct("i kind; f alpha beta"),
    Op.TABLE: np.dtype([]),
    Op.POOL: _struct(
        "i kind kernel_h kernel_w stride_h stride_w dilation_h dilation_w pad_top pad_left pad_bottom pad_right"
        " count_include_pad; f scale; i lo hi"
    ),
    Op.REDUCE: _struct("i kind outer n inner; f scale; i lo hi"),
    Op.SOFTMAX: _struct("f scale"),
    Op.RESIZE: _struct("f scale; i lo hi"),
    Op.COPY: _struct(
        "i convert rank; v dims x_stride y_stride; i fill fill_value; f fill_float scale; i lo hi; q x_offset y_offset"
    ),
    Op.GATHER: _struct("i outer n inner m"),
    Op.PRELU: _struct("i channels lo hi"),
    Op.WHERE: _struct("i rank; v dims stride_c stride_a stride_b stride_y"),
    Op.MATMUL: _struct("i outer inner M N K; v stride_a stride_b stride_y; f scale; i lo hi"),
    Op.LINEAR: np.dtype([]),
    Op.ATTENTION: _struct(
        "i outer inner M N K D; v stride_q stride_k stride_v stride_y stride_mask; f scale_scores factor; i divides; f scale_p;"
        " i zero_p; f scale; i lo hi"
    ),
    Op.NORM: _struct("i kind results; f epsilon"),
    Op.RECURRENT: _struct(
        "i kind hidden directions reverse linear_before_reset input_forget; f clip cell_clip; v activation; w alpha beta"
    ),
    Op.INTEGER: _struct("i kind rank; v dims stride_a stride_b stride_y"),
    Op.MATH: _struct("i kind; f alpha beta"),
    Op.ARG: _struct("i kind outer n inner last"),
    Op.TAKE: _INDEXED,
    Op.SCATTER: _INDEXED,
    Op.FOLD: _struct("i kind outer n inner"),
    Op.CUMULATE: _struct("i kind outer n inner exclusive reverse"),
    Op.WINDOW: _struct(f"i kind planes power include column_major {_WINDOW_SIZES}"),
    Op.INTERPOLATE: _struct("i outer n inner m taps"),
    Op.GRID_SAMPLE: _struct("i mode border align batch channels axes points in_d in_h in_w"),
    Op.NMS: _struct("i batch boxes classes bound most center; f iou score"),
    Op.TOPK: _struct("i outer n inner k largest"),
    Op.ROI_ALIGN: _struct("i batch channels height width rois out_h out_w sampling is_max; f scale offset"),
    Op.PLACES: _struct("i n rank; v dims"),
    Op.UNIQUE: _struct("i outer n inner sorted"),
    Op.CODES: _struct("i bits block; v low high"),
}


@dataclass(slots=True)
class Tensor:
    """One tensor of a program. ``offset`` is bytes (arena, weights) or the index of a graph input or output."""

    name: str
    dtype: DType
    place: Place
    dims: tuple[int, ...]
    offset: int = 0
    scale: float = 0.0
    zero_point: int = 0
    row_stride: int = 0  # elements; 0 = contiguous
    form: int = PLAIN

    def __post_init__(self) -> None:
        if not self.row_stride:
            self.row_stride = self.dims[-1] if self.dims else 1

    @property
    def rows(self) -> int:
        """Innermost rows: product of all dims but the last."""
        return math.prod(self.dims[:-1])

    @property
    def bytes(self) -> int:
        """Extent in memory."""
        if 0 in self.dims:
            return 0
        columns = self.dims[-1] if self.dims else 1
        return ((self.rows - 1) * self.row_stride + columns) * self.dtype.numpy.itemsize


@dataclass(slots=True)
class Step:
    """One fused kernel call. ``params`` holds the fields of ``PARAMS[op]``."""

    name: str
    op: Op
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """What a session carries from run to run: a graph input that it owns, and the graph output that the next run reads there.

    ``input``, ``output``, ``initial`` are tensor indices; the last is a constant, or -1 for zeros.
    """

    input: int
    output: int
    initial: int = -1


@dataclass(slots=True)
class Program:
    """A compiled model: what ``edgezip compile`` makes and every runtime runs.

    ``weights`` is the packed weights section; ``vectors`` holds, for each test vector, the input arrays then the output
    arrays in declared dtype and shape; they follow each other from the initial states on. The caller's graph inputs and outputs
    are numbered from 0; those of ``states`` come behind them.
    """

    layout: Layout
    act_sign: int
    arena_bytes: int
    scratch_bytes: int
    tensors: list[Tensor]
    steps: list[Step]
    inputs: list[int]
    outputs: list[int]
    weights: bytes = b""
    metadata: dict[str, Any] = field(default_factory=dict)
    vectors: list[list[np.ndarray[Any, Any]]] = field(default_factory=list)
    solo_us: int = 0  # see ez_format.h: 0 the runtime's default, -1 none
    spin_us: int = 0
    states: list[State] = field(default_factory=list)
    coded: bool = False  # its file is entropy-coded (``edgezip.coded``)
    shapes: dynamic.Shapes | None = None  # steps, tensors and ends above are those of its first variant, at its largest size

    def at(self, sizes: Sequence[int]) -> Program:
        """The program of one size of each dynamic dimension, with static shapes and without vectors. Raises UsageError."""
        if self.shapes is None:
            return self
        variant, quantities = self.shapes.variant_of(sizes), self.shapes.quantities(sizes)
        made = replace(
            self,
            tensors=[replace(tensor) for tensor in variant.tensors],
            steps=[replace(step, params=dict(step.params)) for step in variant.steps],
            inputs=variant.inputs, outputs=variant.outputs, states=variant.states, vectors=[], shapes=None,
        )  # fmt: skip
        for patch in variant.patches:
            _apply(made, patch, dynamic.value_of(patch.terms, quantities))
        return made

    def axes(self) -> list[dynamic.SymbolAxis]:
        """Where the size of each dynamic dimension is read off."""
        symbols = self.shapes.symbols if self.shapes else []
        if any(symbol.input >= len(self.inputs) for symbol in symbols):
            raise ProgramError("a dynamic dimension belongs to no input", hint="compile the model again")
        return [dynamic.SymbolAxis(s, self.tensors[self.inputs[s.input]].name, s.axis) for s in symbols]

    @property
    def graph_inputs(self) -> list[int]:
        """The tensors of all graph inputs by number, those of the states last."""
        return [*self.inputs, *(state.input for state in self.states)]

    @property
    def graph_outputs(self) -> list[int]:
        """The tensors of all graph outputs by number, those of the states last."""
        return [*self.outputs, *(state.output for state in self.states)]

    def plain_bytes(self) -> bytes:
        """The file without entropy coding, byte for byte reproducible from the same program."""
        return _write(self)

    def to_bytes(self) -> bytes:
        """The file, byte for byte reproducible from the same program."""
        plain = self.plain_bytes()
        return coding.encode(plain, _ranges(self, plain)) if self.coded else plain

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically: it is there whole, or not at all."""
        write_atomically(Path(path), self.to_bytes())

    def weight_array(self, index: int) -> np.ndarray[Any, Any]:
        """The constant tensor ``index`` as an array of its dims (contiguous constants only)."""
        tensor = self.tensors[index]
        flat = np.frombuffer(self.weights, tensor.dtype.numpy, math.prod(tensor.dims), tensor.offset)
        return flat.reshape(tensor.dims)


def _apply(program: Program, patch: dynamic.Patch, value: int) -> None:
    """Sets one field; ``program`` owns its records."""
    if patch.kind == dynamic.STEP_PATCH:
        params = program.steps[patch.index].params
        params[patch.field] = _with(params[patch.field], patch.position, value)
        return
    tensor = program.tensors[patch.index]
    setattr(tensor, patch.field, _with(getattr(tensor, patch.field), patch.position, value))


def _with(held: Any, position: int, value: int) -> Any:
    if not isinstance(held, tuple):
        return value
    held = held + (0,) * (position + 1 - len(held))
    return (*held[:position], value, *held[position + 1 :])


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path``, sync it, and rename it into place."""
    if not path.parent.is_dir():
        raise MissingFileError("folder does not exist", where=str(path.parent), hint="create it, or choose another -o")
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk: the system does not say where
            error.filename = str(path)
        raise


def _round_up(value: int, multiple: int = ALIGN) -> int:
    return -(-value // multiple) * multiple


class _Strings:
    """The strings section while it is being written; equal names share their bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._seen: dict[str, tuple[int, int]] = {}

    def add(self, text: str) -> tuple[int, int]:
        if text not in self._seen:
            raw = text.encode()
            if len(raw) > MAX_NAME:
                raise UsageError(
                    "name is too long for a program file", where=f"{text[:60]}...", expected=f"at most {MAX_NAME} bytes",
                    got=str(len(raw)), hint="rename the node or tensor in the model",
                )  # fmt: skip
            if any(byte < 0x20 or byte == 0x7F for byte in raw):
                raise UsageError(
                    "a name has control characters", where=repr(text[:60]), hint="rename the node or tensor in the model"
                )
            self._seen[text] = (len(self.data), len(raw))
            self.data += raw
        return self._seen[text]


def _tensor_record(tensor: Tensor, strings: _Strings) -> Any:
    record = np.zeros((), TENSOR)
    record["dtype"], record["place"], record["rank"] = tensor.dtype, tensor.place, len(tensor.dims)
    record["form"] = tensor.form
    record["zero_point"], record["scale"], record["row_stride"] = tensor.zero_point, tensor.scale, tensor.row_stride
    record["dims"] = list(tensor.dims) + [1] * (MAX_RANK - len(tensor.dims))
    record["offset"], record["bytes"] = tensor.offset, tensor.bytes
    record["name_offset"], record["name_bytes"] = strings.add(tensor.name)
    return record


def _params_bytes(step: Step) -> np.ndarray[Any, Any]:
    dtype = PARAMS[step.op]
    unknown = set(step.params) - set(dtype.names or ())
    if unknown:
        raise UsageError(f"parameters {sorted(unknown)} do not exist for {step.op.name}", where=step.name)
    raw = np.zeros(256, "u1")
    if dtype.itemsize:
        record = np.zeros((), dtype)
        for name, value in step.params.items():
            record[name] = list(value) + [0] * (MAX_RANK - len(value)) if isinstance(value, (tuple, list)) else value
        raw[: dtype.itemsize] = np.frombuffer(record.tobytes(), "u1")
    return raw


def _step_record(step: Step, strings: _Strings) -> Any:
    record = np.zeros((), STEP)
    record["op"], record["n_inputs"], record["n_outputs"] = step.op, len(step.inputs), len(step.outputs)
    record["inputs"] = list(step.inputs) + [-1] * (MAX_STEP_INPUTS - len(step.inputs))
    record["outputs"] = list(step.outputs) + [-1] * (MAX_STEP_OUTPUTS - len(step.outputs))
    record["name_offset"], record["name_bytes"] = strings.add(step.name)
    record["params"] = _params_bytes(step)
    return record


def _vector_bytes(program: Program) -> bytes:
    data = bytearray()
    axes, sized = program.axes(), program
    for vector in program.vectors:
        if program.shapes is not None:
            named = {program.tensors[i].name: array.shape for i, array in zip(program.inputs, vector, strict=False)}
            sizes = dynamic.sizes_of(axes, named)
            sized = program.at(sizes)
            head = np.array([*sizes, *[0] * (dynamic.MAX_SYMBOLS - len(sizes))], "<i4").tobytes()
            head += np.array([array.nbytes for array in vector], "<u8").tobytes()
            data += head + bytes(_round_up(len(head)) - len(head))
        for index, array in zip([*sized.inputs, *sized.outputs], vector, strict=True):
            tensor = sized.tensors[index]
            if array.shape != tensor.dims or array.dtype != tensor.dtype.numpy:
                raise ProgramError(
                    "test vector does not fit",
                    where=tensor.name,
                    expected=f"{tensor.dtype.name} {tensor.dims}",
                    got=f"{array.dtype} {array.shape}",
                )
            raw = np.ascontiguousarray(array).tobytes()
            data += raw + bytes(_round_up(len(raw)) - len(raw))
    return bytes(data)


def _ends_bytes(ends: Program | dynamic.Variant) -> bytes:
    """One list of the io section."""
    initial = [ZEROS if state.initial < 0 else state.initial for state in ends.states]
    inputs = [*ends.inputs, *(state.input for state in ends.states)]
    outputs = [*ends.outputs, *(state.output for state in ends.states)]
    return np.array([*inputs, *outputs, *initial], "<u4").tobytes()


def _shapes_bytes(shapes: dynamic.Shapes, strings: _Strings) -> bytes:
    def place(variant: dynamic.Variant, patch: dynamic.Patch) -> tuple[int, int]:
        """Byte and width of a field in its record."""
        start, record = 0, TENSOR
        if patch.kind == dynamic.STEP_PATCH:
            assert STEP.fields is not None
            start, record = STEP.fields["params"][1], PARAMS[variant.steps[patch.index].op]
        assert record.fields is not None
        dtype, offset = record.fields[patch.field][:2]
        return start + offset + dtype.base.itemsize * patch.position, dtype.base.itemsize

    return dynamic.write(shapes, [strings.add(symbol.name) for symbol in shapes.symbols], place)


def _field_of(variant: dynamic.Variant, record: Any) -> tuple[str, int]:
    """Name and position of a patched field. Raises ValueError."""
    at, layout = int(record["field"]), TENSOR
    if int(record["kind"]) == dynamic.STEP_PATCH:
        assert STEP.fields is not None
        at, layout = at - STEP.fields["params"][1], PARAMS[variant.steps[int(record["index"])].op]
    for name, (dtype, offset, *_) in (layout.fields or {}).items():
        if offset <= at < offset + dtype.itemsize:
            return name, (at - offset) // dtype.base.itemsize
    raise ValueError("a patch names no field")


def _write(program: Program) -> bytes:
    strings = _Strings()
    variants: Sequence[Program | dynamic.Variant] = program.shapes.variants if program.shapes else [program]
    all_steps = [step for variant in variants for step in variant.steps]
    all_tensors = [tensor for variant in variants for tensor in variant.tensors]
    steps = b"".join(_step_record(step, strings).tobytes() for step in all_steps)
    tensors = b"".join(_tensor_record(tensor, strings).tobytes() for tensor in all_tensors)
    io = b"".join(_ends_bytes(variant) for variant in variants)
    shapes = _shapes_bytes(program.shapes, strings) if program.shapes else b""
    metadata = json.dumps(program.metadata, sort_keys=True, separators=(",", ":")).encode()
    bodies = [steps, tensors, io, bytes(strings.data), program.weights, metadata, _vector_bytes(program), shapes]
    header = np.zeros((), HEADER)
    header["magic"], header["format_version"], header["numerics"] = MAGIC, FORMAT_VERSION, NUMERICS_EZN1
    header["header_bytes"], header["layout"], header["act_sign"] = HEADER.itemsize, program.layout, program.act_sign
    header["arena_bytes"], header["scratch_bytes"] = program.arena_bytes, program.scratch_bytes
    header["solo_us"], header["spin_us"] = program.solo_us, program.spin_us
    header["n_steps"], header["n_tensors"] = len(all_steps), len(all_tensors)
    header["n_inputs"], header["n_outputs"], header["n_vectors"] = len(program.inputs), len(program.outputs), len(program.vectors)
    header["n_states"] = len(program.states)
    out = bytearray(HEADER.itemsize)
    for index, body in enumerate(bodies):
        out += bytes(_round_up(len(out)) - len(out))
        header["sections"][index] = (len(out), len(body), zlib.crc32(body), 0)
        out += body
    header["file_bytes"] = len(out)
    header["crc32"] = zlib.crc32(header.tobytes()[:-4])
    out[: HEADER.itemsize] = header.tobytes()
    return bytes(out)


def _ranges(program: Program, plain: bytes) -> list[coding.Range]:
    """How the bytes of the plain file belong together: constants, and the other sections as their numbers lie."""
    header = np.frombuffer(plain, HEADER, 1)[0]
    at = {name: (int(s["offset"]), int(s["bytes"])) for name, s in zip(SECTIONS, header["sections"], strict=True)}
    found = [coding.Range(0, HEADER.itemsize, 4)]
    for name in SECTIONS:
        start, size = at[name]
        if name == "weights":
            found += [replace(constant, offset=start + constant.offset) for constant in _constant_ranges(program)]
        elif size:
            found.append(coding.Range(start, size, 4 if size % 4 == 0 and name not in ("strings", "metadata") else 1))
    return found


def _constant_ranges(program: Program) -> list[coding.Range]:
    """The constants in the order of their bytes, those that overlap as one."""
    variants: Sequence[Program | dynamic.Variant] = program.shapes.variants if program.shapes else [program]
    panels = _panels(program, variants)
    constants = {(t.offset, t.bytes, t.dtype.numpy.itemsize) for v in variants for t in v.tensors if t.place is Place.WEIGHTS}
    found: list[coding.Range] = []
    for offset, size, stride in sorted(constants, key=lambda c: (c[0], -c[1])):
        if not found or offset >= found[-1].offset + found[-1].bytes:
            found.append(coding.Range(offset, size, stride, *panels.get(offset, (0, 0))))
        elif (end := offset + size) > found[-1].offset + found[-1].bytes:
            found[-1] = coding.Range(found[-1].offset, end - found[-1].offset)
    return sorted([*found, *_between(found, program.weights)], key=lambda r: r.offset)


def _between(found: list[coding.Range], weights: bytes) -> list[coding.Range]:
    """What stands between the constants of the largest size and is not padding: entries of other sizes."""
    ends = [0, *(r.offset + r.bytes for r in found)]
    spans = zip(ends, [*(r.offset for r in found), len(weights)], strict=True)
    return [coding.Range(a, b - a, 4 if (b - a) % 4 == 0 else 1) for a, b in spans if any(weights[a:b])]


def _panels(program: Program, variants: Sequence[Program | dynamic.Variant]) -> dict[int, tuple[int, int]]:
    """By the offset of packed int8 weights, the bytes of a panel (16 outputs) and its k step."""
    step = 8 if program.layout is Layout.K8N16 else 4
    found = {}
    for variant in variants:
        for each in variant.steps:
            if each.op is not Op.CONV or variant.tensors[each.inputs[0]].dtype is not DType.S8:
                continue
            weights, groups = variant.tensors[each.inputs[1]], each.params["groups"]
            if weights.form != PLAIN:
                continue
            panels = groups * -(-variant.tensors[each.outputs[0]].dims[-1] // groups // 16)
            if weights.bytes % (panels * 16 * step) == 0:
                found[weights.offset] = (weights.bytes // panels, step)
    return found


def read(source: str | os.PathLike[str] | bytes) -> Program:
    """Parse a program file. The C verifier is stricter; this checks magic, version and every CRC, and raises ProgramError."""
    where = "program"
    if not isinstance(source, bytes):
        path = Path(source)
        where = str(path)
        if not path.is_file():
            raise MissingFileError("no such program file", where=where, hint="make one with: edgezip compile MODEL -o OUT.ez")
        source = path.read_bytes()
    is_coded = coding.is_coded(source)
    header, bodies = _sections(coding.decode(source, where) if is_coded else source, where)
    program = _parse(header, bodies, where)
    program.coded = is_coded
    return program


def _sections(data: bytes, where: str) -> tuple[Any, dict[str, bytes]]:
    version = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "little")
    if data.startswith(MAGIC) and version != FORMAT_VERSION:  # the header of another version has another size
        raise ProgramError(
            "program of another version", where=where, expected=f"format {FORMAT_VERSION}", got=f"format {version}",
            hint="compile it again",
        )  # fmt: skip
    if len(data) < HEADER.itemsize or not data.startswith(MAGIC):
        raise ProgramError(
            "not an EdgeZip program (.ez), or cut short", where=where, hint="make one with: edgezip compile MODEL -o OUT.ez"
        )
    header = np.frombuffer(data, HEADER, 1)[0]
    if zlib.crc32(data[: HEADER.itemsize - 4]) != int(header["crc32"]):
        raise ProgramError("header is damaged (CRC-32 differs)", where=where, hint="compile or copy the file again")
    if header["numerics"] != NUMERICS_EZN1:
        got = f"{int(header['numerics']):#x}"
        raise ProgramError("program of other numerics", where=where, expected="EZN1", got=got, hint="compile it again")
    if int(header["file_bytes"]) != len(data):
        raise ProgramError(
            "file length differs from its header", where=where, expected=str(header["file_bytes"]), got=str(len(data))
        )
    bodies = {}
    for name, section in zip(SECTIONS, header["sections"], strict=True):
        body = data[int(section["offset"]) : int(section["offset"]) + int(section["bytes"])]
        if zlib.crc32(body) != int(section["crc32"]):
            raise ProgramError(f"section {name} is damaged (CRC-32 differs)", where=where, hint="compile or copy the file again")
        bodies[name] = body
    return header, bodies


def section_bytes(data: bytes) -> dict[str, int]:
    """Bytes of every section of a plain program file that was read before, the header among them."""
    header = np.frombuffer(data, HEADER, 1)[0]
    sizes = {name: int(section["bytes"]) for name, section in zip(SECTIONS, header["sections"], strict=True)}
    return {"header": HEADER.itemsize, **sizes}


def _parse(header: Any, bodies: dict[str, bytes], where: str) -> Program:
    text = bodies["strings"]

    def name_of(record: Any) -> str:
        start = int(record["name_offset"])
        return text[start : start + int(record["name_bytes"])].decode()

    try:
        tensors = [_tensor_of(record, name_of(record)) for record in np.frombuffer(bodies["tensors"], TENSOR)]
        steps = [_step_of(record, name_of(record)) for record in np.frombuffer(bodies["steps"], STEP)]
        io = np.frombuffer(bodies["io"], "<u4").tolist()
        shapes = _shapes_of(header, bodies["shapes"], tensors, steps, io, text) if bodies["shapes"] else None
        if shapes is not None:
            tensors, steps = shapes.variants[0].tensors, shapes.variants[0].steps
        inputs, outputs, states = _ends_of(io, header)
        metadata = json.loads(bodies["metadata"] or b"{}")
        layout = Layout(int(header["layout"]))
        program = Program(
            layout, int(header["act_sign"]), int(header["arena_bytes"]), int(header["scratch_bytes"]),
            tensors, steps, inputs, outputs, bodies["weights"], metadata, [], int(header["solo_us"]), int(header["spin_us"]),
            states, shapes=shapes,
        )  # fmt: skip
        program.vectors = _vectors_of(bodies["vectors"], program, int(header["n_vectors"]))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ProgramError(f"contradictory records: {error}", where=where, hint="compile the model again") from error
    return program


def _shapes_of(header: Any, body: bytes, tensors: list[Tensor], steps: list[Step], io: list[int], text: bytes) -> dynamic.Shapes:
    """The dynamic shapes of a file; each variant takes its share of the records."""
    found = dynamic.tables(body)
    variants, first_step, first_tensor, each = [], 0, 0, len(io) // len(found.variants)
    for number, row in enumerate(found.variants):
        own_steps = steps[first_step : first_step + int(row["n_steps"])]
        own_tensors = tensors[first_tensor : first_tensor + int(row["n_tensors"])]
        variants.append(dynamic.Variant(own_tensors, own_steps, *_ends_of(io[number * each :], header), []))
        first_step, first_tensor = first_step + len(own_steps), first_tensor + len(own_tensors)
    names = [text[int(s["name_offset"]) :][: int(s["name_bytes"])].decode() for s in found.symbols]
    return dynamic.read(found, names, variants, _field_of)


def _ends_of(io: list[int], header: Any) -> tuple[list[int], list[int], list[State]]:
    """The caller's inputs and outputs, and the states, from one list of the io section."""
    n_inputs, n_outputs, n_states = (int(header[name]) for name in ("n_inputs", "n_outputs", "n_states"))
    outputs, initial = n_inputs + n_states, n_inputs + n_states + n_outputs + n_states
    states = [
        State(io[n_inputs + k], io[outputs + n_outputs + k], -1 if io[initial + k] == ZEROS else io[initial + k])
        for k in range(n_states)
    ]
    return io[:n_inputs], io[outputs : outputs + n_outputs], states


def _tensor_of(record: Any, name: str) -> Tensor:
    dims = tuple(int(d) for d in record["dims"][: int(record["rank"])])
    return Tensor(
        name, DType(int(record["dtype"])), Place(int(record["place"])), dims, int(record["offset"]),
        float(record["scale"]), int(record["zero_point"]), int(record["row_stride"]), int(record["form"]),
    )  # fmt: skip


def _step_of(record: Any, name: str) -> Step:
    op = Op(int(record["op"]))
    dtype = PARAMS[op]
    params: dict[str, Any] = {}
    if dtype.itemsize:
        values = np.frombuffer(record["params"].tobytes(), dtype, 1)[0]
        params = {key: tuple(values[key].tolist()) if values[key].ndim else values[key].item() for key in dtype.names or ()}
    inputs = tuple(int(i) for i in record["inputs"][: int(record["n_inputs"])])
    outputs = tuple(int(i) for i in record["outputs"][: int(record["n_outputs"])])
    return Step(name, op, inputs, outputs, params)


def _vectors_of(body: bytes, program: Program, count: int) -> list[list[np.ndarray[Any, Any]]]:
    vectors, position, sized = [], 0, program
    for _ in range(count):
        if program.shapes is not None:
            sizes = np.frombuffer(body, "<i4", len(program.shapes.symbols), position).tolist()
            sized = program.at(sizes)
            position += _round_up(4 * dynamic.MAX_SYMBOLS + 8 * (len(program.inputs) + len(program.outputs)))
        arrays = []
        for tensor in (sized.tensors[i] for i in (*sized.inputs, *sized.outputs)):
            arrays.append(np.frombuffer(body, tensor.dtype.numpy, math.prod(tensor.dims), position).reshape(tensor.dims))
            position += _round_up(tensor.bytes)
        vectors.append(arrays)
    return vectors
