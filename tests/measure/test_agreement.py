"""SQNR, cosine, top-1 against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgezip.errors import ShapeError
from edgezip.measure.agreement import Agreement


def agreement(*pairs: tuple[list[float], list[float]]) -> Agreement:
    found = Agreement()
    for reference, candidate in pairs:
        found.add(np.array([reference], np.float32), np.array([candidate], np.float32))
    return found


def test_equal_answers_agree_fully() -> None:
    found = agreement(([1, 2, 3], [1, 2, 3]))
    assert (found.sqnr_db, found.top1_agreement, found.max_abs_error) == (math.inf, 1.0, 0.0)
    assert found.cosine == pytest.approx(1)


def test_a_tenth_of_the_amplitude_is_twenty_decibels() -> None:
    assert agreement(([10, 0], [9, 0])).sqnr_db == pytest.approx(20)


def test_samples_are_pooled_not_averaged() -> None:
    # signal 100 + 1, error 0 + 1
    assert agreement(([10], [10]), ([1], [0])).sqnr_db == pytest.approx(10 * math.log10(101))


def test_orthogonal_answers_have_cosine_zero() -> None:
    found = agreement(([1, 0], [0, 1]))
    assert (found.cosine, found.top1_agreement, found.max_abs_error) == (0, 0, 1)


def test_top1_counts_each_sample() -> None:
    assert agreement(([1, 0], [2, 0]), ([1, 0], [0, 2]), ([0, 1], [0, 2]), ([0, 1], [0, 3])).top1_agreement == 0.75


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ShapeError):
        Agreement().add(np.zeros((1, 2)), np.zeros((2, 1)))
