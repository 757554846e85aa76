"""A program of a few kB that uses every operator once, with test vectors: what verifier, session and fuzzers are tried on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from edgezip.kernels import codes
from edgezip.pack.layouts import pack_depthwise_s8, pack_gemm_s8, pad_outputs
from edgezip.pack.scratch import scratch_bytes
from edgezip.program import Binary, Convert, DType, Layout, Norm, Op, Place, Pool, Program, Reduce, Step, Tensor, Unary
from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]
WHOLE = {"lo": -128, "hi": 127}
UNCLAMPED = {"float_lo": -math.inf, "float_hi": math.inf}


class _Builder:
    def __init__(self, layout: Layout, act_sign: int, seed: int, channels: int) -> None:
        self.layout, self.act_sign, self.channels = layout, act_sign, channels
        self.rng = np.random.default_rng(seed)
        self.tensors: list[Tensor] = []
        self.steps: list[Step] = []
        self.weights = bytearray()
        self.arena_bytes = 0

    def arena(self, name: str, dtype: DType, dims: tuple[int, ...], scale: float = 0.1, zero: int = 3) -> int:
        quantised = dtype is DType.S8
        self.tensors.append(
            Tensor(name, dtype, Place.ARENA, dims, self.arena_bytes, float(np.float32(scale)) * quantised, zero * quantised)
        )
        self.arena_bytes += -(-self.tensors[-1].bytes // 64) * 64
        return len(self.tensors) - 1

    def outside(self, name: str, place: Place, dims: tuple[int, ...], index: int) -> int:
        self.tensors.append(Tensor(name, DType.F32, place, dims, index))
        return len(self.tensors) - 1

    def constant(self, name: str, dtype: DType, values: Array) -> int:
        values = np.ascontiguousarray(values, dtype.numpy)
        self.tensors.append(Tensor(name, dtype, Place.WEIGHTS, values.shape, len(self.weights)))
        self.weights += values.tobytes() + bytes(-values.nbytes % 64)
        return len(self.tensors) - 1

    def step(self, op: Op, inputs: tuple[int, ...], output: int, **params: Any) -> int:
        self.steps.append(Step(f"{op.name.lower()}_{len(self.steps)}", op, inputs, (output,), params))
        return output

    def copy(self, x: int, y: int, convert: Convert, dims: tuple[int, ...], sx: tuple[int, ...], sy: tuple[int, ...]) -> int:
        return self.step(
            Op.COPY, (x,), y, convert=convert, rank=len(dims), dims=dims, x_stride=sx, y_stride=sy, fill=0, scale=1.0, **WHOLE
        )

    def binary(self, kind: Binary, a: int, b: int, y: int) -> int:
        n = math.prod(self.tensors[y].dims)
        return self.step(
            Op.BINARY, (a, b), y, kind=kind, rank=1, dims=(n,), stride_a=(1,), stride_b=(1,), stride_y=(1,),
            scale_a=0.5, scale_b=0.5, **WHOLE, **UNCLAMPED,
        )  # fmt: skip


def _packed(b: _Builder, op: Op, taps: int) -> Array:
    """Random weights in the program's layout; what pads outputs, taps or spans is zero, as the packer leaves it."""
    step, c = 4 if b.layout is Layout.K4N16 else 8, b.channels
    panels = -(-c // 16)
    if op is Op.CONV:
        rows = math.isqrt(taps)  # a row of the kernel is padded as a whole
        w = np.zeros((panels * 16, rows, -(-rows * c // step) * step), np.int8)
        w[:c, :, : rows * c] = b.rng.integers(-9, 10, (c, rows, rows * c), np.int8)
    else:
        side = math.isqrt(taps)
        return pack_depthwise_s8(b.rng.integers(-9, 10, (c, taps), np.int8), b.layout, (side, side))
    return np.ascontiguousarray(w.reshape(panels, 16, -1, step).transpose(0, 2, 1, 3)).reshape(-1).view(np.uint8)


def _linear(b: _Builder, x: int, outputs: int, name: str) -> int:
    rows, k = b.tensors[x].dims
    w = b.rng.integers(-127, 128, (outputs, 1, k)).astype(np.int8)
    zero = b.tensors[x].zero_point + (128 if b.act_sign else 0)
    constants = (
        b.constant(f"{name}.w", DType.U8, pack_gemm_s8(w, b.layout)),
        b.constant(f"{name}.bias", DType.S32, pad_outputs((-zero * w.astype(np.int64).sum((1, 2))).astype(np.int32))),
        b.constant(f"{name}.mult", DType.F32, pad_outputs(b.rng.uniform(0.001, 0.003, outputs).astype(np.float32))),
        b.constant(f"{name}.addend", DType.F32, pad_outputs(b.rng.standard_normal(outputs).astype(np.float32))),
    )
    return b.step(Op.LINEAR, (x, *constants), b.arena(name, DType.F32, (rows, outputs)))


def _codes(b: _Builder, x: int, outputs: int) -> int:
    """A codebook product of float rows."""
    rows, k = b.tensors[x].dims
    form = codes.Form(4, 32, tuple(int(v) for v in b.rng.integers(-127, 128, 16)))
    weights = codes.Codes(b.rng.choice(np.array(form.table, np.int8), (outputs, k)), np.ones((outputs, 1), np.float32))
    constants = (
        b.constant("codes.w", DType.U8, codes.pack(weights, form)),
        b.constant("codes.mult", DType.F32, pad_outputs(b.rng.uniform(0.001, 0.003, outputs).astype(np.float32))),
        b.constant("codes.addend", DType.F32, pad_outputs(b.rng.standard_normal(outputs).astype(np.float32))),
    )
    return b.step(Op.CODES, (x, *constants), b.arena("codes", DType.F32, (rows, outputs)), **form.params())


def _transformer(b: _Builder, picture: int) -> int:
    """Rows of nine normalised, projected by rows quantised at run time and by int8 ones, attended to, multiplied; (c,) floats."""
    c = b.channels
    b.tensors.append(replace(b.tensors[picture], name="rows", dims=(c, 9), row_stride=9))
    rows = len(b.tensors) - 1
    scale, bias = (b.constant(name, DType.F32, b.rng.standard_normal(9)) for name in ("norm.scale", "norm.bias"))
    normal, bytes_ = b.arena("normal", DType.F32, (c, 9)), b.arena("normal.int8", DType.S8, (c, 9), 0.02, -5)
    b.steps.append(
        Step("norm", Op.NORM, (rows, scale, bias), (normal, bytes_), {"kind": Norm.LAYER, "results": 3, "epsilon": 1e-5})
    )
    _codes(b, normal, 12)
    heads = []
    for name, source, zero in (("query", normal, 7), ("key", bytes_, 0)):
        made = _linear(b, source, 12, name)
        heads.append(b.arena(f"{name}.int8", DType.S8, (c, 12), 0.03, zero))
        b.copy(made, heads[-1], Convert.QUANTIZE, (c * 12,), (1,), (1,))
    attended = b.arena("attended", DType.S8, (c, 9), 0.02, 2)
    b.step(
        Op.ATTENTION, (heads[0], heads[1], bytes_), attended, outer=1, inner=3, M=c, N=c, K=4, D=3,
        stride_q=(0, 4, 12, 1), stride_k=(0, 4, 1, 12), stride_v=(0, 3, 9, 1), stride_y=(0, 3, 9, 1), stride_mask=(0, 0, 0, 1),
        scale_scores=9e-4, factor=0.5, divides=0, scale_p=1 / 256, zero_p=-128, scale=1 / 256, **WHOLE,
    )  # fmt: skip
    likeness = b.arena("likeness", DType.F32, (c, c))
    walks = {"stride_a": (0, 0, 9, 1), "stride_b": (0, 0, 1, 9), "stride_y": (0, 0, c, 1)}
    b.step(Op.MATMUL, (attended, bytes_), likeness, outer=1, inner=1, M=c, N=c, K=9, scale=4e-4, **walks, **WHOLE)
    mean = b.arena("likeness.mean", DType.F32, (c,))
    return b.step(Op.REDUCE, (likeness,), mean, kind=Reduce.MEAN, outer=c, n=c, inner=1, scale=1.0, **WHOLE)


def _product(b: _Builder, op: Op, x: int, taps: int, y: int) -> int:
    w = b.constant(f"{op.name}.w", DType.U8, _packed(b, op, taps))
    padded = -(-b.channels // 16) * 16
    bias = b.constant(f"{op.name}.b", DType.S32, b.rng.integers(-300, 300, padded))
    mult = b.constant(f"{op.name}.m", DType.F32, b.rng.uniform(0.001, 0.02, padded))
    size = math.isqrt(taps)
    ones = {f"{name}_{axis}": 1 for name in ("stride", "dilation", "out_step") for axis in "hw"}
    zeros = {"out_offset_h": 0, "out_offset_w": 0}
    grid = b.tensors[y].dims
    return b.step(
        op, (x, w, bias, mult), y, kernel_h=size, kernel_w=size, pad_top=size // 2, pad_left=size // 2, out_h=grid[1],
        out_w=grid[2],
        groups=b.channels if op is Op.DEPTHWISE else 1, zero_point_mid=3, zero_point_mid_out=3, scale_a=1.0, scale_b=1.0,
        add_lo=-128,
        add_hi=127, **ones, **zeros, **WHOLE, **UNCLAMPED,
    )  # fmt: skip


def small_program(
    layout: Layout = Layout.K4N16, act_sign: int = 0x80, seed: int = 0, vectors: int = 1, channels: int = 4
) -> Program:
    """float32 (1, channels, 6, 6) in; float32 (1, channels, 3, 3) and (channels,) out."""
    b = _Builder(layout, act_sign, seed, channels)
    c = channels
    x = b.outside("x", Place.INPUT, (1, c, 6, 6), 0)
    y0 = b.outside("picture", Place.OUTPUT, (1, c, 3, 3), 0)
    y1 = b.outside("scores", Place.OUTPUT, (c,), 1)
    inside = b.arena("x.int8", DType.S8, (1, 6, 6, c))
    b.copy(x, inside, Convert.QUANTIZE, (36, c), (1, 36), (c, 1))
    conv = _product(b, Op.CONV, inside, 9, b.arena("conv", DType.S8, (1, 6, 6, c)))
    depthwise = _product(b, Op.DEPTHWISE, conv, 9, b.arena("depthwise", DType.S8, (1, 6, 6, c)))
    table = b.constant("table", DType.U8, b.rng.permutation(256))
    b.step(Op.TABLE, (depthwise, table), depthwise)
    total = b.binary(Binary.ADD, conv, depthwise, b.arena("sum", DType.S8, (1, 6, 6, c)))
    slopes = b.constant("slopes", DType.F32, b.rng.uniform(0.2, 1.0, (2, c)))
    b.step(Op.PRELU, (total, slopes), total, channels=c, **WHOLE)
    small = b.arena("pooled", DType.S8, (1, 3, 3, c))
    pads = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 0)
    pool = {"kernel_h": 2, "kernel_w": 2, "stride_h": 2, "stride_w": 2, "dilation_h": 1, "dilation_w": 1, **pads}
    b.step(Op.POOL, (total,), small, kind=Pool.MAX, count_include_pad=0, scale=1.0, **pool, **WHOLE)
    rows = b.constant("rows", DType.S32, np.array([[0, 1, 2], [1, 2, 2]]))
    weights = b.constant("row_weights", DType.F32, np.array([0.25, 0.5, 0.75]))
    resized = b.step(
        Op.RESIZE, (small, rows, weights, rows, weights), b.arena("resized", DType.S8, (1, 3, 3, c)), scale=1.0, **WHOLE
    )
    picture = b.arena("picture.float", DType.F32, (1, c, 3, 3))
    b.copy(resized, picture, Convert.DEQUANTIZE, (c, 9), (1, c), (9, 1))
    b.step(Op.UNARY, (picture,), picture, kind=Unary.TANH, alpha=0.0, beta=0.0)
    zeros = b.constant("zeros", DType.F32, np.zeros((1, c, 3, 3)))
    positive = b.binary(Binary.GREATER, picture, zeros, b.arena("positive", DType.BOOL, (1, c, 3, 3)))
    ones = (1,)
    b.step(
        Op.WHERE,
        (positive, picture, zeros),
        y0,
        rank=1,
        dims=(9 * c,),
        stride_c=ones,
        stride_a=ones,
        stride_b=ones,
        stride_y=ones,
    )
    means = b.step(
        Op.REDUCE, (picture,), b.arena("means", DType.F32, (c, 1)), kind=Reduce.MEAN, outer=c, n=9, inner=1, scale=1.0, **WHOLE
    )
    matrix = b.constant("matrix", DType.F32, b.rng.standard_normal((c, c)))
    mixed = b.arena("mixed", DType.F32, (1, c))
    strides = {"stride_a": (0, 0, c, 1), "stride_b": (0, 0, c, 1), "stride_y": (0, 0, c, 1)}
    b.step(Op.MATMUL, (means, matrix), mixed, outer=1, inner=1, M=1, N=c, K=c, scale=0.0, lo=0, hi=0, **strides)
    index = b.constant("order", DType.S64, b.rng.integers(-c, c, c))
    picked = b.step(Op.GATHER, (mixed, index), b.arena("picked", DType.F32, (c,)), outer=1, n=c, inner=1, m=c)
    b.step(
        Op.SOFTMAX, (b.binary(Binary.ADD, picked, _transformer(b, picture), b.arena("logits", DType.F32, (c,))),), y1, scale=1.0
    )
    program = Program(
        layout,
        act_sign,
        b.arena_bytes + 64,
        scratch_bytes(b.steps, b.tensors, layout),
        b.tensors,
        b.steps,
        [x],
        [y0, y1],
        bytes(b.weights) + bytes(64),
        {"made": "by hand"},
    )
    for number in range(vectors):
        feed = np.random.default_rng(number).standard_normal((1, c, 6, 6)).astype(np.float32)
        results = ReferenceSession(program).run({"x": feed})
        program.vectors.append([feed, results["picture"], results["scores"]])
    return program
