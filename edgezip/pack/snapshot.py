"""The program of one size as the builder left it, numbered by use, so that programs of two sizes can be laid side by side.

Every use of a constant is a tensor of its own: which constants happen to be equal at one size does not matter then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from edgezip.pack.builder import Builder
from edgezip.pack.plan_memory import Buffer
from edgezip.program import Layout, Place, State, Step, Tensor

STRUCTURE = {"rank", "kind", "convert", "fill", "transpose_b", "groups"}  # params that say what a step is, not how large


@dataclass(slots=True)
class Snapshot:
    """``tensors`` of the arena have offsets within their buffer; those of the weights have none yet."""

    layout: Layout
    act_sign: int
    sizes: tuple[int, ...]
    tensors: list[Tensor]
    steps: list[Step]
    forms: list[dict[str, Any]]
    buffer_of: list[int]  # of each tensor, numbered by first use; -1 outside of the arena
    lives: list[tuple[int, int]]  # first and last step of each buffer
    constants: dict[int, bytes]
    inputs: list[int]
    outputs: list[int]
    states: list[State]
    key: tuple[Any, ...]  # equal where the same steps run on the same tensors, whatever their sizes

    def buffers(self, sizes: list[int]) -> list[Buffer]:
        """For the planner."""
        return [Buffer(size, *life) for size, life in zip(sizes, self.lives, strict=True)]


def take(builder: Builder, sizes: tuple[int, ...]) -> Snapshot:
    """The snapshot of a builder whose steps are all there; the builder is used up."""
    builder.share_in_place()
    lives, numbering = builder.lives(), _Numbering(builder)
    inputs, outputs = ([numbering.of(t) for t in ends] for ends in (builder.inputs, builder.outputs))
    initial = [numbering.of(t) for t in builder.initial]
    steps = [
        replace(step, inputs=tuple(map(numbering.of, step.inputs)), outputs=tuple(map(numbering.of, step.outputs)))
        for step in builder.steps
    ]
    count = len(initial)
    states = [State(*ends) for ends in zip(inputs[len(inputs) - count :], outputs[len(outputs) - count :], initial, strict=True)]
    buffers = sorted(numbering.buffers, key=numbering.buffers.__getitem__)
    key = (
        tuple(map(_tensor_key, numbering.tensors)), tuple(numbering.buffer_of), tuple(map(_step_key, steps)),
        tuple(inputs), tuple(outputs),
    )  # fmt: skip
    return Snapshot(
        builder.layout, builder.act_sign, sizes, numbering.tensors, steps, builder.forms, numbering.buffer_of,
        [lives[b] for b in buffers], numbering.constants,
        inputs[: len(inputs) - count], outputs[: len(outputs) - count], states, key,
    )  # fmt: skip


class _Numbering:
    """Numbers for tensors and buffers, in the order in which they are asked for."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._known: dict[int, int] = {-1: -1}
        self.tensors: list[Tensor] = []
        self.buffer_of: list[int] = []
        self.buffers: dict[int, int] = {}  # the builder's number -> ours
        self.constants: dict[int, bytes] = {}

    def of(self, tensor: int) -> int:
        """Our number of the builder's tensor; a constant gets a new one each time."""
        if tensor in self._known:
            return self._known[tensor]
        held, buffer = self._builder.tensors[tensor], self._builder.buffer_of[tensor]
        number = len(self.tensors)
        self.tensors.append(replace(held))
        self.buffer_of.append(-1 if buffer < 0 else self.buffers.setdefault(buffer, len(self.buffers)))
        if held.place is Place.WEIGHTS:
            self.constants[number] = self._builder.constant_bytes[tensor]
        else:
            self._known[tensor] = number
        return number


def _tensor_key(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.place, len(tensor.dims), tensor.scale, tensor.zero_point, tensor.form


def _step_key(step: Step) -> tuple[Any, ...]:
    shape = tuple(
        (name, len(value) if isinstance(value, (tuple, list)) else value if name in STRUCTURE else None)
        for name, value in sorted(step.params.items())
    )
    return step.op, step.inputs, step.outputs, shape


def differing(one: Snapshot, other: Snapshot) -> str:
    """Where the steps of two snapshots part, in words."""
    for number, (a, b) in enumerate(_pairs(one.steps, other.steps)):
        if a is None or b is None or _step_key(a) != _step_key(b):
            said = [f"{s.op.name.lower()} of '{s.name}'" if s else "nothing" for s in (a, b)]
            return f"step {number}: {said[0]} at {one.sizes}, {said[1]} at {other.sizes}"
    return "scales or types of tensors"


def _pairs(one: list[Step], other: list[Step]) -> Iterator[tuple[Step | None, Step | None]]:
    for number in range(max(len(one), len(other))):
        yield one[number] if number < len(one) else None, other[number] if number < len(other) else None
