"""Patterns of kept weights."""

from __future__ import annotations

import numpy as np
import pytest

from edgezip.kernels import sparse_masks


def _saliency(outputs: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((outputs, columns))


@pytest.mark.parametrize("density", [0.1, 0.5, 0.97])
def test_unstructured_keeps_the_largest(density: float) -> None:
    saliency = _saliency(9, 13)
    keep = sparse_masks.unstructured(saliency, density)
    assert keep.sum() == round(density * saliency.size)
    assert saliency[keep].min() > saliency[~keep].max()


def test_by_row_keeps_as_many_of_each_row() -> None:
    keep = sparse_masks.by_row(_saliency(6, 10), 0.3)
    assert (keep.sum(axis=1) == 3).all()


@pytest.mark.parametrize("columns", [8, 9, 10, 11])
def test_two_of_four_keeps_at_most_two_of_each_four(columns: int) -> None:
    saliency = _saliency(5, columns)
    keep = sparse_masks.n_of_m(saliency, 2, 4)
    for at in range(0, columns, 4):
        part = keep[:, at : at + 4]
        assert (part.sum(axis=1) == -(-part.shape[1] // 2)).all()


def test_ties_go_to_the_first() -> None:
    assert sparse_masks.n_of_m(np.ones((1, 4)), 2, 4).tolist() == [[True, True, False, False]]
    assert sparse_masks.unstructured(np.ones((1, 4)), 0.5).tolist() == [[True, True, False, False]]


def test_groups_begin_anew_with_every_span() -> None:
    groups = sparse_masks.column_groups(6, 2, 4)
    assert [(g.start, g.stop) for g in groups] == [(0, 4), (4, 6), (6, 10), (10, 12)]


def test_blocks_go_whole_and_small_ones_are_not_at_a_loss() -> None:
    saliency = _saliency(20, 12)
    saliency[16:, 8:] = 2.0  # the smallest block, 4 x 2 of 16 x 4, is the most important one
    groups = sparse_masks.column_groups(6, 2, 4)
    keep = sparse_masks.blocks(saliency, 0.5, groups, 16)
    kept = np.array([[keep[r : r + 16, g].all() for g in groups] for r in (0, 16)])
    gone = np.array([[not keep[r : r + 16, g].any() for g in groups] for r in (0, 16)])
    assert (kept ^ gone).all()
    assert kept.sum() == 4
    assert kept[1, 3]
