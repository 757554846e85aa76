"""From a model with dynamic dimensions to one program: lowered at a set of sizes, what changes is put into formulas.

The lowering itself knows static shapes only. Programs of different sizes that run the same steps form a variant; within it every
integer that differs must have a formula (``formulas.py``); a constant is the beginning of the largest one, a corner of it, or
stored once a size (``sized_constants.py``). The formulas are proved on sizes that they were not fitted on. The arena is planned
for the largest size of each buffer, so every size finds its place at the same offsets.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from typing import Any

import numpy as np

from edgezip.dynamic import STEP_PATCH, TENSOR_PATCH, Box, Patch, Shapes, Symbol, Term, Variant, value_of
from edgezip.errors import ShapeError, UnsupportedModelError
from edgezip.pack import plan_memory, sized_constants
from edgezip.pack.builder import Builder
from edgezip.pack.formulas import Formulas
from edgezip.pack.scratch import scratch_bytes
from edgezip.pack.sized_constants import Kinds, Table
from edgezip.pack.snapshot import Snapshot, differing, take
from edgezip.program import ALIGN, OVERREAD, Place, Program, Tensor

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]
ALL_BELOW = 20  # so few sizes of a symbol are all lowered
ENOUGH = 12  # samples of a range
HELD_OUT, ROUNDS = 3, 8
MOST_BOXES = 16
MOST_EVALUATED = 200_000  # sizes at which the extent of every buffer is computed
MOST_TABLES, MOST_TABLE_BYTES = 2048, 2**27  # sizes lowered one by one, and what a constant of each may take together


class StepsChangeError(UnsupportedModelError):
    """Other steps at too many sizes: with forms that suit every size there may be fewer."""


class NoFormulaError(UnsupportedModelError):
    """A number of a step or tensor depends on the sizes in a way that no formula gives."""


def compile_sizes(lower: Callable[[Sizes], Builder], symbols: Sequence[Symbol], shown_by: Sequence[tuple[str, int]]) -> Program:
    """The program of all sizes, without metadata about its source; ``lower`` gives the fused steps of one.

    Raises UnsupportedModelError that names node and field when something depends on the size in a way that has no formula,
    StepsChangeError when the sizes need too many lists of steps.
    """
    samples = _Samples(lower, list(symbols))
    boxes = _boxes(samples)
    for round_ in range(ROUNDS):
        variants = _fitted_variants(samples, boxes)
        if variants is None:
            boxes = _boxes(samples)
            continue
        more = _open_questions(samples, variants) or _refuted(samples, variants, round_) or _every_size(samples, variants)
        if not more:
            return _assembled(samples, variants, shown_by)
        samples.take(more)
        boxes = _boxes(samples)
    raise StepsChangeError(
        "the steps depend on the dynamic dimensions in too many ways", where=_named(symbols),
        hint="narrow the bounds, or give a step: --dim NAME=LOW..HIGH:STEP",
    )  # fmt: skip


def _named(symbols: Sequence[Symbol]) -> str:
    return ", ".join(f"{symbol.name}={symbol.bounds}" for symbol in symbols)


# --- samples ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Samples:
    """Snapshots by size, made when first asked for."""

    lower: Callable[[Sizes], Builder]
    symbols: list[Symbol]
    held: dict[Sizes, Snapshot] = field(default_factory=dict)
    ones_apart: bool = False  # size 1 of a symbol is a range of its own
    _constants: dict[bytes, bytes] = field(default_factory=dict)  # one copy of what many sizes have

    def made(self, sizes: Sizes) -> Snapshot:
        """A snapshot that is not kept."""
        return take(self.lower(sizes), sizes)

    def at(self, sizes: Sizes) -> Snapshot:
        """The snapshot of one size."""
        if sizes not in self.held:
            self.held[sizes] = snapshot = self.made(sizes)
            for index, raw in snapshot.constants.items():
                snapshot.constants[index] = self._constants.setdefault(raw, raw)
        return self.held[sizes]

    def take(self, many: Sequence[Sizes]) -> None:
        """Those of several."""
        for sizes in many:
            self.at(sizes)

    @property
    def bound(self) -> Sizes:
        """The largest size of every symbol."""
        return tuple(symbol.high for symbol in self.symbols)

    def line(self, axis: int) -> list[int]:
        """Sampled sizes of one symbol, the others at their bounds."""
        rest = [(i, size) for i, size in enumerate(self.bound) if i != axis]
        return sorted(sizes[axis] for sizes in self.held if all(sizes[i] == size for i, size in rest))

    def on_line(self, axis: int, size: int) -> Snapshot:
        """The snapshot at one size of a symbol, the others at their bounds."""
        return self.at((*self.bound[:axis], size, *self.bound[axis + 1 :]))


def chosen_sizes(symbol: Symbol) -> list[int]:
    """Ends, both sides of powers of two, a run of neighbours, primes and others: where a formula would show that it is wrong."""
    all_sizes = symbol.sizes
    if len(all_sizes) <= ALL_BELOW:
        return list(all_sizes)
    count = len(all_sizes)
    wanted = {0, 1, 2, 3, 4, count - 1, count - 2, count - 3, count // 2, count // 2 + 1}
    power = 4
    while power < count:
        wanted |= {power - 1, power} if power < 64 else {power - 1}
        power *= 2
    wanted |= set(random.Random(symbol.high).sample(range(count), 3))
    return [all_sizes[i] for i in sorted(i for i in wanted if 0 <= i < count)]


def _first_samples(samples: _Samples) -> list[Sizes]:
    """A line along each symbol, the corners, and some in between."""
    bound, lines = samples.bound, [chosen_sizes(symbol) for symbol in samples.symbols]
    chosen = {(*bound[:axis], size, *bound[axis + 1 :]) for axis, line in enumerate(lines) for size in line}
    if len(lines) > 1:
        chosen |= set(product(*[(line[0], line[-1]) for line in lines]))
        pick = random.Random(len(chosen))
        chosen |= {tuple(pick.choice(line) for line in lines) for _ in range(8)}
    return sorted(chosen, reverse=True)


# --- boxes and variants -----------------------------------------------------------------------------------------------------


def _boxes(samples: _Samples) -> list[tuple[Sizes, Sizes]]:
    """Ranges of the symbols within which the same steps run, from where they change along each line."""
    if not samples.held:
        samples.take(_first_samples(samples))
    ranges = [_ranges(samples, axis) for axis in range(len(samples.symbols))]
    if math.prod(map(len, ranges)) > MOST_BOXES:
        lines = [(axis, low) for axis, spans in enumerate(ranges) for low, _ in spans]
        where = differing(samples.on_line(*lines[0]), samples.on_line(*lines[1]))
        raise StepsChangeError(
            "the steps change at too many sizes", where=_named(samples.symbols), got=where,
            hint="narrow the bounds, or give a step: --dim NAME=LOW..HIGH:STEP",
        )  # fmt: skip
    found = [(tuple(low for low, _ in box), tuple(high for _, high in box)) for box in product(*ranges)]
    for low, high in found:
        samples.take(list(product(*zip(low, high, strict=True))))
        if sum(all(a <= x <= b for a, x, b in zip(low, sizes, high, strict=True)) for sizes in samples.held) >= ENOUGH:
            continue
        for axis, symbol in enumerate(samples.symbols):  # the first samples lay at the other symbol's bound
            line = chosen_sizes(replace(symbol, low=low[axis], high=high[axis]))
            samples.take([(*high[:axis], size, *high[axis + 1 :]) for size in line])
    return found


def _ranges(samples: _Samples, axis: int) -> list[tuple[int, int]]:
    """(first, last) size of each stretch of one symbol with the same steps, found by halving."""
    step = samples.symbols[axis].step
    line = samples.line(axis)
    starts = [line[0]]
    for one, two in pairwise(line):
        low, high = one, two
        if samples.on_line(axis, low).key == samples.on_line(axis, high).key:
            continue
        while high - low > step:
            middle = low + (high - low) // step // 2 * step
            low, high = (middle, high) if samples.on_line(axis, middle).key == samples.on_line(axis, low).key else (low, middle)
        starts.append(high)
    if samples.ones_apart and line[0] == 1 and 1 + step not in starts and len(line) > 1:
        starts.insert(1, 1 + step)
    return [(start, end - step) for start, end in zip(starts, [*starts[1:], line[-1] + step], strict=True)]


@dataclass(slots=True)
class _Variant:
    """Samples with the same steps, the largest first, and the formulas of what changes.

    ``taken`` is the largest as lowering left it; in the samples corners of constants are copied out.
    """

    taken: Snapshot
    kinds: Kinds
    samples: list[Snapshot]
    boxes: list[tuple[Sizes, Sizes]]
    formulas: Formulas
    patches: list[Patch]  # arena offsets still within the buffer
    tables: dict[int, Table] = field(default_factory=dict)

    @property
    def base(self) -> Snapshot:
        """The largest."""
        return self.samples[0]


def _fitted_variants(samples: _Samples, boxes: list[tuple[Sizes, Sizes]]) -> list[_Variant] | None:
    """As ``_variants``; None when sizes of 1, whose strides nobody walks, have to be looked at apart from now on."""
    try:
        return _variants(samples, boxes)
    except NoFormulaError:
        if samples.ones_apart or all(symbol.low > 1 for symbol in samples.symbols):
            raise
        samples.ones_apart = True
        return None


def _variants(samples: _Samples, boxes: list[tuple[Sizes, Sizes]]) -> list[_Variant]:
    """One for each kind of steps, the one at the bounds first. Raises UnsupportedModelError."""
    found: dict[tuple[Any, ...], tuple[list[Snapshot], list[tuple[Sizes, Sizes]]]] = {}
    for low, high in sorted(boxes, key=lambda box: box[1], reverse=True):
        inside = [s for sizes, s in samples.held.items() if all(a <= x <= b for a, x, b in zip(low, sizes, high, strict=True))]
        for snapshot in inside:
            if snapshot.key != inside[0].key:
                raise StepsChangeError(
                    "the steps depend on two dynamic dimensions together"
                    if len(samples.symbols) > 1
                    else "the steps change from size to size",
                    where=_named(samples.symbols), got=differing(inside[0], snapshot),
                    hint="narrow the bounds, give a step (--dim NAME=LOW..HIGH:STEP), or fix one with --shape",
                )  # fmt: skip
        ones = tuple(size == 1 for size in high) if samples.ones_apart else ()
        own = found.setdefault((inside[0].key, ones), ([], []))
        own[0].extend(inside)
        own[1].append((low, high))
    return [_fitted(*own) for own in found.values()]


def _fitted(snapshots: list[Snapshot], boxes: list[tuple[Sizes, Sizes]]) -> _Variant:
    snapshots = sorted(snapshots, key=lambda s: (math.prod(s.sizes), s.sizes), reverse=True)
    symbols = len(snapshots[0].sizes)
    formulas = Formulas([np.array([s.sizes[i] for s in snapshots], np.int64) for i in range(symbols)])
    kinds, taken = sized_constants.kinds(snapshots), snapshots[0]
    snapshots = [sized_constants.with_corners(s, taken, kinds.corners) for s in snapshots]
    variant = _Variant(taken, kinds, snapshots, boxes, formulas, [])
    for index in range(len(variant.base.tensors)):
        _fit_vector(variant, TENSOR_PATCH, index, "dims", [s.tensors[index].dims for s in snapshots])
    for name in ("row_stride", "offset"):
        for index in range(len(variant.base.tensors)):
            _fit(variant, TENSOR_PATCH, index, name, 0, [getattr(s.tensors[index], name) for s in snapshots])
    for index, step in enumerate(variant.base.steps):
        for name, value in step.params.items():
            values = [s.steps[index].params[name] for s in snapshots]
            if isinstance(value, (tuple, list)):
                _fit_vector(variant, STEP_PATCH, index, name, values)
            else:
                _fit(variant, STEP_PATCH, index, name, 0, values)
    return variant


def _fit_vector(variant: _Variant, kind: int, index: int, name: str, values: Sequence[Sequence[int]]) -> None:
    for position, column in enumerate(zip(*values, strict=True)):
        _fit(variant, kind, index, name, position, column)


def _fit(variant: _Variant, kind: int, index: int, name: str, position: int, values: Sequence[Any]) -> None:
    """Adds the patch of one field, if it changes. Raises UnsupportedModelError."""
    if all(value == values[0] for value in values):
        return
    terms = variant.formulas.terms([int(v) for v in values]) if all(isinstance(v, (int, np.integer)) for v in values) else None
    if terms is None:
        base = variant.base
        where = f"node '{base.steps[index].name}'" if kind == STEP_PATCH else f"tensor '{base.tensors[index].name}'"
        shown = ", ".join(f"{v} at {s.sizes}" for v, s in list(zip(values, variant.samples, strict=True))[:4])
        raise NoFormulaError(
            f"field '{name}' depends on the dynamic dimensions in a way that has no formula", where=where, got=shown,
            hint="give a step: --dim NAME=LOW..HIGH:STEP; or compile one program a size",
        )  # fmt: skip
    variant.patches.append(Patch(kind, index, name, position, terms))


# --- proofs -----------------------------------------------------------------------------------------------------------------


def _all_sizes(variant: _Variant, symbols: list[Symbol], most: int) -> list[Array]:
    """Every size of the variant's boxes, one array a symbol; corners and a random choice when there are more than ``most``."""
    columns: list[Array] = []
    for low, high in variant.boxes:
        lines = [np.arange(a, b + 1, s.step) for a, b, s in zip(low, high, symbols, strict=True)]
        if math.prod(map(len, lines)) > most:
            pick = np.random.default_rng(0)
            ends = np.array(list(product(*[(line[0], line[-1]) for line in lines])))
            rows = np.concatenate([ends, np.stack([pick.choice(line, most) for line in lines], axis=1)])
        else:
            rows = np.stack([axis.reshape(-1) for axis in np.meshgrid(*lines, indexing="ij")], axis=1)
        columns.append(rows)
    return list(np.concatenate(columns).T.astype(np.int64))


def _open_questions(samples: _Samples, variants: list[_Variant]) -> list[Sizes]:
    """Sizes that would settle what the samples leave open of a rounding."""
    asked = []
    for variant in variants:
        everything = _all_sizes(variant, samples.symbols, MOST_EVALUATED)
        index = variant.formulas.undecided(everything)
        if index is not None:
            sizes = tuple(int(axis[index]) for axis in everything)
            if sizes not in samples.held:
                asked.append(sizes)
    return asked


def _refuted(samples: _Samples, variants: list[_Variant], round_: int) -> list[Sizes]:
    """Sizes that were not fitted on and where the formulas are wrong."""
    pick = random.Random(f"held out {round_}")
    wrong = []
    for variant in variants:
        everything = np.stack(_all_sizes(variant, samples.symbols, MOST_EVALUATED), axis=1)
        rows = [everything[pick.randrange(len(everything))] for _ in range(HELD_OUT)]
        for sizes in {tuple(int(x) for x in row) for row in rows} - set(samples.held):
            if not _gives(variant, samples.made(sizes)):
                wrong.append(sizes)
    return wrong


def _every_size(samples: _Samples, variants: list[_Variant]) -> list[Sizes]:
    """Fills the tables of what is another for every size; sizes where the formulas are wrong. Raises UnsupportedModelError."""
    wrong = []
    for variant in variants:
        if not variant.kinds.tables:
            continue
        axes = {index: sized_constants.axes_of(variant.samples, index) for index in variant.kinds.tables}
        variant.tables = {index: Table(index, own, {}) for index, own in axes.items()}
        needed = tuple(sorted({axis for own in axes.values() for axis in own}))
        for sizes in _sizes_along(variant, samples.symbols, needed):
            snapshot = samples.held.get(sizes) or samples.made(sizes)
            if not _gives(variant, snapshot):
                wrong.append(sizes)
                continue
            for index, table in variant.tables.items():
                table.entries[tuple(sizes[axis] for axis in table.axes)] = snapshot.constants[index]
        for snapshot in [] if wrong else variant.samples:
            for index, table in variant.tables.items():
                if table.of(snapshot.sizes) != snapshot.constants[index]:
                    raise _too_many(variant, index)
    return wrong


def _sizes_along(variant: _Variant, symbols: list[Symbol], axes: tuple[int, ...]) -> list[Sizes]:
    """All sizes of these symbols in the variant's boxes, the others at their highest. Raises UnsupportedModelError."""
    found: list[Sizes] = []
    for low, high in variant.boxes:
        lines = [
            range(a, b + 1, s.step) if axis in axes else (b,)
            for axis, (a, b, s) in enumerate(zip(low, high, symbols, strict=True))
        ]
        found += product(*lines)
        most = max(len(variant.base.constants[index]) for index in variant.kinds.tables)
        if len(found) > MOST_TABLES or len(found) * most > MOST_TABLE_BYTES:
            raise _too_many(variant, variant.kinds.tables[0])
    return found


def _too_many(variant: _Variant, index: int) -> UnsupportedModelError:
    base = variant.base
    reader = next((step.name for step in base.steps if index in step.inputs), "")
    return UnsupportedModelError(
        f"constant '{base.tensors[index].name}' of node '{reader}' is another for every size, and there are too many sizes",
        expected=f"at most {MOST_TABLES} sizes and {MOST_TABLE_BYTES >> 20} MB of it",
        hint="narrow the bounds, give a step (--dim NAME=LOW..HIGH:STEP), or give the constant as an input",
    )


def _gives(variant: _Variant, snapshot: Snapshot) -> bool:
    """Whether the variant gives exactly the records and constants of a size; what stands in tables is not looked at."""
    corners = {index for group in variant.kinds.corners for index in group}
    if snapshot.key != variant.taken.key or not all(
        sized_constants.is_corner(variant.taken, snapshot, index) if index in corners
        else index in variant.kinds.tables or variant.base.constants[index].startswith(raw)
        for index, raw in snapshot.constants.items()
    ):  # fmt: skip
        return False
    snapshot = sized_constants.with_corners(snapshot, variant.taken, variant.kinds.corners)
    quantities = Shapes([], variant.formulas.derived, [], []).quantities(snapshot.sizes)
    patched = {(p.kind, p.index, p.field, p.position): value_of(p.terms, quantities) for p in variant.patches}
    return all(wanted == patched.get(place, held) for place, held, wanted in _fields(variant.base, snapshot))


def _fields(base: Snapshot, other: Snapshot) -> list[tuple[tuple[int, int, str, int], Any, Any]]:
    """Every number of two snapshots of a variant, side by side."""
    rows: list[tuple[tuple[int, int, str, int], Any, Any]] = []
    for index, (a, b) in enumerate(zip(base.tensors, other.tensors, strict=True)):
        rows += [((TENSOR_PATCH, index, "dims", i), x, y) for i, (x, y) in enumerate(zip(a.dims, b.dims, strict=True))]
        rows += [((TENSOR_PATCH, index, name, 0), getattr(a, name), getattr(b, name)) for name in ("row_stride", "offset")]
    for index, (s, t) in enumerate(zip(base.steps, other.steps, strict=True)):
        for name, value in s.params.items():
            pairs = zip(value, t.params[name], strict=True) if isinstance(value, (tuple, list)) else [(value, t.params[name])]
            rows += [((STEP_PATCH, index, name, i), x, y) for i, (x, y) in enumerate(pairs)]
    return rows


# --- the program ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Weights:
    """The weights section; equal constants are stored once, and one that another begins with not at all."""

    data: bytearray = field(default_factory=bytearray)
    places: dict[bytes, int] = field(default_factory=dict)
    by_name: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    def place(self, name: str, raw: bytes) -> int:
        """Offset of these bytes."""
        if raw in self.places:
            return self.places[raw]
        for offset, longer in self.by_name.get(name, ()):
            if longer.startswith(raw):
                return offset
        offset = len(self.data)
        self.data += raw + bytes(-len(raw) % ALIGN)
        self.places[raw] = offset
        self.by_name.setdefault(name, []).append((offset, raw))
        return offset


def _assembled(samples: _Samples, variants: list[_Variant], shown_by: Sequence[tuple[str, int]]) -> Program:
    symbols, weights = samples.symbols, _Weights()
    shapes = Shapes(list(symbols), [], [], [])
    arena = bound = 0
    for number, variant in enumerate(variants):
        made, top, lower = _placed(variant, symbols, weights, shapes)
        arena, bound = max(arena, top), max(bound, lower)
        shapes.variants.append(made)
        shapes.boxes += [Box(low, high, number) for low, high in variant.boxes]
    _check_states(samples, variants)
    base, first = variants[0].base, shapes.variants[0]
    shapes.symbols = [_shown(symbol, *place, base) for symbol, place in zip(symbols, shown_by, strict=True)]
    memory = {"arena_bytes": arena, "arena_lower_bound": bound, "weights_bytes": len(weights.data) + OVERREAD}
    described = [
        {"name": step.name, **form, "weight_bytes": sum(len(base.constants.get(t, b"")) for t in step.inputs)}
        for step, form in zip(base.steps, base.forms, strict=True)
    ]
    dims = {symbol.name: symbol.bounds for symbol in symbols}
    program = Program(
        base.layout, base.act_sign, arena, 0, first.tensors, first.steps, first.inputs, first.outputs,
        bytes(weights.data) + bytes(OVERREAD), {"dims": dims, "memory": memory, "steps": described},
        states=first.states, shapes=shapes,
    )  # fmt: skip
    program.scratch_bytes = max(_scratch_of(program, sizes) for sizes in samples.held)
    return program


def _shown(symbol: Symbol, name: str, axis: int, base: Snapshot) -> Symbol:
    """The symbol with the number of the caller's input that shows it. Raises ShapeError when that is a state."""
    names = [base.tensors[index].name for index in base.inputs]
    if name not in names:
        raise ShapeError("a state cannot have a dynamic dimension", where=name, got=symbol.name, hint="fix it with --shape")
    return replace(symbol, input=names.index(name), axis=axis)


def _scratch_of(program: Program, sizes: Sizes) -> int:
    sized = program.at(sizes)
    return scratch_bytes(sized.steps, sized.tensors, program.layout)


def _placed(variant: _Variant, symbols: list[Symbol], weights: _Weights, shapes: Shapes) -> tuple[Variant, int, int]:
    """The variant's records with their places; the arena that it needs, and its lower bound.

    Its derived quantities go behind those of the variants before it.
    """
    base, shift = variant.base, len(shapes.derived)
    own = len(symbols)
    places = {index: _table_place(variant, table, symbols, weights) for index, table in variant.tables.items()}
    variant.patches += [patch for _, patch in places.values()]

    def renumbered(term: Term) -> Term:
        return replace(term, factors=tuple(f if f < own else f + shift for f in term.factors))

    patches = [replace(p, terms=tuple(map(renumbered, p.terms))) for p in variant.patches]
    shapes.derived += [replace(d, source=d.source if d.source < own else d.source + shift) for d in variant.formulas.derived]
    plan = plan_memory.plan(base.buffers(_buffer_bytes(variant, symbols)))
    tensors = [replace(tensor) for tensor in base.tensors]
    for index, tensor in enumerate(tensors):
        if tensor.place is Place.WEIGHTS:
            tensor.offset = places[index][0] if index in places else weights.place(tensor.name, base.constants[index])
        elif base.buffer_of[index] >= 0:
            start = plan.offsets[base.buffer_of[index]]
            tensor.offset += start
            patches = [_moved(p, start) if (p.kind, p.index, p.field) == (TENSOR_PATCH, index, "offset") else p for p in patches]
    arena = -(-(plan.arena_bytes + OVERREAD) // ALIGN) * ALIGN
    steps = [replace(step, params=dict(step.params)) for step in base.steps]
    return Variant(tensors, steps, base.inputs, base.outputs, base.states, patches), arena, plan.lower_bound


def _table_place(variant: _Variant, table: Table, symbols: list[Symbol], weights: _Weights) -> tuple[int, Patch]:
    """Where the entry of the largest size lies, and the offset of any other: they follow each other in equal distances."""
    lines = []
    for axis in table.axes:
        low, high = min(box[0][axis] for box in variant.boxes), max(box[1][axis] for box in variant.boxes)
        lines.append(range(low, high + 1, symbols[axis].step))
    room = -(-max(map(len, table.entries.values())) // ALIGN) * ALIGN
    start = weights.place(
        variant.base.tensors[table.index].name,
        b"".join(table.entries.get(sizes, b"").ljust(room, b"\0") for sizes in product(*lines)),
    )
    terms, offset = [Term(start)], start
    for place, axis in enumerate(table.axes):
        distance = room * math.prod(map(len, lines[place + 1 :]))
        terms.append(Term(distance, (variant.formulas.ordinal(axis, lines[place].start, symbols[axis].step),)))
        offset += distance * lines[place].index(variant.base.sizes[axis])
    return offset, Patch(TENSOR_PATCH, table.index, "offset", 0, tuple(terms))


def _moved(patch: Patch, start: int) -> Patch:
    return replace(patch, terms=(*patch.terms, Term(start)))


def _buffer_bytes(variant: _Variant, symbols: list[Symbol]) -> list[int]:
    """The most bytes of each buffer over all sizes."""
    quantities = Shapes([], variant.formulas.derived, [], []).quantities(_all_sizes(variant, symbols, MOST_EVALUATED))
    patched: dict[tuple[int, str, int], Any] = {
        (p.index, p.field, p.position): value_of(p.terms, quantities) for p in variant.patches if p.kind == TENSOR_PATCH
    }
    most = [0] * len(variant.base.lives)
    for index, tensor in enumerate(variant.base.tensors):
        buffer = variant.base.buffer_of[index]
        if buffer >= 0:
            most[buffer] = max(most[buffer], int(np.max(_end_of(tensor, index, patched))))
    return most


def _end_of(tensor: Tensor, index: int, patched: dict[tuple[int, str, int], Any]) -> Any:
    """The byte behind the tensor in its buffer, for one size or many."""
    dims = [patched.get((index, "dims", i), dim) for i, dim in enumerate(tensor.dims)]
    rows, columns = math.prod(dims[:-1]), dims[-1] if dims else 1
    extent = (rows - 1) * patched.get((index, "row_stride", 0), tensor.row_stride) + columns
    return patched.get((index, "offset", 0), tensor.offset) + extent * tensor.dtype.numpy.itemsize


def _check_states(samples: _Samples, variants: list[_Variant]) -> None:
    """A state outlives a change of size, so it has one size. Raises ShapeError."""
    first = variants[0].base
    for variant in variants:
        for snapshot in variant.samples:
            for state, wanted in zip(snapshot.states, first.states, strict=True):
                own, bound = snapshot.tensors[state.input], first.tensors[wanted.input]
                if own.dims != bound.dims:
                    raise ShapeError(
                        "a state cannot have a dynamic dimension", where=own.name, expected=str(bound.dims), got=str(own.dims),
                        hint="fix that dimension with --shape, or leave the state an input",
                    )  # fmt: skip
