"""A program run without C: convolutions, products and depthwise steps in Numba, the small rest in NumPy; the same bits."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self

import numpy as np

from edgezip.errors import UsageError
from edgezip.kernels import codes, jit_vnni
from edgezip.kernels import reference as ref
from edgezip.kernels.codes import Codes
from edgezip.kernels.jit_codes import product as block_product
from edgezip.kernels.jit_depthwise import depthwise, depthwise_f32
from edgezip.kernels.jit_finish import Clamp, Sum, add_residual, finish, finish_f32
from edgezip.kernels.jit_gemm import product, product_f32
from edgezip.kernels.jit_grid import Geometry, Target, gather
from edgezip.kernels.jit_pool import max_pool, sum_pool
from edgezip.kernels.jit_spmm import BlocksProduct
from edgezip.kernels.sparse_blocks import Blocks
from edgezip.program import OVERREAD, DType, Op, Place, Pool, Program, Step, read
from edgezip.runtime import reference
from edgezip.runtime.bounds import check_convolution
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import TensorInfo

Array = np.ndarray[Any, Any]
Block = Callable[[int, int], None]
BLOCK_BYTES = 1 << 18  # gathered bytes of a block: half of a second-level cache
NO_TABLE = np.zeros(0, np.uint8)


class NumbaSession(ReferenceSession):
    """One loaded program; one user at a time. ``threads`` 1..64 share the blocks of a convolution."""

    def __init__(self, program: Program | bytes | str | os.PathLike[str], *, threads: int = 1) -> None:
        if not isinstance(program, Program):
            program = read(program)
        if not 1 <= threads <= 64:
            raise UsageError("threads: must be a whole number", expected="1 to 64", got=str(threads))
        self._products: dict[tuple[Any, ...], Any] = {}
        super().__init__(program)
        self.threads = threads
        self._arena = np.zeros(program.arena_bytes + OVERREAD, np.uint8)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def _take(self, program: Program) -> None:
        super()._take(program)
        for step in self._steps:
            if step.op in _PREPARE:
                check_convolution(program, step)

    @property
    def isa(self) -> str:
        """The path that int8 products take."""
        return {16: "numba avx512vnni", 8: "numba avxvnni", 0: "numba"}[jit_vnni.lanes()]

    @property
    def inputs(self) -> list[TensorInfo]:
        """The graph inputs, in order."""
        return [self._info(index) for index in self.program.inputs]

    @property
    def outputs(self) -> list[TensorInfo]:
        """The graph outputs, in order."""
        return [self._info(index) for index in self.program.outputs]

    def _info(self, index: int) -> TensorInfo:
        t = self.tensor(index)
        return TensorInfo(t.name, t.dtype, t.dims, t.scale, t.zero_point)

    def verify_vectors(self) -> tuple[int, int]:
        """(passed, total) of the bundled test vectors, compared byte for byte, from the initial states on; then all is reset."""
        self.reset()
        passed, inputs = 0, len(self.inputs)
        for vector in self._source.vectors:
            got = self.run({info.name: array for info, array in zip(self.inputs, vector[:inputs], strict=True)})
            wanted = zip(self.outputs, vector[inputs:], strict=True)
            passed += all(got[info.name].tobytes() == array.tobytes() for info, array in wanted)
        self.reset()
        return passed, len(self._source.vectors)

    def _execute(self, step: Step) -> None:
        if step.op in _RUN:
            _RUN[step.op](self, step)
        else:
            super()._execute(step)

    def share(self, pixels: int, row_bytes: int, block: Block) -> None:
        """Calls ``block(first, rows)`` until all pixels are done, on every thread."""
        rows = max(6, min(pixels, BLOCK_BYTES // max(row_bytes, 1), -(-pixels // self.threads)))
        starts = range(0, pixels, rows)
        if self._pool is None:
            for first in starts:
                block(first, min(rows, pixels - first))
        else:
            list(self._pool.map(lambda first: block(first, min(rows, pixels - first)), starts))

    def prepared(self, step: Step) -> Any:
        """What ``_PREPARE`` made of the step's weights."""
        x, p = self.tensor(step.inputs[0]), step.params
        weights = tuple(self.tensor(i).offset for i in step.inputs[1:4] if i >= 0)
        key = (step.op, weights, x.dtype, x.dims[3], p["groups"], p["kernel_h"], p["kernel_w"], p["dilation_w"])
        if key not in self._products:
            self._products[key] = _PREPARE[step.op](self, step)
        return self._products[key]

    def unpacked(self, step: Step) -> Codes:
        """The weights of a CODES step, made once."""
        key = (step.op, self.tensor(step.inputs[1]).offset, *step.params.values())
        if key not in self._products:
            k, n = (self.tensor(t).dims[-1] for t in (step.inputs[0], step.outputs[0]))
            self._products[key] = codes.unpack(self._flat(step.inputs[1]), codes.form_of(step.params), n, k)
        made: Codes = self._products[key]
        return made

    def close(self) -> None:
        """Ends the threads; closing twice is harmless."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- preparing weights --------------------------------------------------------------------------------------------------------


def _prepare_conv(session: NumbaSession, step: Step) -> list[Any]:
    """One product a group (int8), or one (K, N) matrix and bias a group (float32)."""
    weights, biases = reference.conv_weights(session, step), reference.conv_bias(session, step)
    held = reference.blocks_of(session, step)
    if held is not None:
        return _prepare_blocks(session, step, held, weights, biases)
    flat = [w.reshape(len(w), -1) for w in weights]
    if session.tensor(step.inputs[0]).dtype is not DType.S8:
        return [(np.ascontiguousarray(w.T), np.ascontiguousarray(b)) for w, b in zip(flat, biases, strict=True)]
    return [_in_domain(session, product, w, b) for w, b in zip(flat, biases, strict=True)]


def _prepare_blocks(session: NumbaSession, step: Step, held: Blocks, weights: list[Array], biases: Array) -> list[Any]:
    """One product a group that skips what the blocks leave out."""
    p, panels = step.params, (len(held.starts) - 1) // len(weights)
    kernel, channels = (p["kernel_h"], p["kernel_w"]), weights[0].shape[2]
    span = ref.spans(kernel, p["dilation_w"], len(weights), channels)[1]

    def product_of(part: Blocks) -> Callable[[Array, Array], BlocksProduct]:
        return lambda _, bias: BlocksProduct(part, span, bias)

    made = []
    for group, (w, b) in enumerate(zip(weights, biases, strict=True)):
        part = held.panels_from(group * panels, panels)
        made.append(_in_domain(session, partial(_blocks_product, part, span), w.reshape(len(w), -1), b))
    return made


def _blocks_product(part: Blocks, span: int, _: Array, bias: Array) -> BlocksProduct:
    return BlocksProduct(part, span, bias)


def _prepare_depthwise(session: NumbaSession, step: Step) -> Any:
    weights = reference.depthwise_weights(session, step)
    bias = np.ascontiguousarray(session._flat(step.inputs[2])[: len(weights)])
    if session.tensor(step.inputs[0]).dtype is not DType.S8:
        return np.ascontiguousarray(weights.T), bias
    return _in_domain(session, depthwise, weights, bias)


def _in_domain(session: NumbaSession, make: Callable[[Array, Array], Any], weights: Array, bias: Array) -> Any:
    """The product with its bias folded for the bytes it reads: those of the file, or the same XOR 0x80."""
    made = make(weights, bias)
    if made.signed == bool(session.program.act_sign):
        shift = 128 if made.signed else -128  # what one byte more or less counts in every product
        made = make(weights, bias + shift * weights.sum(axis=1, dtype=np.int32))
    return made


_PREPARE: dict[Op, Callable[[NumbaSession, Step], Any]] = {Op.CONV: _prepare_conv, Op.DEPTHWISE: _prepare_depthwise}


# --- running ------------------------------------------------------------------------------------------------------------------


def _conv(session: NumbaSession, step: Step) -> None:
    x, y = session.tensor(step.inputs[0]), session.tensor(step.outputs[0])
    g, pixels = _geometry(session, step), _pixels(session, step)
    quantised = x.dtype is DType.S8
    products = session.prepared(step)
    channels, outputs = x.dims[3] // len(products), y.dims[3] // len(products)
    store = _stored_s8(session, step) if quantised else _stored_f32(session, step)
    taps = g.kernel_h * g.kernel_w
    k = -(-taps * channels // 4) * 4
    source, fill = _seen_bytes(session, step, products[0].signed) if quantised else (session._flat(step.inputs[0]), np.float32(0))

    def block(first: int, rows: int) -> None:
        seen = np.zeros((rows, k if quantised else taps * channels), source.dtype)
        for group, prepared in enumerate(products):
            gather(source, g, first, rows, group * channels, channels, fill, seen)
            if quantised:
                acc = np.empty((rows, prepared.columns), np.int32)
                prepared(seen[:, : prepared.k], rows, acc)
            else:
                acc = np.empty((rows, outputs), np.float32)
                weights, bias = prepared
                product_f32(seen, rows, weights, bias, acc)
            store(acc, outputs, first, rows, group * outputs)

    session.share(pixels, taps * channels * source.itemsize + outputs * 4, block)
    if not quantised:
        reference.finish_f32_in_place(session, step)


def _depthwise(session: NumbaSession, step: Step) -> None:
    x = session.tensor(step.inputs[0])
    g, pixels, channels = _geometry(session, step), _pixels(session, step), x.dims[3]
    prepared = session.prepared(step)
    if x.dtype is DType.S8:
        store, (source, fill) = _stored_s8(session, step), _seen_bytes(session, step, prepared.signed)

        def block(first: int, rows: int) -> None:
            acc = np.empty((rows, prepared.columns), np.int32)
            prepared(source, g, first, rows, fill, acc)
            store(acc, channels, first, rows, 0)
    else:
        store, source = _stored_f32(session, step), session._flat(step.inputs[0])
        weights, bias = prepared

        def block(first: int, rows: int) -> None:
            acc = np.empty((rows, channels), np.float32)
            depthwise_f32(source, g, first, rows, weights, bias, acc)
            store(acc, channels, first, rows, 0)

    session.share(pixels, channels * 4, block)
    if x.dtype is not DType.S8:
        reference.finish_f32_in_place(session, step)


def _pool(session: NumbaSession, step: Step) -> None:
    x, y, p = session.tensor(step.inputs[0]), session.tensor(step.outputs[0]), step.params
    if x.dtype is not DType.S8 or y.row_stride != y.dims[3]:
        ReferenceSession._execute(session, step)
        return
    g = _geometry(session, step, out_h=y.dims[1], out_w=y.dims[2])
    pixels, channels, sign = y.dims[0] * y.dims[1] * y.dims[2], y.dims[3], session._sign(x)
    source, memory = session._flat(step.inputs[0]), session._flat(step.outputs[0])
    if session._sign(y) != sign:
        source, sign = source ^ np.uint8(0x80), session._sign(y)
    if p["kind"] == Pool.MAX:
        max_pool(source, g, channels, 0, pixels, sign, int(p["lo"]), int(p["hi"]), memory, channels)
        return
    sums, counts = np.empty((pixels, channels), np.int32), np.empty(pixels, np.int32)
    sum_pool(source, g, channels, 0, pixels, sign, x.zero_point, sums, counts)
    count = float(p["kernel_h"] * p["kernel_w"]) if p["count_include_pad"] else counts[:, None]
    with np.errstate(all="ignore"):  # a window that sees nothing is 0/0: lo, as everywhere
        steps = ref.average_steps(sums, count, p["scale"])
    session.store(step.outputs[0], ref.to_int8(steps, p["lo"], p["hi"], y.zero_point))


def _codes(session: NumbaSession, step: Step) -> None:
    x, n = session.tensor(step.inputs[0]), session.tensor(step.outputs[0]).dims[-1]
    weights, form = session.unpacked(step), codes.form_of(step.params)
    q, row_scale = ref.quantize_rows(session.load(step.inputs[0]).reshape(-1, x.dims[-1]))
    total = np.empty((len(q), n), np.float32)

    def block(first: int, rows: int) -> None:
        part = slice(first, first + rows)
        block_product(q[part], weights.values, weights.scales, form.block, total[part])

    session.share(len(q), x.dims[-1], block)
    mult, addend = (session._flat(t)[:n] for t in step.inputs[2:4])
    session.store(step.outputs[0], ref.scale_accumulator(total, row_scale, mult, addend))


_RUN: dict[Op, Callable[[NumbaSession, Step], None]] = {
    Op.CONV: _conv,
    Op.DEPTHWISE: _depthwise,
    Op.POOL: _pool,
    Op.CODES: _codes,
}


def _geometry(session: NumbaSession, step: Step, **grid: int) -> Geometry:
    p, x = step.params, session.tensor(step.inputs[0])
    own = {name: int(p[name]) for name in Geometry._fields if name in p} | grid
    return Geometry(in_h=x.dims[1], in_w=x.dims[2], x_pixel=x.row_stride, **own)


def _pixels(session: NumbaSession, step: Step) -> int:
    return int(session.tensor(step.inputs[0]).dims[0] * step.params["out_h"] * step.params["out_w"])


def _seen_bytes(session: NumbaSession, step: Step, signed: bool) -> tuple[Array, np.uint8]:
    """The input's bytes in the product's domain, readable past their end, and the byte that padding reads as."""
    x = session.tensor(step.inputs[0])
    flat = session._flat(step.inputs[0])
    stored_signed = session._sign(x) == 0
    fill = np.uint8((x.zero_point & 255) ^ (0 if signed else 0x80))
    if stored_signed == signed and x.place is Place.ARENA:
        return session._arena[x.offset :], fill
    copied = np.zeros(flat.size + OVERREAD, np.uint8)
    np.bitwise_xor(flat, np.uint8(0 if stored_signed == signed else 0x80), out=copied[: flat.size])
    return copied, fill


def _target(session: NumbaSession, index: int, step: Step | None) -> Target:
    """Of the step's output; of its residual, which has the grid's own shape, without a step."""
    t = session.tensor(index)
    places = ("out_offset_h", "out_offset_w", "out_step_h", "out_step_w")
    return Target(t.dims[1], t.dims[2], t.row_stride, *((int(step.params[name]) for name in places) if step else (0, 0, 1, 1)))


def _stored_s8(session: NumbaSession, step: Step) -> Callable[[Array, int, int, int, int], None]:
    """``store(acc, outputs, first, rows, column)``: requantise, table, residual add."""
    p, y = step.params, session.tensor(step.outputs[0])
    sign, grid = session._sign(y), (int(p["out_h"]), int(p["out_w"]))
    mult = np.ascontiguousarray(reference.conv_multipliers(session, step))
    residual, table = reference._optional(step, 4), reference._optional(step, 5)
    mid = Clamp(int(p["lo"]), int(p["hi"]), int(p["zero_point_mid"]), sign)
    last = Clamp(int(p["add_lo"]), int(p["add_hi"]), y.zero_point, sign)
    memory, to = session._flat(step.outputs[0]), _target(session, step.outputs[0], step)
    bytes_of_table = np.ascontiguousarray(session._flat(table)) if table >= 0 else NO_TABLE
    if residual >= 0:
        r = session.tensor(residual)
        flip = np.uint8(session._sign(r) ^ sign)
        other, source = session._flat(residual) ^ flip, _target(session, residual, None)
        s = Sum(int(p["zero_point_mid_out"]), r.zero_point, np.float32(p["scale_a"]), np.float32(p["scale_b"]))

    def store(acc: Array, outputs: int, first: int, rows: int, column: int) -> None:
        scale = mult[column : column + outputs]
        finish(acc, outputs, scale, mid, bytes_of_table, grid, first, rows, memory, to, column)
        if residual >= 0:
            add_residual(memory, to, other, source, grid, first, rows, column, outputs, s, last)

    return store


def _stored_f32(session: NumbaSession, step: Step) -> Callable[[Array, int, int, int, int], None]:
    p = step.params
    grid, memory, to = (int(p["out_h"]), int(p["out_w"])), session._flat(step.outputs[0]), _target(session, step.outputs[0], step)
    lo, hi = np.float32(p["float_lo"]), np.float32(p["float_hi"])

    def store(acc: Array, outputs: int, first: int, rows: int, column: int) -> None:
        finish_f32(acc, outputs, lo, hi, grid, first, rows, memory, to, column)

    return store
