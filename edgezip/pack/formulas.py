"""Integers that change with the size of dynamic dimensions, as formulas of a small class.

A formula is a sum of up to three terms, coefficient * product of up to three quantities; quantities are the sizes themselves and
floor((a * quantity + b) / c), which is what strides, windows and rounding make of a dimension. What is fitted holds for every
sample, exactly; the caller proves it on sizes that were not among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from edgezip.dynamic import MAX_FACTORS, Derived, Term

Array = np.ndarray[Any, Any]
MOST_DIVISOR = 64
MOST_CUBIC = 8  # quantities up to which products of three are tried
MOST_SQUARE = 24


@dataclass(slots=True)
class Formulas:
    """Quantities found so far, and the formula of each vector of values (one a sample)."""

    sizes: list[Array]  # int64, of each symbol over the samples
    derived: list[Derived] = field(default_factory=list)
    _values: list[Array] = field(default_factory=list)  # of the derived
    _spans: list[tuple[int, int]] = field(default_factory=list)  # of each derived: every ``add`` in it fits all samples
    _known: dict[bytes, tuple[Term, ...] | None] = field(default_factory=dict)

    @property
    def quantities(self) -> list[Array]:
        """Values of every quantity over the samples."""
        return [*self.sizes, *self._values]

    def terms(self, values: Sequence[int]) -> tuple[Term, ...] | None:
        """The formula of these values, or None."""
        vector = np.asarray(values, np.int64)
        key = vector.tobytes()
        if self._known.get(key) is None:
            self._known[key] = self._sum(vector) or self._floor(vector)
        return self._known[key]

    # --- sums of products ---------------------------------------------------------------------------------------------

    def _sum(self, v: Array) -> tuple[Term, ...] | None:
        if (v == v[0]).all():
            return (Term(int(v[0])),)
        one, square, cubic = self._products()
        for names in (one, square, cubic):
            for with_constant in (False, True):
                found = self._one_term(v, names, with_constant)
                if found is not None:
                    return found
        for names in ([*one, *square], [*one, *square, *cubic]):
            for with_constant in (False, True):
                found = self._two_terms(v, names, with_constant)
                if found is not None:
                    return found
        return None

    def _products(self) -> tuple[list[tuple[int, ...]], ...]:
        """Names of products of one, two and three quantities."""
        count = len(self.quantities)
        limits = (count, min(count, MOST_SQUARE), min(count, MOST_CUBIC))
        return tuple(
            list(combinations_with_replacement(range(limit), degree + 1)) for degree, limit in enumerate(limits[:MAX_FACTORS])
        )

    def _value(self, name: tuple[int, ...]) -> Array:
        quantities = self.quantities
        return np.asarray(math.prod((quantities[i] for i in name), start=np.ones_like(self.sizes[0])), np.int64)

    def _one_term(self, v: Array, names: list[tuple[int, ...]], with_constant: bool) -> tuple[Term, ...] | None:
        """coefficient * product, and a constant on request."""
        for name in names:
            m = self._value(name)
            i = int(np.argmax(m != m[0]))
            if with_constant:
                top, bottom = int(v[i] - v[0]), int(m[i] - m[0])
            else:
                top, bottom = int(v[0]), int(m[0])
            if not bottom or top % bottom:
                continue
            k = top // bottom
            constant = int(v[0] - k * m[0])
            if (k * m + constant == v).all():
                return (Term(k, name), *([Term(constant)] if constant else []))
        return None

    def _two_terms(self, v: Array, names: list[tuple[int, ...]], with_constant: bool) -> tuple[Term, ...] | None:
        """Two products, and a constant on request: coefficients from the first samples that tell them apart, proved on all."""
        if len(v) < 3 + with_constant or not names:
            return None
        matrix = np.stack([self._value(name) for name in names])
        if with_constant:
            matrix, target = matrix[:, 1:] - matrix[:, :1], v[1:] - v[0]
        else:
            target = v
        for i, j in _apart(len(target)):
            found = self._solved(v, names, matrix, target, i, j)
            if found is not None:
                return found
        return None

    def _solved(
        self, v: Array, names: list[tuple[int, ...]], matrix: Array, target: Array, i: int, j: int
    ) -> tuple[Term, ...] | None:
        """The two products whose coefficients samples ``i`` and ``j`` give, if they hold for all."""
        det = np.multiply.outer(matrix[:, i], matrix[:, j])
        det = det - det.T
        top_a = target[i] * matrix[None, :, j] - target[j] * matrix[None, :, i]
        with np.errstate(all="ignore"):
            fits = (det != 0) & (top_a % np.where(det, det, 1) == 0)
        for p, q in np.argwhere(fits):
            a = int(top_a[0, q]) // int(det[p, q])
            rest = target - a * matrix[p]
            bottom = int(matrix[q, i]) or int(matrix[q, j])
            k = int(rest[i] if matrix[q, i] else rest[j])
            if not bottom or k % bottom:
                continue
            b = k // bottom
            if a and b and (a * matrix[p] + b * matrix[q] == target).all():
                constant = int(v[0] - a * self._value(names[p])[0] - b * self._value(names[q])[0])
                terms = (Term(a, names[p]), Term(b, names[q]))
                return (*terms, Term(constant)) if constant else terms
        return None

    # --- floors -------------------------------------------------------------------------------------------------------

    def _floor(self, v: Array) -> tuple[Term, ...] | None:
        """gcd * floor((a * quantity + b) / c): a new quantity."""
        common = int(np.gcd.reduce(np.abs(v)))
        for scale in dict.fromkeys((1, common)):
            for source, q in enumerate(self.quantities):
                found = _floor_of(v // max(scale, 1), q)
                if found is None:
                    continue
                a, c, low, high = found
                self.derived.append(Derived(source, a, low, c))
                self._spans.append((low, high))
                self._values.append(v // max(scale, 1))
                self._known.clear()
                return (Term(max(scale, 1), (len(self.quantities) - 1,)),)
        return None

    def ordinal(self, source: int, low: int, step: int) -> int:
        """The quantity that numbers the sizes low, low + step, ... of a symbol from 0."""
        self.derived.append(Derived(source, 1, -low, step))
        self._spans.append((-low, -low))
        self._values.append((self.sizes[source] - low) // step)
        return len(self.quantities) - 1

    def undecided(self, sizes: Sequence[Array]) -> int | None:
        """Index into ``sizes`` (all sizes, one array a symbol) of one that would tell what is still open, or None."""
        values = list(sizes)
        for d, (low, high) in zip(self.derived, self._spans, strict=True):
            remainder = (d.multiply * values[d.source] + low) % d.divide
            turning = low + d.divide - remainder  # the least ``add`` that gives one more
            useful = np.flatnonzero(turning <= high)
            if useful.size:
                return int(useful[np.argmin(np.abs(turning[useful] - (low + high + 1) / 2))])
            values.append((d.multiply * values[d.source] + d.add) // d.divide)
        return None


def _apart(count: int) -> list[tuple[int, int]]:
    """Pairs of samples: where two quantities are in proportion at one pair they are not at the next."""
    last = count - 1
    others = [k for k in (1, 2, 3, count // 2, count // 3) if 0 < k < last]
    return list(dict.fromkeys([(0, last), *((k, last) for k in others), *((0, k) for k in others)]))


def _floor_of(v: Array, q: Array) -> tuple[int, int, int, int] | None:
    """(a, c, least b, greatest b) with v == (a * q + b) // c; the least c that fits."""
    low, high = int(np.argmin(q)), int(np.argmax(q))
    if q[low] == q[high]:
        return None
    slope = (int(v[high]) - int(v[low])) / (int(q[high]) - int(q[low]))
    for c in range(1, MOST_DIVISOR + 1):
        for a in sorted(
            {math.floor(slope * c) - 1, math.floor(slope * c), math.ceil(slope * c), math.ceil(slope * c) + 1}, key=abs
        ):
            if not a or math.gcd(a, c) > 1:
                continue
            least, greatest = int((c * v - a * q).max()), int((c * v + c - 1 - a * q).min())
            if least <= greatest:
                return a, c, least, greatest
    return None
