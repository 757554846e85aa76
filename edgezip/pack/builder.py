"""The program while it is being built: tensors over buffers, steps, packed constants.

A tensor is a window on a buffer (offset, row stride); aliases of one buffer are free. Buffers get their arena offsets at the
end, when all steps are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.pack import plan_memory
from edgezip.pack.scratch import scratch_bytes
from edgezip.program import ALIGN, OVERREAD, PLAIN, DType, Layout, Op, Place, Program, State, Step, Tensor

if TYPE_CHECKING:
    from edgezip.target import BreakEven

Array = np.ndarray[Any, Any]
IN_PLACE = {Op.BINARY, Op.UNARY, Op.TABLE, Op.PRELU, Op.NORM}


@dataclass(slots=True)
class Ref:
    """A value of the graph as the program holds it.

    ``shape`` is the ONNX shape; ``order[i]`` is the ONNX axis that lies at memory axis i, so a transpose is a relabelling and
    channels-last is ``(0, 2, 3, 1)``. ``tensor`` is contiguous with dims ``shape[order[i]]``.
    """

    tensor: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    dtype: DType
    scale: float = 0.0
    zero_point: int = 0

    @property
    def dims(self) -> tuple[int, ...]:
        """Dims as they lie in memory."""
        return tuple(self.shape[axis] for axis in self.order)

    def strides(self) -> tuple[int, ...]:
        """Elements from one index to the next, for each ONNX axis."""
        strides = [0] * len(self.shape)
        step = 1
        for axis in reversed(self.order):
            strides[axis] = step
            step *= self.shape[axis]
        return tuple(strides)


def plain(rank: int) -> tuple[int, ...]:
    """The order of ONNX itself."""
    return tuple(range(rank))


def channels_last(rank: int) -> tuple[int, ...]:
    """(N, C, spatial...) with C innermost; ranks below 3 have no spatial axes and stay plain."""
    return (0, *range(2, rank), 1) if rank >= 3 else plain(rank)


@dataclass(slots=True)
class Builder:
    """Collects tensors, steps and constants of one program."""

    layout: Layout
    act_sign: int
    tensors: list[Tensor] = field(default_factory=list)
    buffer_of: list[int] = field(default_factory=list)  # buffer of each arena tensor, -1 for others
    buffer_bytes: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    forms: list[dict[str, Any]] = field(default_factory=list)  # one description a step
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    initial: list[int] = field(default_factory=list)  # of each state, whose ends are the last inputs and outputs; -1: zeros
    constant_bytes: dict[int, bytes] = field(default_factory=dict)  # by tensor
    sparse: Mapping[str, BreakEven] = field(default_factory=dict)  # by ISA
    any_size: bool = False  # one program for many sizes
    _constants: dict[tuple[str, tuple[int, ...], bytes, float, int, int], int] = field(default_factory=dict)

    # --- tensors ------------------------------------------------------------------------------------------------------

    def _add(self, tensor: Tensor, buffer: int) -> int:
        self.tensors.append(tensor)
        self.buffer_of.append(buffer)
        return len(self.tensors) - 1

    def arena(self, name: str, dtype: DType, dims: tuple[int, ...], scale: float = 0.0, zero_point: int = 0) -> int:
        """A new tensor on a buffer of its own."""
        tensor = Tensor(name, dtype, Place.ARENA, dims, 0, scale, zero_point)
        self.buffer_bytes.append(tensor.bytes)
        return self._add(tensor, len(self.buffer_bytes) - 1)

    def view(self, index: int, dims: tuple[int, ...]) -> int:
        """The same elements with other dims."""
        base = self.tensors[index]
        if base.dims == dims:
            return index
        made = self._add(replace(base, dims=dims, row_stride=dims[-1] if dims else 1), self.buffer_of[index])
        if index in self.constant_bytes:
            self.constant_bytes[made] = self.constant_bytes[index]  # stored once, see _weights
        return made

    def window(self, index: int, dims: tuple[int, ...], offset: int, row_stride: int, like: Tensor) -> int:
        """Part of a tensor's buffer: ``offset`` and ``row_stride`` in elements, qparams and name of ``like``."""
        base = self.tensors[index]
        start = base.offset + offset * base.dtype.numpy.itemsize
        return self._add(replace(like, dims=dims, offset=start, row_stride=row_stride, place=base.place), self.buffer_of[index])

    def constant(self, name: str, array: Array, dtype: DType, scale: float = 0.0, zero_point: int = 0, form: int = PLAIN) -> int:
        """A tensor of the weights section; equal constants are stored once. S8 is given logical and stored by the sign rule."""
        array = np.ascontiguousarray(array, dtype.numpy)
        raw = array.tobytes()
        if dtype is DType.S8:
            raw = (array.view(np.uint8) ^ np.uint8(self.act_sign)).tobytes()
        key = (dtype.name, array.shape, raw, scale, zero_point, form)
        if key not in self._constants:
            index = self._add(Tensor(name, dtype, Place.WEIGHTS, array.shape, 0, scale, zero_point, form=form), -1)
            self._constants[key], self.constant_bytes[index] = index, raw
        return self._constants[key]

    def graph_input(self, name: str, dtype: DType, dims: tuple[int, ...], scale: float = 0.0, zero_point: int = 0) -> int:
        """The next input of the program."""
        index = self._add(Tensor(name, dtype, Place.INPUT, dims, len(self.inputs), scale, zero_point), -1)
        self.inputs.append(index)
        return index

    def graph_output(self, name: str, dtype: DType, dims: tuple[int, ...], scale: float = 0.0, zero_point: int = 0) -> int:
        """The next output of the program."""
        index = self._add(Tensor(name, dtype, Place.OUTPUT, dims, len(self.outputs), scale, zero_point), -1)
        self.outputs.append(index)
        return index

    def step(
        self,
        name: str,
        op: Op,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        form: dict[str, Any] | None = None,
        **params: Any,
    ) -> None:
        """Append one step; ``form`` describes it in the metadata."""
        self.steps.append(Step(name, op, inputs, outputs, params))
        self.forms.append(dict(form or {}))

    # --- finishing ----------------------------------------------------------------------------------------------------

    def finish(self, metadata: dict[str, Any]) -> Program:
        """Drop what nobody reads, plan the arena, and hand over the program."""
        self.share_in_place()
        lives = self.lives()
        used = sorted(lives)
        plan = plan_memory.plan([plan_memory.Buffer(self.buffer_bytes[b], *lives[b]) for b in used])
        offset_of = dict(zip(used, plan.offsets, strict=True))
        for tensor, buffer in zip(self.tensors, self.buffer_of, strict=True):
            if buffer >= 0:
                tensor.offset += offset_of.get(buffer, 0)
        arena = -(-(plan.arena_bytes + OVERREAD) // ALIGN) * ALIGN
        weights = self._weights()
        memory = {"arena_bytes": arena, "arena_lower_bound": plan.lower_bound, "weights_bytes": len(weights)}
        program = Program(
            self.layout,
            self.act_sign,
            arena,
            scratch_bytes(self.steps, self.tensors, self.layout),
            self.tensors,
            self.steps,
            *self._ends(),
            weights,
            {**metadata, "memory": memory, "steps": self._descriptions()},
            states=self._states(),
        )
        return _without_unused_tensors(program)

    def _ends(self) -> tuple[list[int], list[int]]:
        """The inputs and outputs of the caller."""
        count = len(self.initial)
        return self.inputs[: len(self.inputs) - count], self.outputs[: len(self.outputs) - count]

    def _states(self) -> list[State]:
        inputs, outputs = self._ends()
        ends = zip(self.inputs[len(inputs) :], self.outputs[len(outputs) :], self.initial, strict=True)
        return [State(*end) for end in ends]

    def _weights(self) -> bytes:
        """The constants that steps read, in the order in which they are first read, then initial values; sets their offsets."""
        weights = bytearray()
        placed: dict[int, int] = {}  # offset by identity of the bytes: views of a constant share them
        for tensor in [*(t for step in self.steps for t in step.inputs), *self.initial]:
            raw = self.constant_bytes.get(tensor)
            if raw is None:
                continue
            if id(raw) not in placed:
                placed[id(raw)] = len(weights)
                weights += raw + bytes(-len(raw) % ALIGN)
            self.tensors[tensor].offset = placed[id(raw)]
        return bytes(weights) + bytes(OVERREAD)

    def _descriptions(self) -> list[dict[str, Any]]:
        """What the metadata says of each step: name, ONNX node and operator, form, MACs, bytes of constants, fused nodes."""
        return [
            {"name": step.name, **form, "weight_bytes": sum(len(self.constant_bytes.get(t, b"")) for t in step.inputs)}
            for step, form in zip(self.steps, self.forms, strict=True)
        ]

    def lives(self) -> dict[int, tuple[int, int]]:
        """First and last step that touches each buffer."""
        lives: dict[int, tuple[int, int]] = {}
        for index, step in enumerate(self.steps):
            for tensor in (*step.inputs, *step.outputs):
                buffer = self.buffer_of[tensor] if tensor >= 0 else -1
                if buffer >= 0:
                    lives[buffer] = (lives.get(buffer, (index, index))[0], index)
        return lives

    def share_in_place(self) -> None:
        """Let an elementwise step write over an input that dies there and covers exactly the same bytes."""
        lives = self.lives()
        home = list(range(len(self.buffer_bytes)))  # where each buffer lies now; its own number unless shared
        for index, step in enumerate(self.steps):
            out = self.buffer_of[step.outputs[0]]
            if step.op not in IN_PLACE or out < 0 or lives[out][0] != index:
                continue
            for candidate in step.inputs:
                shared = self.buffer_of[candidate] if candidate >= 0 else -1
                if shared < 0 or lives[home[shared]][1] != index or not self._may_share(step, candidate):
                    continue
                home[out] = home[shared]
                lives[home[out]] = (lives[home[out]][0], lives[out][1])
                break
        self.buffer_of = [home[b] if b >= 0 else b for b in self.buffer_of]

    def _may_share(self, step: Step, candidate: int) -> bool:
        a, y = self.tensors[candidate], self.tensors[step.outputs[0]]
        whole = a.offset == y.offset == 0 and a.bytes == y.bytes and a.dtype is y.dtype
        sizes = {self.buffer_bytes[self.buffer_of[t]] for t in (candidate, step.outputs[0])}
        return whole and len(sizes) == 1 and _reads_in_step(step, candidate)


def _reads_in_step(step: Step, candidate: int) -> bool:
    """Whether every element of the operand is read exactly where the result is written (no broadcast, no reordering)."""
    if step.op is not Op.BINARY:
        return candidate == step.inputs[0]
    key = "stride_a" if candidate == step.inputs[0] else "stride_b"
    return bool(step.params[key] == step.params["stride_y"]) and step.inputs[0] != step.inputs[1]


def _without_unused_tensors(program: Program) -> Program:
    used = {t for step in program.steps for t in (*step.inputs, *step.outputs)} | {*program.graph_inputs, *program.graph_outputs}
    used = (used | {state.initial for state in program.states}) - {-1}
    number = {old: new for new, old in enumerate(sorted(used))}
    number[-1] = -1
    program.tensors = [program.tensors[i] for i in sorted(used)]
    for step in program.steps:
        step.inputs = tuple(number[i] for i in step.inputs)
        step.outputs = tuple(number[i] for i in step.outputs)
    program.inputs = [number[i] for i in program.inputs]
    program.outputs = [number[i] for i in program.outputs]
    program.states = [State(number[s.input], number[s.output], number[s.initial]) for s in program.states]
    return program


def elements(shape: tuple[int, ...]) -> int:
    """Product of dims."""
    return math.prod(shape)
