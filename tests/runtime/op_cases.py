"""Random programs of one step for every operator beside the products, and a run of them in C and in the NumPy interpreter.

Sizes are small and odd on purpose: around vector widths, blocks and tiles of the C code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import selection_cases

from edgezip.kernels import codes, native
from edgezip.pack.layouts import pack_gemm_s8, pad_outputs
from edgezip.program import (
    HEADER,
    PARAMS,
    SECTIONS,
    STEP,
    Binary,
    Convert,
    DType,
    Layout,
    Norm,
    Op,
    Place,
    Pool,
    Program,
    Recurrent,
    Reduce,
    Step,
    Tensor,
    Unary,
)
from edgezip.runtime.reference import _RUN, ReferenceSession
from edgezip.runtime.reference_recurrent import parts_of

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
INFINITE = {"float_lo": -math.inf, "float_hi": math.inf}
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 130)
LENGTHS = (1, 2, 3, 15, 16, 17, 31, 33, 64, 65, 127, 255, 256, 257, 511, 513, 1000, 1025)
QUARTER_RANGE = (-128, -128, -128, -20)


def up(n: int, step: int = 64) -> int:
    return -(-n // step) * step


class Case:
    """One step over a private arena."""

    def __init__(self, rng: Rng, act_sign: int) -> None:
        self.rng, self.act_sign = rng, act_sign
        self.tensors: list[Tensor] = []
        self.weights = bytearray()
        self.arena_bytes = 64
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.step: Step | None = None

    def pick(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def zero_point(self) -> int:
        return int(self.pick(-128, -3, 0, 17, 127))

    def _params(self, dtype: DType, like: Tensor | None) -> tuple[float, int]:
        if dtype is not DType.S8:
            return 0.0, 0
        if like is not None:
            return like.scale, like.zero_point
        return float(np.float32(self.pick(0.05, 0.001, 0.7))), self.zero_point()

    def arena(self, dtype: DType, dims: tuple[int, ...], gap: int = 0, like: Tensor | None = None, same_place: int = -1) -> int:
        """An activation; ``gap`` more elements from row to row, or the very region of tensor ``same_place``."""
        scale, zero = self._params(dtype, like)
        tensor = Tensor(
            f"t{len(self.tensors)}", dtype, Place.ARENA, dims, self.arena_bytes, scale, zero, (dims or (1,))[-1] + gap
        )
        if same_place >= 0:
            tensor.offset, tensor.row_stride = self.tensors[same_place].offset, self.tensors[same_place].row_stride
        else:
            self.arena_bytes = up(tensor.offset + tensor.bytes) + 64
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def outside(self, place: Place, dtype: DType, dims: tuple[int, ...], like: Tensor | None = None) -> int:
        """A graph input or output."""
        scale, zero = self._params(dtype, like)
        listed = self.inputs if place is Place.INPUT else self.outputs
        self.tensors.append(Tensor(f"t{len(self.tensors)}", dtype, place, dims, len(listed), scale, zero))
        listed.append(len(self.tensors) - 1)
        return len(self.tensors) - 1

    def anywhere(self, dtype: DType, dims: tuple[int, ...], outer: Place, like: Tensor | None = None) -> int:
        """In the arena, or as graph input or output."""
        return self.arena(dtype, dims, 0, like) if self.rng.random() < 0.7 else self.outside(outer, dtype, dims, like)

    def constant(self, dtype: DType, values: Array) -> int:
        self.weights += bytes(up(len(self.weights)) - len(self.weights))
        values = np.ascontiguousarray(values, dtype.numpy)
        self.tensors.append(Tensor(f"t{len(self.tensors)}", dtype, Place.WEIGHTS, values.shape, len(self.weights)))
        self.weights += values.tobytes()
        return len(self.tensors) - 1

    def run(self, op: Op, inputs: tuple[int, ...], *outputs: int, **params: Any) -> Case:
        self.step = Step(op.name.lower(), op, inputs, outputs, params)
        return self

    def clamp(self) -> dict[str, int]:
        lo = int(self.pick(*QUARTER_RANGE))
        return {"lo": lo, "hi": int(self.pick(127, 127, 60, lo))}

    def program(self) -> Program:
        assert self.step is not None
        weights = bytes(self.weights) + bytes(up(len(self.weights)) - len(self.weights)) + bytes(64)
        return Program(
            Layout.K4N16, self.act_sign, self.arena_bytes + 64, 0, self.tensors, [self.step], self.inputs, self.outputs, weights
        )

    def fill(self) -> tuple[Array, list[Array]]:
        """Random arena and graph inputs that suit each tensor's dtype."""
        arena = self.rng.integers(0, 256, self.arena_bytes + 64, np.uint8)
        for tensor in self.tensors:
            if tensor.place is Place.ARENA:
                arena[tensor.offset : tensor.offset + tensor.bytes] = self.values(tensor).view(np.uint8)
        return arena, [self.values(self.tensors[i]).reshape(self.tensors[i].dims) for i in self.inputs]

    def values(self, tensor: Tensor) -> Array:
        size = tensor.bytes // tensor.dtype.numpy.itemsize
        if tensor.dtype is DType.F32:
            return (self.rng.standard_normal(size) * self.pick(0.01, 1, 30)).astype(np.float32)
        if tensor.dtype is DType.BOOL:
            return self.rng.integers(0, 2, size).astype(np.bool_)
        if tensor.dtype is DType.S8:
            return self.rng.integers(-128, 128, size, np.int8)
        if tensor.dtype is DType.U8:
            return self.rng.integers(0, 256, size, np.uint8)
        return self.rng.integers(-300, 300, size).astype(tensor.dtype.numpy)


# --- one generator an operator ---------------------------------------------------------------------------------------------


def strides_of(dims: tuple[int, ...]) -> list[int]:
    return [math.prod(dims[i + 1 :]) for i in range(len(dims))]


def random_dims(case: Case, rank: int, most: int = 4000) -> tuple[int, ...]:
    while True:
        dims = tuple(int(case.pick(1, 2, 3, 5, 8, 17, 33, 100)) for _ in range(rank - 1)) + (int(case.pick(*LENGTHS)),)
        if math.prod(dims) <= most:
            return dims


def table(case: Case) -> Case:
    x = case.arena(DType.S8, random_dims(case, case.pick(1, 2, 4)))
    y = case.arena(DType.S8, case.tensors[x].dims, same_place=case.pick(-1, x))
    return case.run(Op.TABLE, (x, case.constant(DType.U8, case.rng.integers(0, 256, 256))), y)


def unary(case: Case) -> Case:
    kind = case.pick(*Unary)
    dtype = DType.BOOL if kind is Unary.NOT else DType.F32
    dims = random_dims(case, case.pick(1, 3))
    x = case.arena(dtype, dims) if case.rng.random() < 0.7 else case.outside(Place.INPUT, dtype, dims)
    in_place = case.tensors[x].place is Place.ARENA and case.rng.random() < 0.5
    y = case.arena(dtype, dims, same_place=x) if in_place else case.anywhere(dtype, dims, Place.OUTPUT)
    alpha, beta = (-1.0, 2.0) if kind is Unary.CLIP else (0.25, 0.5)
    return case.run(Op.UNARY, (x,), y, kind=kind, alpha=alpha, beta=beta)


def binary(case: Case) -> Case:
    kind = case.pick(*Binary)
    logic, compares = kind in (Binary.AND, Binary.OR), Binary.EQUAL <= kind <= Binary.GREATER_EQUAL
    dtype = DType.BOOL if logic or (kind is Binary.EQUAL and case.rng.random() < 0.3) else case.pick(DType.S8, DType.F32)
    result = DType.BOOL if logic or compares else dtype
    dims = random_dims(case, case.pick(1, 2, 3, 4), 3000)
    order = case.rng.permutation(len(dims)) if case.rng.random() < 0.3 else np.arange(len(dims))
    operands, walks = [], []
    for _ in range(2):
        shape = tuple(d if case.rng.random() < 0.75 else 1 for d in dims)
        own = strides_of(shape)
        operands.append(case.arena(dtype, shape) if dtype is DType.S8 else case.anywhere(dtype, shape, Place.INPUT))
        walks.append([own[a] if shape[a] > 1 else 0 for a in order])
    y_walk = [strides_of(dims)[a] for a in order]
    alike = [i for i in range(2) if walks[i] == y_walk and case.tensors[operands[i]].place is Place.ARENA]
    in_place = operands[case.pick(*alike)] if alike and dtype is result and case.rng.random() < 0.5 else -1
    y = case.arena(result, dims, same_place=in_place)
    limits = {"float_lo": float(case.pick(-math.inf, 0.0)), "float_hi": float(case.pick(math.inf, 6.0))}
    # with sums beyond int32 too
    scales = {"scale_a": float(case.pick(0.5, 0.013, 1.7, 3e7)), "scale_b": float(case.pick(0.5, 0.02, 1.1, 1e30))}
    return case.run(
        Op.BINARY, tuple(operands), y, kind=kind, rank=len(dims), dims=tuple(dims[a] for a in order), stride_a=tuple(walks[0]),
        stride_b=tuple(walks[1]), stride_y=tuple(y_walk), **scales, **limits, **case.clamp(),
    )  # fmt: skip


def pool(case: Case) -> Case:
    dtype, kind = case.pick(DType.S8, DType.F32), case.pick(Pool.MAX, Pool.AVERAGE)
    channels = case.pick(*CHANNELS, 513, 600)
    height, width = case.pick(1, 2, 5, 9), case.pick(1, 3, 6, 12)
    p: dict[str, int] = {}
    grid = []
    for axis, size, begin, end in (("h", height, "pad_top", "pad_bottom"), ("w", width, "pad_left", "pad_right")):
        whole = case.rng.random() < 0.25
        kernel = size if whole else case.pick(1, 2, 3, 5, 9)
        stride, dilation = case.pick(1, 2, 3), 1 if whole else case.pick(1, 1, 2)
        reach = (kernel - 1) * dilation + 1
        p[begin], p[end] = (0, 0) if whole else (int(case.rng.integers(0, reach)), int(case.rng.integers(0, reach)))
        if size + p[begin] + p[end] < reach:
            p[begin] = reach - size - p[end]
        p |= {f"kernel_{axis}": kernel, f"stride_{axis}": stride, f"dilation_{axis}": dilation}
        grid.append((size + p[begin] + p[end] - reach) // stride + 1)
    batch = case.pick(1, 2)
    x = case.arena(dtype, (batch, height, width, channels), case.pick(0, 0, 3, 64))
    like = case.tensors[x] if kind is Pool.MAX else None
    y = case.arena(dtype, (batch, *grid, channels), case.pick(0, 0, 5), like)
    include = int(case.rng.random() < 0.4) if kind is Pool.AVERAGE else 0
    return case.run(
        Op.POOL, (x,), y, kind=kind, count_include_pad=include, scale=float(case.pick(0.9, 2.0, 0.031)), **p, **case.clamp()
    )


def reduce(case: Case) -> Case:
    dtype, kind = case.pick(DType.S8, DType.F32), case.pick(*Reduce)
    outer, n, inner = case.pick(1, 2, 7), case.pick(1, 2, 3, 16, 17, 49, 65, 100), case.pick(1, 1, 2, 3, 17, 64, 130, 513, 1030)
    if dtype is DType.F32 and kind in (Reduce.MAX, Reduce.MIN):
        inner = min(inner, 130)
    x = case.arena(dtype, (outer, n, inner))
    y = case.arena(dtype, (outer, inner), 0, case.tensors[x] if kind in (Reduce.MAX, Reduce.MIN) else None)
    limits = {"lo": -128, "hi": 127} if kind in (Reduce.MAX, Reduce.MIN) else case.clamp()
    return case.run(Op.REDUCE, (x,), y, kind=kind, outer=outer, n=n, inner=inner, scale=float(case.pick(0.9, 0.02)), **limits)


def softmax(case: Case) -> Case:
    dims = random_dims(case, case.pick(1, 2, 3), 3000)
    if case.rng.random() < 0.5:
        return case.run(Op.SOFTMAX, (case.arena(DType.F32, dims),), case.arena(DType.F32, dims), scale=1.0)
    x = case.arena(DType.S8, dims)
    exponents = np.exp(-np.arange(256) * float(case.pick(0.001, 0.05, 0.6))).astype(np.float32)
    return case.run(
        Op.SOFTMAX,
        (x, case.constant(DType.F32, exponents)),
        case.arena(DType.S8, dims),
        scale=float(case.pick(255.0, 256.0, 90.0)),
    )


def resize(case: Case) -> Case:
    dtype = case.pick(DType.S8, DType.F32)
    batch, height, width, channels = case.pick(1, 2), case.pick(1, 2, 5), case.pick(1, 3, 6), case.pick(*CHANNELS)
    out = (case.pick(1, 3, 8), case.pick(1, 2, 11))
    x = case.arena(dtype, (batch, height, width, channels), case.pick(0, 0, 7))
    y = case.arena(dtype, (batch, *out, channels), case.pick(0, 0, 7))
    tables = []
    for size, length in zip((height, width), out, strict=True):
        tables.append(case.constant(DType.S32, case.rng.integers(0, size, (2, length))))
        tables.append(case.constant(DType.F32, case.rng.random(length)))
    return case.run(Op.RESIZE, (x, *tables), y, scale=float(case.pick(1.0, 0.3, 3.0)), **case.clamp())


def gather(case: Case) -> Case:
    dtype = case.pick(DType.S8, DType.F32, DType.S64, DType.BOOL, DType.U8)
    outer, n, inner, m = case.pick(1, 2, 5), case.pick(1, 3, 9), case.pick(1, 2, 16, 65), case.pick(1, 4, 20)
    x = case.arena(dtype, (outer, n, inner))
    wide = case.pick(DType.S32, DType.S64)
    index = case.constant(wide, case.rng.integers(-n - 2, n + 2, m)) if case.rng.random() < 0.6 else case.arena(wide, (m,))
    y = case.arena(dtype, (outer, m, inner), 0, case.tensors[x])
    return case.run(Op.GATHER, (x, index), y, outer=outer, n=n, inner=inner, m=m)


def prelu(case: Case) -> Case:
    dtype, channels = case.pick(DType.S8, DType.F32), case.pick(*CHANNELS)
    dims = (case.pick(1, 2), case.pick(1, 5, 9), channels)
    x = case.arena(dtype, dims)
    y = case.arena(dtype, dims, same_place=case.pick(-1, x))
    count = 2 if dtype is DType.S8 else 1
    slopes = case.constant(DType.F32, case.rng.normal(0, 1, (count, channels)))
    return case.run(Op.PRELU, (x, slopes), y, channels=channels, **case.clamp())


def where(case: Case) -> Case:
    dtype = case.pick(DType.S8, DType.F32, DType.S64, DType.BOOL)
    dims = random_dims(case, case.pick(1, 2, 3), 3000)
    operands, walks = [], []
    like = None
    for position in range(3):
        shape = tuple(d if case.rng.random() < 0.7 else 1 for d in dims)
        operands.append(case.arena(DType.BOOL if position == 0 else dtype, shape, 0, like))
        like = case.tensors[operands[-1]] if position == 1 else like
        walks.append(tuple(s if d > 1 else 0 for s, d in zip(strides_of(shape), shape, strict=True)))
    y = case.arena(dtype, dims, 0, case.tensors[operands[1]])
    return case.run(
        Op.WHERE, tuple(operands), y, rank=len(dims), dims=dims, stride_c=walks[0], stride_a=walks[1], stride_b=walks[2],
        stride_y=tuple(strides_of(dims)),
    )  # fmt: skip


def copy(case: Case) -> Case:
    convert = case.pick(*Convert)
    any_dtype = (DType.F32, DType.S32, DType.S64, DType.U8, DType.BOOL)
    same = case.pick(DType.S8, *any_dtype)
    x_dtype, y_dtype = {
        Convert.NONE: (same, same),
        Convert.QUANTIZE: (DType.F32, DType.S8),
        Convert.DEQUANTIZE: (DType.S8, DType.F32),
        Convert.REQUANTIZE: (DType.S8, DType.S8),
        Convert.CAST: (case.pick(*any_dtype), case.pick(*any_dtype)),
        Convert.BITS: case.pick((DType.F32, DType.S32), (DType.S32, DType.F32), (DType.U8, DType.S8), (DType.S8, DType.U8)),
    }[convert]
    shape = random_dims(case, case.pick(1, 2, 3, 4), 5000)
    if case.rng.random() < 0.4:  # pictures: planes to pixels and back
        planes, pixels = case.pick(1, 2, 3, 4, 5, 16, 70), case.pick(1, 7, 63, 64, 65, 130)
        shape = (case.pick(1, 2), planes, pixels) if case.rng.random() < 0.5 else (case.pick(1, 2), pixels, planes)
    order = case.rng.permutation(len(shape))  # memory order of x
    kept = tuple(d if case.rng.random() < 0.85 else 1 for d in shape)  # the rest is expanded
    x_dims = tuple(kept[a] for a in order)
    x_strides = [0] * len(shape)
    for position, axis in enumerate(order):
        x_strides[axis] = strides_of(x_dims)[position] if kept[axis] > 1 else 0
    x_offset = 0
    for axis, size in enumerate(kept):
        if size > 1 and case.rng.random() < 0.1:  # flipped
            x_offset += (size - 1) * x_strides[axis]
            x_strides[axis] = -x_strides[axis]
    wider = tuple(d + case.pick(0, 0, 0, 3) for d in shape)  # y is a part of this
    y_offset = sum(int(case.rng.integers(0, w - d + 1)) * s for d, w, s in zip(shape, wider, strides_of(wider), strict=True))
    x = case.anywhere(x_dtype, x_dims, Place.INPUT)
    like = case.tensors[x] if convert is Convert.NONE else None
    whole = wider == shape
    y = case.anywhere(y_dtype, wider, Place.OUTPUT, like) if whole else case.arena(y_dtype, wider, 0, like)
    fill = {"fill": 1, "fill_value": case.pick(0, 1, 100, -128 if y_dtype is DType.S8 else 7), "fill_float": 1.5}
    if y_dtype is DType.BOOL:
        fill["fill_value"] = 1
    return case.run(
        Op.COPY, (x,), y, convert=convert, rank=len(shape), dims=shape, x_stride=tuple(x_strides),
        y_stride=tuple(strides_of(wider)),
        x_offset=x_offset, y_offset=y_offset, scale=float(case.pick(1.0, 0.4, 2.2)),
        **(fill if case.rng.random() < 0.5 else {"fill": 0}),
        **(case.clamp() if convert in (Convert.QUANTIZE, Convert.REQUANTIZE) else {"lo": -128, "hi": 127}),
    )  # fmt: skip


def norm(case: Case) -> Case:
    dims = (case.pick(1, 2, 5), case.pick(1, 3), case.pick(*LENGTHS))
    x_dtype, more_dtype = case.pick(DType.F32, DType.F32, DType.S8), case.pick(DType.F32, DType.S8)
    x = case.arena(x_dtype, dims)
    more = case.arena(more_dtype, dims) if case.rng.random() < 0.5 else -1
    outputs = case.pick(*range(1, 8)) if more >= 0 else case.pick(1, 2, 3)
    made = [case.arena(DType.S8 if bit == 2 else DType.F32, dims) for bit in (1, 2, 4) if outputs & bit]
    candidates = [t for t in (x, more) if t >= 0 and case.tensors[t].dtype is case.tensors[made[0]].dtype]
    if candidates and case.rng.random() < 0.3:
        like = None if case.tensors[made[0]].dtype is DType.F32 else case.tensors[made[0]]
        made[0] = case.arena(case.tensors[made[0]].dtype, dims, 0, like, same_place=case.pick(*candidates))
    scale = case.constant(DType.F32, case.rng.normal(0, 1, dims[-1]))
    bias = case.constant(DType.F32, case.rng.normal(0, 1, dims[-1])) if case.rng.random() < 0.6 else -1
    return case.run(
        Op.NORM,
        (x, scale, bias, more),
        *made,
        kind=case.pick(*Norm),
        results=outputs,
        epsilon=float(case.pick(1e-12, 1e-5, 1e-3)),
    )


def recurrent(case: Case) -> Case:
    kind, hidden = case.pick(*Recurrent), case.pick(1, 3, 8, 15, 16, 17, 33, 40)
    steps, batch, directions = case.pick(1, 2, 5), case.pick(1, 1, 2, 3, 17, 20), case.pick(1, 2)
    width, before = kind.gates * hidden, int(case.rng.random() < 0.5) if kind is Recurrent.GRU else 0
    padded = directions * sum(up(columns, 16) for columns in parts_of(kind, hidden, bool(before)))
    gates = case.anywhere(DType.F32, (steps, batch, directions * width), Place.INPUT)
    fold = -1
    if is_s8 := case.pick(True, False):
        packed = pack_gemm_s8(case.rng.integers(-127, 128, (padded, 1, hidden)).astype(np.int8), Layout.K4N16)
        r = case.constant(DType.U8, packed)
        scales = np.stack([case.rng.normal(0, 1, padded), case.rng.uniform(0.001, 0.008, padded)])
        bias, fold = case.constant(DType.F32, scales), case.constant(DType.S32, case.rng.integers(-9999, 9999, padded))
    else:
        r = case.constant(DType.F32, case.rng.normal(0, 0.5, padded * hidden))
        bias = case.constant(DType.F32, case.rng.normal(0, 1, padded))
    state, is_lstm = (directions, batch, hidden), kind is Recurrent.LSTM
    h0, c0 = (case.anywhere(DType.F32, state, Place.INPUT) if case.pick(True, False) else -1 for _ in range(2))
    peephole = case.constant(DType.F32, case.rng.normal(0, 1, (directions, 3, hidden))) if case.pick(True, False) else -1
    lengths = case.constant(DType.S32, case.rng.integers(-1, steps + 2, batch)) if case.pick(True, False) else -1
    functions = (Unary.SIGMOID, Unary.TANH, Unary.CLIP, Unary.HARD_SIGMOID, Unary.LEAKY_RELU, Unary.ELU, Unary.SOFTPLUS)
    bounded = functions if kind is Recurrent.RNN else (Unary.SIGMOID, Unary.HARD_SIGMOID)  # else squares of squares overflow
    chosen = [case.pick(*(bounded if i % 3 == 0 else functions)) for i in range(6)]
    numbers = [(0.0, math.inf) if f is Unary.CLIP else (0.2, 0.5) for f in chosen]
    inputs = (gates, r, bias, h0, c0 if is_lstm else -1, peephole if is_lstm else -1, lengths, *([fold] if is_s8 else []))
    results = [case.anywhere(DType.F32, (steps, *state), Place.OUTPUT)]
    results += [case.anywhere(DType.F32, state, Place.OUTPUT) for _ in range(1 + is_lstm)]
    return case.run(
        Op.RECURRENT, inputs, *results, kind=kind, hidden=hidden, directions=directions,
        reverse=int(directions == 1 and case.rng.random() < 0.3), linear_before_reset=before,
        input_forget=int(case.rng.random() < 0.3), clip=float(case.pick(math.inf, math.inf, 0.7)),
        cell_clip=float(case.pick(math.inf, math.inf, 0.2)),
        activation=tuple(chosen), alpha=tuple(a for a, _ in numbers), beta=tuple(b for _, b in numbers),
    )  # fmt: skip


def linear(case: Case) -> Case:
    rows, k, n = (
        case.pick(1, 2, 3, 5, 7, 13, 30, 100),
        case.pick(1, 3, 4, 8, 17, 31, 64, 100, 260),
        case.pick(1, 7, 16, 17, 40, 64, 70, 130),
    )
    dtype = case.pick(DType.F32, DType.S8)
    x = case.arena(dtype, (rows, k), case.pick(0, 0, 5))
    y = case.arena(DType.F32, (rows, n), case.pick(0, 0, 3))
    weights = case.pick(case.rng.integers(-127, 128, (n, 1, k)), np.full((n, 1, k), 127)).astype(np.int8)
    packed = pack_gemm_s8(weights, Layout.K4N16)
    bias = -128 * weights.astype(np.int64).sum((1, 2)) if case.act_sign else np.zeros(n)
    floats = [case.rng.normal(0, 0.01, n).astype(np.float32), case.rng.normal(0, 1, n).astype(np.float32)]
    constants = [
        case.constant(DType.U8, packed),
        case.constant(DType.S32, pad_outputs(bias.astype(np.int32))),
        *(case.constant(DType.F32, pad_outputs(values)) for values in floats),
    ]
    return case.run(Op.LINEAR, (x, *constants), y)


def low_bits(case: Case) -> Case:
    rows, n = case.pick(1, 1, 2, 3, 4, 5, 13, 100), case.pick(1, 7, 16, 17, 40, 70, 130)
    k, block = case.pick(1, 8, 31, 32, 33, 64, 100, 260), case.pick(32, 64, 96, 128, 288)
    bits = case.pick(4, 2)
    count = 1 << bits
    extreme = [-127] * (count // 2) + [127] * (count // 2)
    offset = case.pick(0, 1, count // 2, count - 1)
    tables = [np.arange(count) - offset, case.rng.integers(-127, 128, count), np.array(extreme)]
    form = codes.Form(bits, block, tuple(int(v) for v in case.pick(*tables)))
    x = case.arena(DType.F32, (rows, k), case.pick(0, 0, 5))
    y = case.arena(DType.F32, (rows, n), case.pick(0, 0, 3))
    blocks = -(-k // block)
    packed = case.rng.integers(0, 256, (-(-n // 16), blocks, 32 + 2 * bits * block)).astype(np.uint8)
    packed[:, :, 1:32:2] &= case.pick(0x3F, 0x3B, 0x80)  # exponents of f16: any, small ones and 1, subnormal and the sign bit
    constants = [
        case.constant(DType.U8, packed.reshape(-1)),
        case.constant(DType.F32, pad_outputs(np.exp2(case.rng.integers(-9, 3, n)).astype(np.float32))),
        case.constant(DType.F32, pad_outputs(case.rng.normal(0, 1, n).astype(np.float32))),
    ]
    return case.run(Op.CODES, (x, *constants), y, **form.params())


def attention(case: Case) -> Case:
    outer, inner, m, n = case.pick(1, 2), case.pick(1, 3), case.pick(1, 2, 7, 50, 97), case.pick(1, 3, 16, 17, 33, 65, 130)
    k, d = case.pick(1, 4, 7, 32, 33), case.pick(1, 5, 16, 32, 40)
    qk, v, y = case.pick((DType.F32, DType.F32, DType.F32), (DType.S8, DType.S8, DType.S8), (DType.S8, DType.S8, DType.F32),
                         (DType.S8, DType.F32, DType.F32), (DType.F32, DType.S8, DType.S8))  # fmt: skip
    heads = case.rng.random() < 0.5  # (outer, rows, inner, columns) in memory

    def walk(rows: int, columns: int, turned: bool = False) -> tuple[int, int, int, int]:
        rows, columns = (columns, rows) if turned else (rows, columns)
        whole, across = rows * inner * columns, (columns, inner * columns) if heads else (rows * columns, columns)
        return (whole, across[0], 1, across[1]) if turned else (whole, *across, 1)

    turned = bool(case.rng.random() < 0.7)
    sizes = {"q": (m, k, qk), "k": (k, n, qk), "v": (n, d, v), "y": (m, d, y)}
    tensors = {name: case.arena(dtype, (outer * inner * rows * columns,)) for name, (rows, columns, dtype) in sizes.items()}
    strides = {f"stride_{name}": walk(rows, columns, name == "k" and turned) for name, (rows, columns, _) in sizes.items()}
    mask = case.pick(-1, *[case.arena(DType.F32, shape) for shape in ((outer, n), (m, n))])
    strides["stride_mask"] = (n, 0, 0, 1) if mask >= 0 and case.tensors[mask].dims == (outer, n) else (0, 0, n, 1)
    scales = {
        "scale_scores": float(case.pick(0.01, 1e-4)),
        "factor": float(case.pick(1.0, 0.177, 5.657)),
        "divides": case.pick(0, 1),
    }
    quantised = {
        "scale_p": float(case.pick(1 / 255, 1 / 256, 0.1)),
        "zero_p": case.pick(-128, 0),
        "scale": float(case.pick(0.01, 1.5)),
    }
    return case.run(
        Op.ATTENTION, (tensors["q"], tensors["k"], tensors["v"], mask), tensors["y"], outer=outer, inner=inner, M=m, N=n, K=k,
        D=d, **strides, **scales, **quantised, **case.clamp(),
    )  # fmt: skip


GENERATORS: dict[Op, Callable[[Case], Case]] = {
    Op.BINARY: binary, Op.UNARY: unary, Op.TABLE: table, Op.POOL: pool, Op.REDUCE: reduce, Op.SOFTMAX: softmax, Op.RESIZE: resize,
    Op.COPY: copy, Op.GATHER: gather, Op.PRELU: prelu, Op.WHERE: where, Op.NORM: norm, Op.LINEAR: linear, Op.CODES: low_bits,
    Op.ATTENTION: attention,
    Op.RECURRENT: recurrent, **selection_cases.GENERATORS,
}  # fmt: skip


# --- running ---------------------------------------------------------------------------------------------------------------


def by_reference(program: Program, arena: Array, feeds: list[Array]) -> tuple[Array, list[Array]]:
    """Arena and graph outputs after the NumPy interpreter ran the step."""
    session = ReferenceSession(program)
    session._bind({program.tensors[i].name: feed for i, feed in zip(program.inputs, feeds, strict=True)})
    session._arena[:] = arena
    with np.errstate(all="ignore"):
        _RUN[program.steps[0].op](session, program.steps[0])
    return session._arena, session._outputs


def records(program: Program) -> tuple[bytes, bytes]:
    """Step and tensor records as the file holds them."""
    raw = program.to_bytes()
    header = np.frombuffer(raw, HEADER, 1)[0]
    parts = {n: raw[s["offset"] : s["offset"] + s["bytes"]] for n, s in zip(SECTIONS, header["sections"], strict=True)}
    return parts["steps"], parts["tensors"]


def by_kernels(
    program: Program, arena: Array, feeds: list[Array], isa: str, threads: int = 1, step: bytes | None = None
) -> tuple[Array, list[Array]]:
    """The same after the C step; ``step`` replaces the program's record."""
    memory, weights = native.readable(arena), native.readable(np.frombuffer(program.weights, np.uint8))
    results = [np.zeros(program.tensors[i].dims, program.tensors[i].dtype.numpy) for i in program.outputs]
    of_place = {
        Place.ARENA: lambda t: memory[t.offset :],
        Place.WEIGHTS: lambda t: weights[t.offset :],
        Place.INPUT: lambda t: np.ascontiguousarray(feeds[t.offset]),
        Place.OUTPUT: lambda t: results[t.offset],
    }
    own, tensors = records(program)
    data = [of_place[t.place](t) for t in program.tensors]
    native.run_step(step or own, tensors, data, layout=program.layout, act_sign=program.act_sign, isa=isa, threads=threads)
    return memory, results


def with_params(program: Program, values: dict[str, Any]) -> bytes:
    """The step record with some parameters replaced; no check of any kind."""
    own, _ = records(program)
    raw, start, dtype = bytearray(own), STEP.fields["params"][1], PARAMS[program.steps[0].op]  # type: ignore[index]
    record = np.frombuffer(bytes(raw[start : start + dtype.itemsize]), dtype).copy()
    for name, value in values.items():
        record[name] = value
    raw[start : start + dtype.itemsize] = record.tobytes()
    return bytes(raw)
