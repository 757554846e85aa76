"""What makes the records of any size from those of the largest: symbols, variants and patches of a program with dynamic shapes.

The layout of the section is that of ``ez_shapes_head`` in ``csrc/include/edgezip/ez_format.h``. A leaf module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.errors import ShapeError, UsageError

if TYPE_CHECKING:
    from edgezip.program import State, Step, Tensor

MAX_SYMBOLS = 2
MAX_FACTORS = 3
TENSOR_PATCH, STEP_PATCH = 1, 2

HEAD = np.dtype(
    [(name, "<u4") for name in ("n_symbols", "n_boxes", "n_variants", "n_derived", "n_patches", "n_terms")]
    + [("reserved", "<u4", (2,))]
)
SYMBOL = np.dtype(
    [
        ("name_offset", "<u4"),
        ("name_bytes", "<u4"),
        ("low", "<i4"),
        ("high", "<i4"),
        ("step", "<i4"),
        ("input", "<u2"),
        ("axis", "<u2"),
    ]
)
BOX = np.dtype([("low", "<i4", (MAX_SYMBOLS,)), ("high", "<i4", (MAX_SYMBOLS,)), ("variant", "<u4"), ("reserved", "<u4")])
VARIANT = np.dtype([("n_steps", "<u4"), ("n_tensors", "<u4"), ("n_patches", "<u4"), ("reserved", "<u4")])
DERIVED = np.dtype([("source", "<i4"), ("divide", "<i4"), ("multiply", "<i8"), ("add", "<i8")])
PATCH = np.dtype(
    [
        ("kind", "<u2"), ("field", "<u2"), ("bytes", "<u2"), ("n_terms", "<u2"), ("index", "<u4"), ("reserved", "<u4"),
    ]
)  # fmt: skip
TERM = np.dtype([("coefficient", "<i8"), ("factors", "<i4", (MAX_FACTORS,)), ("reserved", "<u4")])


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dynamic dimension: low, low + step, ..., high; dimension ``axis`` of graph input ``input`` shows its size."""

    name: str
    low: int
    high: int
    step: int = 1
    input: int = 0
    axis: int = 0

    @property
    def sizes(self) -> range:
        """Every size that it may have."""
        return range(self.low, self.high + 1, self.step)

    @property
    def bounds(self) -> str:
        """As ``--dim`` writes them."""
        return f"{self.low}..{self.high}" + (f":{self.step}" if self.step != 1 else "")


@dataclass(frozen=True, slots=True)
class Derived:
    """floor((multiply * quantity[source] + add) / divide)."""

    source: int
    multiply: int
    add: int
    divide: int


@dataclass(frozen=True, slots=True)
class Term:
    """coefficient * the product of the quantities of these numbers."""

    coefficient: int
    factors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Patch:
    """A field of a tensor (dims, row_stride, offset) or of a step's params, as the sum of its terms.

    ``position`` counts within dims and other vectors, and is 0 for single numbers.
    """

    kind: int  # TENSOR_PATCH or STEP_PATCH
    index: int
    field: str
    position: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A range of each symbol that one variant serves."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    variant: int

    def holds(self, sizes: Sequence[int]) -> bool:
        """Whether these sizes lie in it."""
        return all(low <= size <= high for low, size, high in zip(self.low, sizes, self.high, strict=True))


@dataclass(slots=True)
class Variant:
    """Records as the largest size of the variant's boxes has them, and what changes with the size."""

    tensors: list[Tensor]
    steps: list[Step]
    inputs: list[int]
    outputs: list[int]
    states: list[State]
    patches: list[Patch]


@dataclass(slots=True)
class Shapes:
    """The dynamic shapes of a program. Quantities are the symbols, then the derived ones."""

    symbols: list[Symbol]
    derived: list[Derived]
    boxes: list[Box]
    variants: list[Variant]

    def quantities(self, sizes: Sequence[Any]) -> list[Any]:
        """Of one size (numbers), or of many at once (integer arrays, one a symbol)."""
        values = list(sizes)
        for d in self.derived:
            values.append((d.multiply * values[d.source] + d.add) // d.divide)
        return values

    def variant_of(self, sizes: Sequence[int]) -> Variant:
        """The variant that serves these sizes. Raises UsageError."""
        self.check(sizes)
        for box in self.boxes:
            if box.holds(sizes):
                return self.variants[box.variant]
        raise UsageError("no variant of the program serves these sizes", got=str(tuple(sizes)), hint="compile the model again")

    def check(self, sizes: Sequence[int]) -> None:
        """Raises UsageError when a size is out of its bounds."""
        if len(sizes) != len(self.symbols):
            expected = ", ".join(symbol.name for symbol in self.symbols)
            raise UsageError("a size is needed for each dynamic dimension", expected=expected, got=str(tuple(sizes)))
        for symbol, size in zip(self.symbols, sizes, strict=True):
            if size not in symbol.sizes:
                raise UsageError("size out of bounds", where=symbol.name, expected=symbol.bounds, got=str(size))


@dataclass(frozen=True, slots=True)
class SymbolAxis:
    """A symbol and the input axis where its size is read off."""

    symbol: Symbol
    input: str
    axis: int


def sizes_of(axes: Sequence[SymbolAxis], shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The sizes that feeds of these shapes have. Raises ShapeError that names input, axis and bounds."""
    found = []
    for known in axes:
        shape = shapes.get(known.input)
        if shape is None or known.axis >= len(shape):
            got = "nothing" if shape is None else str(shape)
            raise ShapeError(
                "input does not fit", where=known.input, expected=f"axis {known.axis} of {known.symbol.name}", got=got
            )
        if shape[known.axis] not in known.symbol.sizes:
            raise ShapeError(
                "dimension out of bounds",
                where=f"input '{known.input}', axis {known.axis} ({known.symbol.name})",
                expected=known.symbol.bounds,
                got=str(shape[known.axis]),
                hint=f"compile the model again with other bounds: --dim {known.symbol.name}=LOW..HIGH",
            )
        found.append(shape[known.axis])
    return tuple(found)


def value_of(terms: Sequence[Term], quantities: Sequence[Any]) -> Any:
    """The sum of the terms."""
    total: Any = 0
    for term in terms:
        total = total + term.coefficient * math.prod(quantities[factor] for factor in term.factors)
    return total


# --- bytes ------------------------------------------------------------------------------------------------------------------


def write(shapes: Shapes, names: Sequence[tuple[int, int]], place: Any) -> bytes:
    """The section. ``names``: offset and bytes of each symbol's name; ``place(variant, patch)``: byte and width of the field."""
    patches = [(variant, patch) for variant in shapes.variants for patch in variant.patches]
    head = np.zeros((), HEAD)
    counts = (len(shapes.symbols), len(shapes.boxes), len(shapes.variants), len(shapes.derived), len(patches))
    for name, count in zip(HEAD.names or (), (*counts, sum(len(patch.terms) for _, patch in patches)), strict=False):
        head[name] = count
    symbols = [(*name, s.low, s.high, s.step, s.input, s.axis) for name, s in zip(names, shapes.symbols, strict=True)]
    boxes = [(_padded(box.low), _padded(box.high), box.variant, 0) for box in shapes.boxes]
    variants = [(len(v.steps), len(v.tensors), len(v.patches), 0) for v in shapes.variants]
    derived = [(d.source, d.divide, d.multiply, d.add) for d in shapes.derived]
    fields = [(p.kind, *place(v, p), len(p.terms), p.index, 0) for v, p in patches]
    terms = [(t.coefficient, [*t.factors, *[-1] * (MAX_FACTORS - len(t.factors))], 0) for _, p in patches for t in p.terms]
    tables = ((symbols, SYMBOL), (boxes, BOX), (variants, VARIANT), (derived, DERIVED), (fields, PATCH), (terms, TERM))
    return head.tobytes() + b"".join(np.array(rows, dtype).tobytes() for rows, dtype in tables)


def _padded(sizes: tuple[int, ...]) -> list[int]:
    return [*sizes, *[0] * (MAX_SYMBOLS - len(sizes))]


@dataclass(frozen=True, slots=True)
class Tables:
    """The section as record arrays."""

    symbols: Any
    boxes: Any
    variants: Any
    derived: Any
    patches: Any
    terms: Any


def tables(body: bytes) -> Tables:
    """Raises ValueError when the section is cut short."""
    head = np.frombuffer(body, HEAD, 1)[0]
    found, at = [], HEAD.itemsize
    for name, dtype in zip(HEAD.names or (), (SYMBOL, BOX, VARIANT, DERIVED, PATCH, TERM), strict=False):
        found.append(np.frombuffer(body, dtype, int(head[name]), at))
        at += found[-1].nbytes
    return Tables(*found)


def read(found: Tables, names: Sequence[str], variants: list[Variant], field_of: Any) -> Shapes:
    """The shapes of a section; ``variants`` come without patches, ``field_of(variant, record)`` gives field and position."""
    count = len(found.symbols)
    terms = iter(_terms(found.terms))
    records = iter(found.patches)
    for variant, row in zip(variants, found.variants, strict=True):
        for _ in range(int(row["n_patches"])):
            record = next(records)
            own = tuple(next(terms) for _ in range(int(record["n_terms"])))
            name, position = field_of(variant, record)
            variant.patches.append(Patch(int(record["kind"]), int(record["index"]), name, position, own))
    numbers = [[int(s[name]) for name in ("low", "high", "step", "input", "axis")] for s in found.symbols]
    symbols = [Symbol(name, *own) for name, own in zip(names, numbers, strict=True)]
    derived = [Derived(*(int(d[name]) for name in ("source", "multiply", "add", "divide"))) for d in found.derived]
    boxes = [Box(tuple(b["low"][:count].tolist()), tuple(b["high"][:count].tolist()), int(b["variant"])) for b in found.boxes]
    return Shapes(symbols, derived, boxes, variants)


def _terms(records: Any) -> Iterator[Term]:
    for record in records:
        yield Term(int(record["coefficient"]), tuple(f for f in record["factors"].tolist() if f >= 0))
