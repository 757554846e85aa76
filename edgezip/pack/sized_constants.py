"""Constants that another size has otherwise: beginnings of the largest, corners of it, or one a size.

A corner (a causal mask, the weights of a position each) is copied out of the largest by a step of its own. What is no part of the
largest (positions divided by the length, indices of a Resize) is stored once for every size, at places in equal distances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.program import Convert, Op, Place, Step

if TYPE_CHECKING:
    from edgezip.pack.snapshot import Snapshot

Sizes = tuple[int, ...]
FROM_ARENA = {
    Op.BINARY, Op.INTEGER, Op.MATH, Op.WHERE, Op.UNARY, Op.COPY, Op.ATTENTION, Op.MATMUL, Op.GATHER, Op.TAKE, Op.SCATTER,
    Op.RESIZE, Op.INTERPOLATE, Op.CUMULATE, Op.REDUCE, Op.FOLD,
}  # fmt: skip  # steps that read a computed value where they read a constant


@dataclass(frozen=True, slots=True)
class Kinds:
    """Numbers of the constants that are no beginnings of the largest: corners (uses of one together), and all others."""

    corners: tuple[tuple[int, ...], ...]
    tables: tuple[int, ...]


def kinds(snapshots: Sequence[Snapshot]) -> Kinds:
    """How the constants of a variant change; the first snapshot is the largest."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    tables = []
    for index, whole in snapshots[0].constants.items():
        own = [s.constants[index] for s in snapshots]
        if all(whole.startswith(raw) for raw in own):
            continue
        if _may_be_computed(snapshots[0], index) and all(is_corner(snapshots[0], s, index) for s in snapshots):
            same = (snapshots[0].tensors[index].dims, *map(id, own))
            groups.setdefault(same, []).append(index)
        else:
            tables.append(index)
    return Kinds(tuple(map(tuple, groups.values())), tuple(tables))


def _may_be_computed(snapshot: Snapshot, index: int) -> bool:
    readers = [step.op in FROM_ARENA for step in snapshot.steps if index in step.inputs]
    return bool(readers) and all(readers)


def is_corner(base: Snapshot, other: Snapshot, index: int) -> bool:
    """Whether a constant is what stands at the low indices of every axis of the largest."""
    whole, own = base.tensors[index], other.tensors[index]
    if any(d > most for d, most in zip(own.dims, whole.dims, strict=True)):
        return False
    array = np.frombuffer(base.constants[index], whole.dtype.numpy).reshape(whole.dims)
    return array[tuple(slice(0, d) for d in own.dims)].tobytes() == other.constants[index]


def with_corners(snapshot: Snapshot, base: Snapshot, corners: Sequence[tuple[int, ...]]) -> Snapshot:
    """The snapshot with a copying step before the first reader of each corner, which then is read from the arena.

    ``base`` is the largest of the variant, as it was taken.
    """
    if not corners:
        return snapshot
    first = [min(_readers(snapshot, group)) for group in corners]
    last = [max(_readers(snapshot, group)) for group in corners]
    made = replace(
        snapshot, tensors=list(snapshot.tensors), steps=list(snapshot.steps), forms=list(snapshot.forms),
        buffer_of=list(snapshot.buffer_of), constants=dict(snapshot.constants),
        lives=[(_moved(a, first), _moved(b, first)) for a, b in snapshot.lives],
    )  # fmt: skip
    for inserted, number in enumerate(sorted(range(len(corners)), key=first.__getitem__)):
        _copied_out(made, base, corners[number], first[number] + inserted)
        made.lives.append((first[number] + inserted, _moved(last[number], first)))
    return made


def _readers(snapshot: Snapshot, group: tuple[int, ...]) -> list[int]:
    return [at for at, step in enumerate(snapshot.steps) if not set(group).isdisjoint(step.inputs)]


def _moved(step: int, inserted: Sequence[int]) -> int:
    """The number of a step when one stands before each of ``inserted``."""
    return step + sum(at <= step for at in inserted)


def _copied_out(made: Snapshot, base: Snapshot, group: tuple[int, ...], at: int) -> None:
    """Inserts the step before step ``at``, into a buffer that comes next; every use of the group reads its result."""
    source, whole, own = group[0], base.tensors[group[0]], made.tensors[group[0]]
    copy = len(made.tensors)
    made.tensors.append(replace(own, place=Place.ARENA))
    made.buffer_of.append(len(made.lives))
    for index in group:
        made.tensors[index] = replace(whole)
        made.constants[index] = base.constants[index]
    made.steps = [
        replace(step, inputs=tuple(copy if t in group else t for t in step.inputs)) if not set(group).isdisjoint(step.inputs)
        else step
        for step in made.steps
    ]  # fmt: skip
    params = {
        "convert": Convert.NONE, "rank": len(own.dims), "dims": own.dims, "x_stride": _strides(whole.dims),
        "y_stride": _strides(own.dims), "scale": 0.0, "lo": -128, "hi": 127, "x_offset": 0, "y_offset": 0,
    }  # fmt: skip
    name = f"{own.name} (corner)"
    made.steps.insert(at, Step(name, Op.COPY, (source,), (copy,), params))
    made.forms.insert(at, {"op": "Constant", "node": name, "form": own.dtype.name.lower()})


def _strides(dims: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(dims[axis + 1 :]) for axis in range(len(dims)))


# --- one a size -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """The bytes of one constant at every size of the symbols ``axes``, which alone it depends on."""

    index: int
    axes: tuple[int, ...]
    entries: dict[Sizes, bytes]

    def of(self, sizes: Sizes) -> bytes:
        """Those at the sizes of all symbols."""
        return self.entries[tuple(sizes[axis] for axis in self.axes)]


def axes_of(snapshots: Sequence[Snapshot], index: int) -> tuple[int, ...]:
    """The fewest symbols that tell the constant apart, as far as the snapshots show."""
    count = len(snapshots[0].sizes)
    for axis in range(count):
        seen: dict[int, bytes] = {}
        if all(seen.setdefault(s.sizes[axis], s.constants[index]) == s.constants[index] for s in snapshots):
            return (axis,)
    return tuple(range(count))
