"""vpdpbusd for Numba: loops over it, built through llvmlite, where this CPU has the instruction and a self-test passes.

LLVM never forms vpdpbusd from Python source, so the two inner loops that need it are written as LLVM IR. Numba's own code
surrounds them. ``lanes()`` says how many int32 sums one vector holds (16: AVX512-VNNI, 8: AVX-VNNI, 0: use plain loops).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic

BYTE, I32, ADDRESS = ir.IntType(8), ir.IntType(32), ir.IntType(64)
Values = list[ir.Value]


@cache
def lanes() -> int:
    """int32 lanes of the vpdpbusd that works here, 0 without one (or with Numba told to compile for another CPU)."""
    if os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES") or os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return 0
    has = binding.get_host_cpu_features() if _is_x86() else {}
    wide = all(has.get(name) for name in ("avx512f", "avx512bw", "avx512vl", "avx512vnni"))
    width = 16 if wide else 8 if has.get("avxvnni") and has.get("avx2") else 0
    return width if width and _self_test(width) else 0


def _is_x86() -> bool:
    return binding.get_default_triple().startswith(("x86_64", "i686"))


def _self_test(width: int) -> bool:
    """The products of a small tile against NumPy; False also when this LLVM declares the instruction otherwise."""
    rng = np.random.default_rng(0)
    k4, rows, vectors = 5, 2, 2
    a = rng.integers(0, 256, (rows, 4 * k4)).astype(np.uint8)
    w = rng.integers(-127, 128, (vectors, k4, width, 4)).astype(np.int8)
    bias = rng.integers(-1000, 1000, vectors * width).astype(np.int32)
    acc = np.zeros((rows, vectors * width), np.int32)
    try:
        product_tile(width, rows, vectors)(
            *(x.ctypes.data for x in (a, w, bias, acc)), 4 * k4, 4 * width * k4, k4, vectors * width
        )
    except Exception:  # a declaration that LLVM refuses arrives as whatever numba makes of it: then plain loops serve
        return False
    columns = w.transpose(0, 2, 1, 3).reshape(vectors * width, 4 * k4).astype(np.int32)
    return bool(np.array_equal(acc, a.astype(np.int32) @ columns.T + bias))


class _Builder:
    """What the two loops share: vector types, loads and stores at computed addresses, the counted loop."""

    def __init__(self, builder: ir.IRBuilder, width: int) -> None:
        self.b, self.width = builder, width
        self.sums, self.bytes = ir.VectorType(I32, width), ir.VectorType(BYTE, 4 * width)

    def load(self, base: ir.Value, offset: ir.Value | int, kind: ir.Type) -> ir.Value:
        where = self.b.inttoptr(self.b.add(base, _constant(offset)), kind.as_pointer())
        return self.b.load(where, align=1)

    def store(self, base: ir.Value, offset: ir.Value | int, value: ir.Value) -> None:
        where = self.b.inttoptr(self.b.add(base, _constant(offset)), value.type.as_pointer())
        self.b.store(value, where, align=1)

    def times(self, value: ir.Value, factor: int) -> ir.Value:
        return self.b.mul(value, ADDRESS(factor))

    def dot(self, sums: ir.Value, unsigned: ir.Value, signed: ir.Value) -> ir.Value:
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self.width}"
        module = self.b.module
        kind = ir.FunctionType(self.sums, [self.sums, self.bytes, self.bytes])
        known = module.globals.get(name)
        return self.b.call(known or ir.Function(module, kind, name), [sums, unsigned, signed])

    def loop(self, count: ir.Value, start: Values, body: Callable[[ir.Value, Values], Values]) -> Values:
        """``body(index, state) -> state``, ``count`` (at least one) times."""
        before = self.b.block
        inside, after = self.b.append_basic_block("loop"), self.b.append_basic_block("after")
        self.b.branch(inside)
        self.b.position_at_end(inside)
        index = self.b.phi(ADDRESS)
        state = [self.b.phi(value.type) for value in start]
        following = body(index, list(state))
        step = self.b.add(index, ADDRESS(1))
        for phi, first, again in zip([index, *state], [ADDRESS(0), *start], [step, *following], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(again, inside)
        self.b.cbranch(self.b.icmp_unsigned("<", step, count), inside, after)
        self.b.position_at_end(after)
        return following


def _constant(offset: ir.Value | int) -> ir.Value:
    return ADDRESS(offset) if isinstance(offset, int) else offset


@cache
def product_tile(width: int, rows: int, vectors: int) -> Any:
    """Compiled ``tile(a, w, bias, acc, a_step, w_step, k4, acc_step)``: acc[r][n] = bias[n] + sum over k of a[r][k] * w[n][k].

    a: address of u8 (rows, 4*k4), rows ``a_step`` bytes apart. w: s8 (vectors, k4, width, 4), vectors ``w_step`` bytes apart.
    bias: s32 (vectors*width). acc: s32, rows ``acc_step`` elements apart. ``k4`` >= 1. Nothing is read past these.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(_context: Any, a: Any, w: Any, bias: Any, acc: Any, a_step: Any, w_step: Any, k4: Any, acc_step: Any) -> Any:
        def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, args: Values) -> Any:
            a, w, bias, acc, a_step, w_step, k4, acc_step = args
            e = _Builder(builder, width)
            start = [e.load(bias, 4 * width * v, e.sums) for v in range(vectors)]
            row = [builder.add(a, builder.mul(a_step, ADDRESS(r))) for r in range(rows)]
            column = [builder.add(w, builder.mul(w_step, ADDRESS(v))) for v in range(vectors)]

            def body(index: ir.Value, state: Values) -> Values:
                panel = [e.load(column[v], e.times(index, 4 * width), e.bytes) for v in range(vectors)]
                sums = []
                for r in range(rows):
                    quad = builder.insert_element(
                        ir.Constant(e.sums, ir.Undefined), e.load(row[r], e.times(index, 4), I32), I32(0)
                    )
                    splat = builder.shuffle_vector(quad, quad, ir.Constant(e.sums, [0] * width))
                    spread = builder.bitcast(splat, e.bytes)
                    sums += [e.dot(state[r * vectors + v], spread, panel[v]) for v in range(vectors)]
                return sums

            for i, value in enumerate(e.loop(k4, start * rows, body)):
                r, v = divmod(i, vectors)
                e.store(builder.add(acc, builder.mul(acc_step, ADDRESS(4 * r))), 4 * width * v, value)
            return _target.get_dummy_value()

        return types.void(*[types.intp] * 8), codegen

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def call(a: int, w: int, bias: int, acc: int, a_step: int, w_step: int, k4: int, acc_step: int) -> None:
        tile(a, w, bias, acc, a_step, w_step, k4, acc_step)

    return call


@cache
def depthwise_tile(width: int) -> Any:
    """Compiled ``tile(taps, offset, w, bias, acc, groups)``: ``width`` channels of one pixel, ``offset`` bytes into each tap.

    taps: s64 (4*groups) addresses of u8. w: s8 (groups, width, 4). bias, acc: s32 (width). ``groups`` >= 1.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(_context: Any, taps: Any, offset: Any, w: Any, bias: Any, acc: Any, groups: Any) -> Any:
        def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, args: Values) -> Any:
            taps, offset, w, bias, acc, groups = args
            e = _Builder(builder, width)
            pixel = ir.VectorType(BYTE, width)

            def body(index: ir.Value, state: Values) -> Values:
                at = e.times(index, 32)
                seen = [e.load(e.load(taps, builder.add(at, ADDRESS(8 * i)), ADDRESS), offset, pixel) for i in range(4)]
                return [e.dot(state[0], _interleave(builder, seen, width), e.load(w, e.times(index, 4 * width), e.bytes))]

            e.store(acc, 0, e.loop(groups, [e.load(bias, 0, e.sums)], body)[0])
            return _target.get_dummy_value()

        return types.void(*[types.intp] * 6), codegen

    @njit(nogil=True)  # type: ignore[untyped-decorator]
    def call(taps: int, offset: int, w: int, bias: int, acc: int, groups: int) -> None:
        tile(taps, offset, w, bias, acc, groups)

    return call


def _interleave(builder: ir.IRBuilder, seen: Values, width: int) -> ir.Value:
    """Four vectors of bytes -> one: byte 4*c + i is byte c of ``seen[i]``."""

    def mask(indices: list[int]) -> ir.Constant:
        return ir.Constant(ir.VectorType(I32, len(indices)), indices)

    pair = mask(list(range(2 * width)))
    first, second = (builder.shuffle_vector(seen[i], seen[i + 1], pair) for i in (0, 2))
    return builder.shuffle_vector(first, second, mask([i * width + c for c in range(width) for i in range(4)]))
