"""In which order columns lose least when N of each M neighbours stay: a search by exchanges between groups.

Pool and Yu, "Channel Permutations for N:M Sparsity", 2021, have the aim; here groups are paired at random, round after round, and
every pair makes its best exchange of one column, all pairs at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROUNDS = 60
ROWS = 256  # of the saliencies that the search looks at; the result is checked on all
PAIRS = 64  # that are tried at a time: bounds the memory


def kept_score(saliency: Array, n: int, m: int) -> float:
    """Sum of the ``n`` largest of each ``m`` neighbours of every row; the columns are a whole number of groups."""
    return float(_kept(saliency.reshape(len(saliency), -1, m), n).sum())


def order_columns(saliency: Array, n: int, m: int, seed: int = 0) -> Array:
    """An order (K,) of the columns of ``saliency`` (rows, K), K a multiple of ``m``, that keeps no less than the given one."""
    generator = np.random.default_rng(seed)
    rows, columns = saliency.shape
    seen = saliency if rows <= ROWS else saliency[np.sort(generator.choice(rows, ROWS, replace=False))]
    seen = np.ascontiguousarray(seen.T, dtype=np.float32)  # (K, rows)
    groups = np.arange(columns).reshape(-1, m)
    for _ in range(ROUNDS if len(groups) > 1 else 0):
        shuffled = generator.permutation(len(groups))
        pairs = shuffled[: len(groups) // 2 * 2].reshape(-1, 2)
        for first in range(0, len(pairs), PAIRS):
            _exchange(seen, groups, pairs[first : first + PAIRS], n)
    order = groups.reshape(-1)
    return order if kept_score(saliency[:, order], n, m) > kept_score(saliency, n, m) else np.arange(columns)


def _exchange(seen: Array, groups: Array, pairs: Array, n: int) -> None:
    """The best exchange of one column in each pair of groups; edits ``groups``."""
    m = groups.shape[1]
    left, right = seen[groups[pairs[:, 0]]], seen[groups[pairs[:, 1]]]  # (pairs, m, rows)
    best = _best(left, n) + _best(right, n)
    choice = np.full(len(pairs), -1)
    for i in range(m):
        for j in range(m):
            a, b = left.copy(), right.copy()
            a[:, i], b[:, j] = right[:, j], left[:, i]
            score = _best(a, n) + _best(b, n)
            better = score > best * (1 + 1e-6)
            best, choice = np.where(better, score, best), np.where(better, i * m + j, choice)
    for (p, q), chosen in zip(pairs, choice, strict=True):
        if chosen >= 0:
            i, j = divmod(int(chosen), m)
            groups[p, i], groups[q, j] = groups[q, j], groups[p, i]


def _best(columns: Array, n: int) -> Array:
    """(pairs,): what each group (m, rows) keeps."""
    return np.asarray(_kept(np.moveaxis(columns, 1, -1), n).sum(axis=1, dtype=np.float64))


def _kept(groups: Array, n: int) -> Array:
    """(..., groups): the sum of the ``n`` largest of the last axis."""
    m = groups.shape[-1]
    return np.asarray(np.partition(groups, m - n, axis=-1)[..., m - n :].sum(axis=-1))
