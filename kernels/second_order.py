"""Rounding and removing weights one column after another, with the error of each pushed onto the columns still to come.

A layer is ``y = W x`` with W (outputs, K) and the second moment of its inputs H = E[x x^T] (K, K). Changing W by D costs
``tr(D H D^T)``, the mean squared error of the outputs. Fixing column j and letting the later columns answer in the best way
changes them by ``-(error_j / U[j, j]) U[j, j+1:]``, where U is the upper Cholesky factor of the inverse of H.

Frantar et al., "GPTQ", 2022 (rounding) and Frantar and Alistarh, "SparseGPT", 2023 (removing); both are Optimal Brain Surgeon
(Hassibi and Stork, 1992) in a fixed order. All arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgezip.kernels import jit_rounding

Array = np.ndarray[Any, Any]
BLOCK = 128  # columns whose errors are gathered before they are pushed onto the rest: one product instead of 128 updates
DAMPING = 0.01  # of the mean diagonal, as both papers have it
STRONGEST_DAMPING = 1e4
SMALL = 64  # triangles that LAPACK inverts as they are


class Points(Protocol):
    """Where changed weights may lie: an even grid, or a table of values."""

    def codes(self, weights: Array) -> Array:
        """The nearest point's code for each weight (outputs, K)."""
        ...

    def values(self, codes: Array) -> Array:
        """What the codes stand for, float64."""
        ...

    def laid_out(self, shape: tuple[int, int]) -> Layout:
        """The same for compiled loops over ``shape`` = (outputs, K)."""
        ...


@dataclass(frozen=True, slots=True)
class Layout:
    """Points for ``jit_rounding``: ``scale`` and ``zero`` (outputs, K), bounds of the codes, and the table's entries or none."""

    scale: Array
    zero: Array
    low: int
    high: int
    centres: Array

    def ordered(self, order: Array) -> Layout:
        """For columns in another order."""
        return Layout(self.scale[:, order], self.zero[:, order], self.low, self.high, self.centres)

    @property
    def arguments(self) -> tuple[Array, Array, int, int, Array]:
        """In the order in which the loops take them."""
        return self.scale, self.zero, self.low, self.high, self.centres


@dataclass(frozen=True, slots=True)
class Grid:
    """Where quantised weights may lie: ``(q - zero_point) * scale`` for whole q in [low, high].

    ``scale`` and ``zero_point``: (outputs, K), or anything that broadcasts to it.
    """

    scale: Array
    zero_point: Array
    low: int
    high: int

    def codes(self, weights: Array) -> Array:
        """The nearest q of each weight, halves to even."""
        return np.asarray(np.clip(np.rint(weights / self.scale) + self.zero_point, self.low, self.high))

    def values(self, codes: Array) -> Array:
        """What the codes stand for, float64."""
        return np.asarray((codes - self.zero_point) * self.scale)

    def rounded(self, weights: Array) -> Array:
        """Each weight on its nearest point of the grid."""
        return self.values(self.codes(weights))

    def laid_out(self, shape: tuple[int, int]) -> Layout:
        """For ``jit_rounding``."""
        scale, zero = (
            np.ascontiguousarray(np.broadcast_to(np.asarray(held, np.float64), shape)) for held in (self.scale, self.zero_point)
        )
        return Layout(scale, zero, self.low, self.high, np.zeros(0))


def inverse_factor(hessian: Array, damping: float = DAMPING) -> Array:
    """Upper triangular U (K, K) with U^T U the inverse of H plus ``damping`` times its mean diagonal.

    Columns that no input ever reached (H[j, j] = 0) count as independent. Damping is raised tenfold while H is not positive
    definite in floating point. Raises ValueError when H holds a number that is not finite.
    """
    if not np.isfinite(hessian).all():
        raise ValueError("the second moment of the inputs is not finite")
    symmetric = hessian.astype(np.float64, copy=True)
    diagonal = np.einsum("ii->i", symmetric)
    diagonal[diagonal == 0] = 1.0
    mean = float(diagonal.mean())
    while True:
        damped = symmetric + np.eye(len(symmetric)) * damping * mean
        try:
            # With E the exchange of first and last: chol(E inv(H) E) = E U^T E, and chol(E H E) = L gives inv(H) = E L^-T L^-1 E.
            lower = np.linalg.cholesky(damped[::-1, ::-1])
            return np.ascontiguousarray(_inverse_of_lower(lower)[::-1, ::-1])
        except np.linalg.LinAlgError:
            damping = max(damping, 1e-6) * 10
            if damping > STRONGEST_DAMPING:
                raise ValueError("the second moment of the inputs is not positive") from None


def _inverse_of_lower(lower: Array) -> Array:
    """By halves: the two triangles on the diagonal, then the square below them as a product."""
    size = len(lower)
    if size <= SMALL:
        return np.tril(np.linalg.inv(lower))
    half = size // 2
    first, second = _inverse_of_lower(lower[:half, :half]), _inverse_of_lower(lower[half:, half:])
    made = np.zeros_like(lower)
    made[:half, :half], made[half:, half:] = first, second
    made[half:, :half] = -second @ lower[half:, :half] @ first
    return made


def output_error(change: Array, hessian: Array) -> float:
    """``tr(D H D^T)``: the summed mean squared error of the outputs when the weights change by D (outputs, K)."""
    return float(np.einsum("ij,ij->", change @ hessian, change))


def gptq(weights: Array, hessian: Array, grid: Points, *, by_activity: bool = True, damping: float = DAMPING) -> Array:
    """Codes (outputs, K) on ``grid`` of ``weights`` (outputs, K), rounded column by column with error feedback.

    ``by_activity``: columns of strong inputs first ("act-order"); the grid stays as it is, so groups stay contiguous ("static
    groups"). Never worse than plain rounding: rows that error feedback made worse (it is greedy) keep their nearest codes.
    """
    dense = hessian.astype(np.float64)
    order = np.argsort(-np.diag(dense), kind="stable") if by_activity else np.arange(len(dense))
    source = weights.astype(np.float64)
    factor = inverse_factor(dense[np.ix_(order, order)], damping)
    fed = np.empty(source.shape, np.int64)
    points = grid.laid_out(source.shape).ordered(order)
    jit_rounding.feed_back(np.ascontiguousarray(source[:, order]), factor, *points.arguments, fed)
    codes = np.empty(source.shape)
    codes[:, order] = fed
    plain = grid.codes(source)
    worse = _row_errors(grid.values(codes) - weights, dense) > _row_errors(grid.values(plain) - weights, dense)
    codes[worse] = plain[worse]
    return codes


def _row_errors(change: Array, hessian: Array) -> Array:
    return np.einsum("ij,ij->i", change @ hessian, change)


def descend(weights: Array, hessian: Array, grid: Points, codes: Array, sweeps: int = 8) -> Array:
    """``codes`` (outputs, K) moved along one column after another to where the output error is least, until nothing moves.

    Each move is the exact minimum for that column with the others fixed, so no sweep raises the error. Behdin et al.,
    "QuantEase", 2023, equation 6; started from ``gptq`` it ends below it.
    """
    second = hessian.astype(np.float64) + np.diag(np.where(np.diag(hessian) > 0, 0.0, 1.0))
    held = codes.astype(np.int64)
    pull = np.ascontiguousarray((grid.values(held) - weights) @ second)
    jit_rounding.go_down(second, pull, *grid.laid_out(held.shape).arguments, held, sweeps)
    return held.astype(np.float64)


# ---------------------------------------------------------------- removing


# saliency (outputs, width) of a block of columns that begins at a column -> which of them to keep
Choose = Callable[[Array, int], Array]


def obs_prune(weights: Array, hessian: Array, choose: Choose, *, width: int = BLOCK, damping: float = DAMPING) -> Array:
    """``weights`` (outputs, K) with zeros where ``choose`` says and the rest updated for the least output error, float64.

    Masks are chosen for ``width`` columns at a time, by ``w^2 / U[j, j]^2`` of the weights as the columns before left them.
    """
    factor = inverse_factor(hessian, damping)
    held = weights.astype(np.float64).copy()
    for first in range(0, held.shape[1], width):
        last = min(first + width, held.shape[1])
        saliency = held[:, first:last] ** 2 / np.diag(factor)[first:last] ** 2
        keep = choose(saliency, first)
        errors = np.zeros((len(held), last - first))
        for j in range(first, last):
            removed = np.where(keep[:, j - first], 0.0, held[:, j])
            errors[:, j - first] = removed / factor[j, j]
            held[:, j:last] -= np.outer(errors[:, j - first], factor[j, j:last])
            held[~keep[:, j - first], j] = 0.0
        held[:, last:] -= errors @ factor[first:last, last:]
    return held


def refit(weights: Array, hessian: Array, keep: Array, cross: Array | None = None, damping: float = 1e-6) -> Array:
    """Least squares of the kept weights (outputs, K) for a given mask: the best that any update can reach, float64.

    Minimises the output error against ``weights`` on inputs of second moment ``hessian`` (K, K). ``cross``: E[x_old x_new^T] when
    the inputs themselves changed; the target is then what ``weights`` gave on the old ones.
    """
    second = hessian.astype(np.float64) + np.eye(len(hessian)) * damping * max(float(np.diag(hessian).mean()), 1e-30)
    wanted = weights.astype(np.float64) @ (second if cross is None else cross.astype(np.float64))
    held = np.zeros(weights.shape)
    patterns, which = np.unique(keep, axis=0, return_inverse=True)
    for number, mask in enumerate(patterns):
        rows, columns = np.flatnonzero(which.reshape(-1) == number), np.flatnonzero(mask)
        if len(columns):
            solved = np.linalg.solve(second[np.ix_(columns, columns)], wanted[np.ix_(rows, columns)].T)
            held[np.ix_(rows, columns)] = solved.T
    return held


def ridge(weights: Array, second: Array, cross: Array, keep: Array, damping: Array, sweeps: int = 15) -> Array:
    """The kept weights (outputs, K) that give ``cross`` = E[y x^T] (outputs, K) best on inputs of ``second`` = E[x x^T], float64.

    ``damping`` (K,), of the mean diagonal, holds them to ``weights``. Rows of one mask are solved for exactly; with masks of
    their own they go down together by conjugate gradients, at most ``sweeps`` steps. What is not kept stays as it is.
    """
    unit = max(float(np.diag(second).mean()), 1e-30)
    damped = second + np.diag(np.maximum(damping, 1e-9) * unit)  # inputs that are never met leave no singular matrix
    pull = np.where(keep, cross - weights @ second, 0.0)
    columns = np.flatnonzero(keep.any(axis=0))
    if not len(columns):
        return weights.astype(np.float64)
    if keep[:, columns].all():
        step = np.zeros(weights.shape)
        step[:, columns] = np.linalg.solve(damped[np.ix_(columns, columns)], pull[:, columns].T).T
        return np.asarray(weights + step)
    return np.asarray(weights + _conjugate(damped, pull, keep, sweeps))


def _conjugate(matrix: Array, wanted: Array, keep: Array, sweeps: int) -> Array:
    """Each row x of the result minimises ``x M x / 2 - b x`` over its kept columns; preconditioned by the diagonal."""
    inverse = 1 / np.diag(matrix)
    found, left = np.zeros(wanted.shape), wanted.copy()
    toward = left * inverse
    energy = np.einsum("ij,ij->i", left, toward)
    first = energy.copy()
    for _ in range(sweeps):
        along = np.where(keep, toward @ matrix, 0.0)
        curve = np.einsum("ij,ij->i", toward, along)
        length = np.divide(energy, curve, out=np.zeros_like(energy), where=curve > 0)[:, None]
        found += length * toward
        left -= length * along
        scaled = left * inverse
        fresh = np.einsum("ij,ij->i", left, scaled)
        if (fresh <= 1e-12 * first).all():
            break
        toward = scaled + np.divide(fresh, energy, out=np.zeros_like(fresh), where=energy > 0)[:, None] * toward
        energy = fresh
    return found
