"""A program interpreted in NumPy, step by step, over a real arena of bytes: the oracle of every C path.

It reads the packed weights of the file (so packing is checked too) and honours arena offsets, views and the activation sign
(so the memory plan is checked too). Slow: seconds for a mobile network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgezip.dynamic import sizes_of
from edgezip.errors import ProgramError, ShapeError
from edgezip.kernels import codes, sparse_blocks
from edgezip.kernels import reference as ref
from edgezip.program import (
    MAX_RANK,
    PARAMS,
    PLAIN,
    Binary,
    Convert,
    DType,
    Layout,
    Norm,
    Op,
    Place,
    Pool,
    Program,
    Reduce,
    State,
    Step,
    Tensor,
    Unary,
)
from edgezip.runtime import reference_recurrent, reference_selection
from edgezip.runtime.bounds import check_tensors
from edgezip.runtime.carried import CarriedState, StateInfo
from edgezip.runtime.feeds import array_of, shapes_of

Array = np.ndarray[Any, Any]


class ReferenceSession:
    """Runs ``program`` in NumPy; same answers, bit for bit, as every C session."""

    def __init__(self, program: Program) -> None:
        self._source = program
        self._axes = program.axes()
        self.sizes = tuple(known.symbol.high for known in self._axes)
        self._take(program.at(self.sizes))
        self._arena = np.zeros(program.arena_bytes, np.uint8)
        self._weights = np.frombuffer(program.weights, np.uint8)
        self._inputs: list[Array] = []
        self._outputs: list[Array] = []
        self._states: list[Array] = []
        self.reset()

    def _take(self, program: Program) -> None:
        """Makes a program of static shapes the one that runs."""
        check_tensors(program)
        self.program = program
        self._steps = [replace(step, params={**_zeros(step.op), **step.params}) for step in program.steps]

    def resize(self, sizes: Sequence[int]) -> None:
        """The sizes of the dynamic dimensions from now on; raises UsageError. ``run`` does it by itself from what it is fed."""
        if tuple(sizes) != self.sizes:
            self._take(self._source.at(sizes))
            self.sizes = tuple(sizes)

    @property
    def state(self) -> CarriedState:
        """What goes into the next run, by the name of its graph input: arrays to get and to set."""
        tensors = {self.tensor(state.input).name: self.tensor(state.input) for state in self.program.states}
        infos = [StateInfo(name, t.dtype.numpy, t.dims) for name, t in tensors.items()]
        return CarriedState(infos, lambda k: self._states[k].copy(), self._states.__setitem__)

    def reset(self) -> None:
        """All states back to their initial values."""
        self._states = [self._initial(state) for state in self.program.states]

    def _initial(self, state: State) -> Array:
        held = self.tensor(state.input)
        zero = held.zero_point if held.dtype is DType.S8 else 0
        return np.full(held.dims, zero, held.dtype.numpy) if state.initial < 0 else self.load(state.initial)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Feeds and results by name, in declared dtype and shape; raises ShapeError when a feed does not fit."""
        for _ in self.steps(feeds):
            pass
        tensors = self.program.tensors
        return {tensors[i].name: self._outputs[k].copy() for k, i in enumerate(self.program.outputs)}

    def steps(self, feeds: Mapping[str, Array]) -> Iterator[tuple[int, str, dict[int, Array]]]:
        """Run one step after another; yields (index, name, {output tensor: its stored bytes, contiguous}).

        Exhausted, it has advanced the states as ``run`` does.
        """
        self._bind(feeds)
        for index, step in enumerate(self._steps):
            self._execute(step)
            yield index, step.name, {t: np.ascontiguousarray(self._view(t)) for t in step.outputs if t >= 0}
        self._states = self._outputs[len(self.program.outputs) :]

    @np.errstate(all="ignore")  # as in C: infinities and NaN of odd numbers are results, no warnings
    def _execute(self, step: Step) -> None:
        _RUN[step.op](self, step)

    def _bind(self, feeds: Mapping[str, Array]) -> None:
        if self._axes:
            self.resize(sizes_of(self._axes, shapes_of(feeds)))
        tensors = self.program.tensors
        self._inputs = []
        for index in self.program.inputs:
            tensor = tensors[index]
            array = array_of(feeds, tensor.name)
            if array.shape != tensor.dims or array.dtype != tensor.dtype.numpy:
                raise ShapeError(
                    "input does not fit",
                    where=tensor.name,
                    expected=f"{tensor.dtype.numpy} {tensor.dims}",
                    got=f"{array.dtype} {array.shape}",
                )
            self._inputs.append(np.ascontiguousarray(array))
        self._inputs += self._states
        self._outputs = [np.zeros(tensors[i].dims, tensors[i].dtype.numpy) for i in self.program.graph_outputs]

    # --- memory -----------------------------------------------------------------------------------------------------

    def _view(self, index: int) -> Array:
        """The stored elements of a tensor as a strided view of its memory (S8 as uint8)."""
        tensor = self.program.tensors[index]
        if tensor.place in (Place.INPUT, Place.OUTPUT):
            held = (self._inputs if tensor.place is Place.INPUT else self._outputs)[tensor.offset].reshape(-1)
            return _strided(held.view(np.uint8) if tensor.dtype is DType.S8 else held, tensor)
        memory = self._arena if tensor.place is Place.ARENA else self._weights
        dtype = np.dtype(np.uint8) if tensor.dtype is DType.S8 else tensor.dtype.numpy
        return _strided(memory[tensor.offset : tensor.offset + tensor.bytes].view(dtype), tensor)

    def _flat(self, index: int) -> Array:
        """A tensor's memory from its first element to its last, as one row."""
        tensor = self.program.tensors[index]
        view = self._view(index)
        return np.lib.stride_tricks.as_strided(
            view.reshape(-1) if view.flags.c_contiguous else view, (tensor.bytes // view.itemsize,), (view.itemsize,)
        )

    def _sign(self, tensor: Tensor) -> int:
        """The XOR between logical and stored byte; graph inputs and outputs are logical."""
        return self.program.act_sign if tensor.dtype is DType.S8 and tensor.place in (Place.ARENA, Place.WEIGHTS) else 0

    def load(self, index: int) -> Array:
        """A copy of a tensor with logical values."""
        tensor = self.program.tensors[index]
        view = self._view(index)
        return (view ^ np.uint8(self._sign(tensor))).view(np.int8) if tensor.dtype is DType.S8 else view.copy()

    def store(self, index: int, values: Array) -> None:
        """Write logical values into a tensor."""
        tensor = self.program.tensors[index]
        if tensor.dtype is DType.S8:
            values = np.ascontiguousarray(values.astype(np.int8, copy=False)).view(np.uint8) ^ np.uint8(self._sign(tensor))
        self._view(index)[...] = values.reshape(tensor.dims)

    def tensor(self, index: int) -> Tensor:
        """The record of tensor ``index``."""
        return self.program.tensors[index]

    @property
    def pack_step(self) -> int:
        """Consecutive k of the weight layout."""
        return 4 if self.program.layout is Layout.K4N16 else 8


def _strided(flat: Array, tensor: Tensor) -> Array:
    strides: list[int] = [flat.itemsize]
    step = tensor.row_stride * flat.itemsize
    for dim in reversed(tensor.dims[1:-1] if len(tensor.dims) > 1 else ()):
        strides.append(step)
        step *= dim
    if len(tensor.dims) > 1:
        strides.append(step)
    return np.lib.stride_tricks.as_strided(
        flat, tensor.dims, tuple(reversed(strides))[-len(tensor.dims) :] if tensor.dims else ()
    )


def _zeros(op: Op) -> dict[str, Any]:
    """What an absent parameter is in the file."""
    fields: Mapping[str, Any] = PARAMS[op].fields or {}
    return {name: (0,) * MAX_RANK if kind.shape else 0 for name, (kind, *_) in fields.items()}


def _optional(step: Step, position: int) -> int:
    return step.inputs[position] if position < len(step.inputs) else -1


# --- convolutions ---------------------------------------------------------------------------------------------------------


def _seen(session: ReferenceSession, step: Step, stored: bool) -> Array:
    p = step.params
    tensor = session.tensor(step.inputs[0])
    x = session.load(step.inputs[0])
    fill: float = 0.0
    if stored:
        bias = 128 if session.program.act_sign else 0
        x = x.astype(np.int32) + bias
        fill = tensor.zero_point + bias
    grid, kernel, stride, dilation = ((p[f"{name}_h"], p[f"{name}_w"]) for name in ("out", "kernel", "stride", "dilation"))
    return ref.patches(x, grid, kernel, stride, dilation, (p["pad_top"], p["pad_left"]), fill)


def _grid(session: ReferenceSession, step: Step) -> tuple[Array, ...]:
    """Index of the step's pixels in its output."""
    p = step.params
    rows = p["out_offset_h"] + np.arange(p["out_h"]) * p["out_step_h"]
    columns = p["out_offset_w"] + np.arange(p["out_w"]) * p["out_step_w"]
    return np.ix_(range(session.tensor(step.outputs[0]).dims[0]), rows, columns)


def _scatter(session: ReferenceSession, step: Step, values: Array) -> None:
    full = session.load(step.outputs[0])
    full[_grid(session, step)] = values
    session.store(step.outputs[0], full)


def _group_outputs(session: ReferenceSession, step: Step) -> tuple[int, int, int]:
    groups = step.params["groups"]
    outputs = session.tensor(step.outputs[0]).dims[3] // groups
    return groups, outputs, -(-outputs // 16) * 16


def packed_weights(session: ReferenceSession, step: Step) -> Array:
    """The weights of a CONV or LINEAR step as panels. Raises ProgramError where their blocks are not sound."""
    blocks = blocks_of(session, step)
    return session._flat(step.inputs[1]) if blocks is None else blocks.panels()


def blocks_of(session: ReferenceSession, step: Step) -> sparse_blocks.Blocks | None:
    """The weights of a CONV or LINEAR step where they are blocks. Raises ProgramError where those are not sound."""
    if session.tensor(step.inputs[1]).form == PLAIN:
        return None
    try:
        return sparse_blocks.read(np.ascontiguousarray(session._flat(step.inputs[1])), 16 * session.pack_step)
    except ValueError as error:
        raise ProgramError(str(error), where=f"step {step.name}", hint="compile the model again") from error


def conv_weights(session: ReferenceSession, step: Step) -> list[Array]:
    """The unpacked weights of a CONV step, one array a group: int8 or float32 (outputs, taps, channels)."""
    x, p = session.tensor(step.inputs[0]), step.params
    groups, outputs, _ = _group_outputs(session, step)
    shape = outputs, p["kernel_h"] * p["kernel_w"], x.dims[3] // groups
    packed = packed_weights(session, step).reshape(groups, -1)
    if x.dtype is DType.S8:
        spans = ref.spans((p["kernel_h"], p["kernel_w"]), p["dilation_w"], groups, shape[2])
        parts = [ref.unpack_gemm_s8(np.ascontiguousarray(part), session.pack_step, outputs, *spans) for part in packed]
        return [part.reshape(shape) for part in parts]
    return [ref.unpack_gemm_f32(part.view(np.float32), *shape) for part in packed]


def depthwise_weights(session: ReferenceSession, step: Step) -> Array:
    """The unpacked weights of a DEPTHWISE step: int8 or float32 (channels, taps)."""
    x, p = session.tensor(step.inputs[0]), step.params
    taps, channels = p["kernel_h"] * p["kernel_w"], x.dims[3]
    packed = np.ascontiguousarray(session._flat(step.inputs[1]))
    if x.dtype is DType.S8:
        return ref.unpack_depthwise_s8(packed, session.pack_step, (p["kernel_h"], p["kernel_w"]), channels)
    return packed.view(np.float32).reshape(-1, taps, 16).transpose(0, 2, 1).reshape(-1, taps)[:channels]


def conv_bias(session: ReferenceSession, step: Step) -> Array:
    """The folded bias of a CONV step: (groups, outputs), int32 or float32."""
    groups, outputs, padded = _group_outputs(session, step)
    return session._flat(step.inputs[2]).reshape(groups, padded)[:, :outputs]


def conv_multipliers(session: ReferenceSession, step: Step) -> Array:
    """The float32 multiplier of each output channel of a quantised CONV or DEPTHWISE step."""
    groups, outputs, padded = (
        _group_outputs(session, step) if step.op is Op.CONV else (1, session.tensor(step.inputs[0]).dims[3], -1)
    )
    return session._flat(step.inputs[3]).reshape(groups, padded)[:, :outputs].reshape(-1)


def _conv(session: ReferenceSession, step: Step) -> None:
    quantised = session.tensor(step.inputs[0]).dtype is DType.S8
    seen, weights, bias = _seen(session, step, quantised), conv_weights(session, step), conv_bias(session, step)
    accumulate = ref.accumulate_s8 if quantised else ref.accumulate_f32
    parts = np.split(seen, len(weights), axis=-1)
    _finish(session, step, np.concatenate([accumulate(*part) for part in zip(parts, weights, bias, strict=True)], axis=-1))


def _depthwise(session: ReferenceSession, step: Step) -> None:
    quantised = session.tensor(step.inputs[0]).dtype is DType.S8
    seen, weights = _seen(session, step, quantised), depthwise_weights(session, step)
    accumulate = ref.accumulate_depthwise_s8 if quantised else ref.accumulate_depthwise_f32
    _finish(session, step, accumulate(seen, weights, session._flat(step.inputs[2])[: len(weights)]))


def _finish(session: ReferenceSession, step: Step, acc: Array) -> None:
    """Requantise, then the table, then the residual add (the order of ez_conv_params)."""
    p = step.params
    if session.tensor(step.inputs[0]).dtype is not DType.S8:
        _scatter(session, step, finished_f32(session, step, ref.clamp(acc, p["float_lo"], p["float_hi"])))
        return
    values = ref.requantize_accumulator(acc, conv_multipliers(session, step), p["lo"], p["hi"], p["zero_point_mid"])
    residual, table = _optional(step, 4), _optional(step, 5)
    if table >= 0:
        values = _look_up(session, table, values)
    if residual >= 0:
        y, r = session.tensor(step.outputs[0]), session.tensor(residual)
        other = session.load(residual)[:, : values.shape[1], : values.shape[2]]
        values = ref.add_s8(
            values,
            other,
            p["zero_point_mid_out"],
            r.zero_point,
            p["scale_a"],
            p["scale_b"],
            p["add_lo"],
            p["add_hi"],
            y.zero_point,
        )
    _scatter(session, step, values)


def finish_f32_in_place(session: ReferenceSession, step: Step) -> None:
    """What follows the clamp, for results that are already in the output."""
    if step.params["act"] or step.params["affine"] or _optional(step, 4) >= 0:
        values = session.load(step.outputs[0])[_grid(session, step)]
        _scatter(session, step, finished_f32(session, step, values))


def finished_f32(session: ReferenceSession, step: Step, values: Array) -> Array:
    """Clamped sums through activation, factor and shift, and the residual add."""
    p, residual = step.params, _optional(step, 4)
    if p["act"]:
        values = ref.unary_f32(Unary(p["act"]).name, values, p["act_alpha"], p["act_beta"])
    if p["affine"]:
        values = values * np.float32(p["factor"]) + np.float32(p["shift"])
    if residual >= 0:
        other = session.load(residual)[:, : values.shape[1], : values.shape[2]]
        values = ref.clamp(values + other, p["sum_lo"], p["sum_hi"])
    return values


def _look_up(session: ReferenceSession, table: int, values: Array) -> Array:
    sign = np.uint8(session.program.act_sign)
    stored = session._flat(table)[values.view(np.uint8) ^ sign]
    return np.asarray((stored ^ sign).view(np.int8))


# --- elementwise ------------------------------------------------------------------------------------------------------------


def _gather_strided(flat: Array, dims: Any, strides: Any, rank: int, offset: int = 0) -> Array:
    index = np.full(tuple(dims[:rank]), offset, np.int64)
    for axis in range(rank):
        shape = [1] * rank
        shape[axis] = dims[axis]
        index = index + (np.arange(dims[axis]) * strides[axis]).reshape(shape)
    return index if flat.size == 0 else np.asarray(flat[index])


def _logical_flat(session: ReferenceSession, index: int) -> Array:
    tensor = session.tensor(index)
    flat = session._flat(index)
    return (flat ^ np.uint8(session._sign(tensor))).view(np.int8) if tensor.dtype is DType.S8 else flat


def _scatter_strided(
    session: ReferenceSession, index: int, values: Array, dims: Any, strides: Any, rank: int, offset: int = 0
) -> None:
    tensor = session.tensor(index)
    where = _gather_strided(np.empty(0), dims, strides, rank, offset)
    if tensor.dtype is DType.S8:
        values = values.astype(np.int8).view(np.uint8) ^ np.uint8(session._sign(tensor))
    flat = session._flat(index)
    flat[where] = values


def _binary(session: ReferenceSession, step: Step) -> None:
    p = step.params
    kind = Binary(p["kind"]).name
    a, b = (session.tensor(i) for i in step.inputs)
    y = session.tensor(step.outputs[0])
    x0 = _gather_strided(_logical_flat(session, step.inputs[0]), p["dims"], p["stride_a"], p["rank"])
    x1 = _gather_strided(_logical_flat(session, step.inputs[1]), p["dims"], p["stride_b"], p["rank"])
    if a.dtype is DType.S8:
        steps = ref.binary_steps(kind, ref.centred(x0, a.zero_point), ref.centred(x1, b.zero_point), p["scale_a"], p["scale_b"])
        values = steps if y.dtype is DType.BOOL else ref.to_int8(steps, p["lo"], p["hi"], y.zero_point)
    else:
        values = ref.binary_f32(kind, x0, x1)
        if y.dtype is DType.F32:
            values = ref.clamp(values, p["float_lo"], p["float_hi"])
    _scatter_strided(session, step.outputs[0], values, p["dims"], p["stride_y"], p["rank"])


def _unary(session: ReferenceSession, step: Step) -> None:
    p = step.params
    session.store(step.outputs[0], ref.unary_f32(Unary(p["kind"]).name, session.load(step.inputs[0]), p["alpha"], p["beta"]))


def _table(session: ReferenceSession, step: Step) -> None:
    session.store(step.outputs[0], _look_up(session, step.inputs[1], session.load(step.inputs[0])))


def _prelu(session: ReferenceSession, step: Step) -> None:
    p = step.params
    x, slope = session.load(step.inputs[0]), session._view(step.inputs[1])
    if x.dtype == np.int8:
        zx, zy = session.tensor(step.inputs[0]).zero_point, session.tensor(step.outputs[0]).zero_point
        session.store(step.outputs[0], ref.prelu_s8(x, slope.reshape(2, -1), zx, zy, p["lo"], p["hi"]))
    else:
        session.store(step.outputs[0], np.where(x < 0, x * slope.reshape(-1), x))


def _where(session: ReferenceSession, step: Step) -> None:
    p = step.params
    condition, a, b = (
        _gather_strided(_logical_flat(session, i), p["dims"], p[f"stride_{s}"], p["rank"])
        for i, s in zip(step.inputs, "cab", strict=True)
    )
    _scatter_strided(session, step.outputs[0], np.where(condition, a, b), p["dims"], p["stride_y"], p["rank"])


# --- pooling, sums, resize ----------------------------------------------------------------------------------------------------


def _pool(session: ReferenceSession, step: Step) -> None:
    p = step.params
    tensor, y = session.tensor(step.inputs[0]), session.tensor(step.outputs[0])
    x = session.load(step.inputs[0])
    quantised = tensor.dtype is DType.S8
    geometry = (
        (y.dims[1], y.dims[2]), (p["kernel_h"], p["kernel_w"]), (p["stride_h"], p["stride_w"]),
        (p["dilation_h"], p["dilation_w"]), (p["pad_top"], p["pad_left"]),
    )  # fmt: skip
    if p["kind"] == Pool.MAX:
        seen = ref.patches(x, *geometry, -128 if quantised else -np.inf)
        values = seen.max(axis=3)
        session.store(step.outputs[0], np.clip(values, p["lo"], p["hi"]) if quantised else values)
        return
    inside = ref.patches(np.ones_like(x, np.int32), *geometry, 0)
    count: Array | float = float(p["kernel_h"] * p["kernel_w"])
    if not p["count_include_pad"]:
        count = inside.sum(axis=3)
    if quantised:
        total = ref.patches(x.astype(np.int32) - tensor.zero_point, *geometry, 0).sum(axis=3)
        session.store(step.outputs[0], ref.to_int8(ref.average_steps(total, count, p["scale"]), p["lo"], p["hi"], y.zero_point))
    else:
        total = ref.sum_ascending(ref.patches(x, *geometry, 0.0), 3)
        with np.errstate(invalid="ignore"):  # a window of nothing but padding: 0 / 0 is NaN, as in C
            session.store(step.outputs[0], total / np.asarray(count, np.float32))


def _reduce(session: ReferenceSession, step: Step) -> None:
    p = step.params
    tensor, y = session.tensor(step.inputs[0]), session.tensor(step.outputs[0])
    x = session.load(step.inputs[0]).reshape(p["outer"], p["n"], p["inner"])
    kind = Reduce(p["kind"])
    if kind in (Reduce.MAX, Reduce.MIN):
        session.store(step.outputs[0], x.max(axis=1) if kind is Reduce.MAX else x.min(axis=1))
    elif tensor.dtype is DType.S8:
        total = (x.astype(np.int32) - tensor.zero_point).sum(axis=1)
        count = p["n"] if kind is Reduce.MEAN else 1
        session.store(step.outputs[0], ref.to_int8(ref.average_steps(total, count, p["scale"]), p["lo"], p["hi"], y.zero_point))
    else:
        total = ref.sum_in_tree(x[:, :, 0]) if p["inner"] == 1 else ref.sum_ascending(x, 1)
        session.store(step.outputs[0], total / np.float32(p["n"]) if kind is Reduce.MEAN else total)


def _softmax(session: ReferenceSession, step: Step) -> None:
    x = session.load(step.inputs[0])
    if x.dtype == np.int8:
        table, y = session._flat(step.inputs[1]), session.tensor(step.outputs[0])
        session.store(step.outputs[0], ref.softmax_s8(x, table, step.params["scale"], y.zero_point))
    else:
        session.store(step.outputs[0], ref.softmax_f32(x))


def _norm(session: ReferenceSession, step: Step) -> None:
    p = step.params

    def operand(position: int) -> Array | None:
        index = _optional(step, position)
        if index < 0:
            return None
        tensor, x = session.tensor(index), session.load(index)
        return ref.dequantize(x, tensor.scale, tensor.zero_point) if tensor.dtype is DType.S8 else x

    x, more, scale, bias = operand(0), operand(3), operand(1), operand(2)
    assert x is not None
    assert scale is not None
    total = x if more is None else x.reshape(-1, x.shape[-1]) + more.reshape(-1, x.shape[-1])
    y = ref.normalize(total, scale.reshape(-1), None if bias is None else bias.reshape(-1), p["epsilon"], p["kind"] == Norm.LAYER)
    results = [made for bit, made in ((1, y), (2, y), (4, total)) if p["results"] & bit]
    for index, made in zip(step.outputs, results, strict=True):
        tensor = session.tensor(index)
        session.store(index, ref.quantize(made, tensor.scale, tensor.zero_point) if tensor.dtype is DType.S8 else made)


def _linear(session: ReferenceSession, step: Step) -> None:
    x, y = session.tensor(step.inputs[0]), session.tensor(step.outputs[0])
    k, n = x.dims[-1], y.dims[-1]
    weights = ref.unpack_gemm_s8(packed_weights(session, step), session.pack_step, n, 1, k)
    bias, mult, addend = (session._flat(t)[:n] for t in step.inputs[2:5])
    rows, scale = session.load(step.inputs[0]).reshape(-1, k), np.ones(1, np.float32)
    if x.dtype is DType.F32:
        rows, scale = ref.quantize_rows(rows)
    stored = rows.astype(np.int32) + (128 if session.program.act_sign else 0)
    acc = ref.accumulate_s8(stored[:, None], weights, bias)
    session.store(step.outputs[0], ref.scale_accumulator(acc, scale, mult, addend))


def _codes(session: ReferenceSession, step: Step) -> None:
    x, n = session.tensor(step.inputs[0]), session.tensor(step.outputs[0]).dims[-1]
    packed, mult, addend = (session._flat(t) for t in step.inputs[1:4])
    form = codes.form_of(step.params)
    weights = codes.unpack(packed, form, n, x.dims[-1])
    rows = session.load(step.inputs[0]).reshape(-1, x.dims[-1])
    session.store(step.outputs[0], codes.product(rows, weights, form, mult[:n], addend[:n]))


def _attention(session: ReferenceSession, step: Step) -> None:
    p = step.params
    heads = (p["outer"], p["inner"])
    sizes = {"q": (p["M"], p["K"]), "k": (p["K"], p["N"]), "v": (p["N"], p["D"]), "mask": (p["M"], p["N"])}
    operands = [
        _gather_strided(_logical_flat(session, t), (*heads, *sizes[name]), p[f"stride_{name}"], 4)
        for name, t in zip(("q", "k", "v", "mask"), step.inputs, strict=False)
        if t >= 0
    ]
    q, k, v = (session.tensor(t) for t in step.inputs[:3])
    y = session.tensor(step.outputs[0])
    if q.dtype is DType.F32:
        scores = ref.matmul_f32(operands[0], operands[1]) + np.float32(0)
    else:
        acc = ref.matmul_s8(operands[0], operands[1], q.zero_point, k.zero_point)
        scores = acc.astype(np.float32) * np.float32(p["scale_scores"]) + np.float32(0)
    with np.errstate(all="ignore"):
        scores = scores / np.float32(p["factor"]) if p["divides"] else scores * np.float32(p["factor"])
        shares = ref.softmax_f32(scores + operands[3] if len(operands) > 3 else scores)
    if v.dtype is DType.F32:
        values = ref.matmul_f32(shares, operands[2]) + np.float32(0)
    else:
        held = ref.quantize(shares, p["scale_p"], p["zero_p"])
        acc, scale = ref.matmul_s8(held, operands[2], p["zero_p"], v.zero_point), np.array(p["scale"], np.float32)
        if y.dtype is DType.F32:
            values = acc.astype(np.float32) * scale + np.float32(0)
        else:
            values = ref.requantize_accumulator(acc, scale, p["lo"], p["hi"], y.zero_point)
    _scatter_strided(session, step.outputs[0], values, (*heads, p["M"], p["D"]), p["stride_y"], 4)


def _resize(session: ReferenceSession, step: Step) -> None:
    tensor, y = session.tensor(step.inputs[0]), session.tensor(step.outputs[0])
    x = session.load(step.inputs[0])
    rows, row_weight, columns, column_weight = (session._view(i) for i in step.inputs[1:5])
    quantised = tensor.dtype is DType.S8
    values = ref.interpolate(ref.centred(x, tensor.zero_point) if quantised else x, rows, row_weight, columns, column_weight)
    if quantised:
        p = step.params
        values = ref.to_int8(values * np.float32(p["scale"]), p["lo"], p["hi"], y.zero_point)
    session.store(step.outputs[0], values)


# --- moving data ------------------------------------------------------------------------------------------------------------


def _copy(session: ReferenceSession, step: Step) -> None:
    p = step.params
    source, y = session.tensor(step.inputs[0]), session.tensor(step.outputs[0])
    if p.get("fill"):
        session.store(
            step.outputs[0], np.full(y.dims, p["fill_float"] if y.dtype is DType.F32 else p["fill_value"], y.dtype.numpy)
        )
    x = _gather_strided(_logical_flat(session, step.inputs[0]), p["dims"], p["x_stride"], p["rank"], p["x_offset"])
    match Convert(p["convert"]):
        case Convert.QUANTIZE:
            x = ref.quantize(x, y.scale, y.zero_point, p["lo"], p["hi"])
        case Convert.DEQUANTIZE:
            x = ref.dequantize(x, source.scale, source.zero_point)
        case Convert.REQUANTIZE:
            x = ref.requantize(x, p["scale"], source.zero_point, y.zero_point, p["lo"], p["hi"])
        case Convert.CAST:
            x = ref.cast(x, y.dtype.numpy)
        case Convert.BITS:
            x = x.view(y.dtype.numpy)
        case Convert.NONE:
            pass
    _scatter_strided(session, step.outputs[0], x, p["dims"], p["y_stride"], p["rank"], p["y_offset"])


def _gather(session: ReferenceSession, step: Step) -> None:
    p = step.params
    x = session.load(step.inputs[0]).reshape(p["outer"], p["n"], p["inner"])
    index = session.load(step.inputs[1]).reshape(-1).astype(np.int64)
    index = np.clip(np.where(index < 0, index + p["n"], index), 0, p["n"] - 1)
    session.store(step.outputs[0], x[:, index])


def _matmul(session: ReferenceSession, step: Step) -> None:
    p = step.params
    ta, tb, y = session.tensor(step.inputs[0]), session.tensor(step.inputs[1]), session.tensor(step.outputs[0])
    batch, m, n, k = (p["outer"], p["inner"]), p["M"], p["N"], p["K"]
    a = _gather_strided(_logical_flat(session, step.inputs[0]), (*batch, m, k), p["stride_a"], 4)
    b = _gather_strided(_logical_flat(session, step.inputs[1]), (*batch, k, n), p["stride_b"], 4)
    if ta.dtype is DType.F32:
        values = ref.matmul_f32(a, b) + np.float32(0)
    else:
        acc, scale = ref.matmul_s8(a, b, ta.zero_point, tb.zero_point), np.array(p["scale"], np.float32)
        if y.dtype is DType.F32:
            values = acc.astype(np.float32) * scale + np.float32(0)
        else:
            values = ref.requantize_accumulator(acc, scale, p["lo"], p["hi"], y.zero_point)
    _scatter_strided(session, step.outputs[0], values, (*batch, m, n), p["stride_y"], 4)


_RUN: dict[Op, Callable[[ReferenceSession, Step], None]] = {
    Op.CONV: _conv, Op.DEPTHWISE: _depthwise, Op.BINARY: _binary, Op.UNARY: _unary, Op.TABLE: _table, Op.POOL: _pool,
    Op.REDUCE: _reduce, Op.SOFTMAX: _softmax, Op.RESIZE: _resize, Op.COPY: _copy, Op.GATHER: _gather, Op.PRELU: _prelu,
    Op.WHERE: _where, Op.MATMUL: _matmul, Op.NORM: _norm, Op.LINEAR: _linear, Op.CODES: _codes, Op.ATTENTION: _attention,
    Op.RECURRENT: reference_recurrent.run, **reference_selection.RUN,
}  # fmt: skip


def first_difference(
    program: Program, expected: Iterator[tuple[int, str, dict[int, Array]]], got: Iterator[tuple[int, str, dict[int, Array]]]
) -> str:
    """Where two runs of a program part: the first step and tensor with other bytes, or "" when they agree throughout."""
    for (index, name, wanted), (_, _, found) in zip(expected, got, strict=True):
        for tensor, data in wanted.items():
            other = np.asarray(found[tensor]).reshape(-1).view(np.uint8)
            mine = data.reshape(-1).view(np.uint8)
            if mine.size != other.size:
                raise ProgramError("sizes differ", where=name, expected=str(mine.size), got=str(other.size))
            wrong = np.flatnonzero(mine != other)
            if wrong.size:
                where = f"step {index} ({name}), tensor {program.tensors[tensor].name}"
                return f"{where}: {wrong.size} of {mine.size} bytes differ, first at {wrong[0]}"
    return ""
