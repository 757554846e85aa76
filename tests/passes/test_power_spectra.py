"""Squares stay in float until their root or logarithm."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgezip.compression import compress
from edgezip.passes.place_qdq import place
from edgezip.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "pack"))

from pack_graphs import build, feeds_for, ints, node, run_everywhere, weights

MAGNITUDE = [
    node("Conv", ["x", "k"], "c", strides=[4]), node("Split", ["c"], ["re", "im"], axis=1, num_outputs=2),
    node("Pow", ["re", "two"], "p"), node("Mul", ["im", "im"], "q"), node("Add", ["p", "q"], "s"),
]  # fmt: skip
CONSTANTS = {"k": weights(12, 1, 16), "two": np.float32(2), "w": weights(8, 6, 3)}


@pytest.mark.parametrize("root", ["Sqrt", "Log"])
def test_magnitudes_are_quantised_behind_the_root(root: str) -> None:
    model = build([*MAGNITUDE, node(root, ["s"], "m"), node("Conv", ["m", "w"])], CONSTANTS, {"x": (1, 1, 64)})
    placement = place(model)
    assert {"Pow_p", "Mul_q", "Add_s", f"{root}_m"} <= set(placement.kept)
    assert {n.name for n in placement.products} == {"Conv_c", "Conv_y"}
    assert {"p", "q", "s"}.isdisjoint(placement.points)
    assert {"c", "m"} <= set(placement.points)
    feeds = feeds_for(model)
    small = compress(model, Recipe.int8(), calibration=[feeds]).model
    program, _ = run_everywhere(small, feeds)
    forms = {step.get("op"): step.get("form") for step in program.metadata["steps"]}
    assert forms["Conv"] == "int8"


def test_mel_filters_between_power_and_logarithm_stay_in_float() -> None:
    nodes = [
        *MAGNITUDE, node("MatMul", ["s", "mel"], "f"), node("Add", ["f", "tiny"], "g"), node("Log", ["g"], "h"),
        node("Conv", ["h", "w"]),
    ]  # fmt: skip
    constants = CONSTANTS | {"mel": np.abs(weights(13, 5)), "tiny": np.float32(1e-3)}
    model = build(nodes, constants, {"x": (1, 1, 64)})
    assert {n.name for n in place(model).products} == {"Conv_c", "Conv_y"}


def test_squares_without_a_root_are_quantised() -> None:
    model = build([*MAGNITUDE, node("Conv", ["s", "w"])], CONSTANTS, {"x": (1, 1, 64)})
    assert {"Pow_p", "Mul_q", "Add_s"}.isdisjoint(place(model).kept)
    model = build([node("Sqrt", ["x"], "r"), node("ReduceMean", ["r", "a"])], {"a": ints(1)})
    assert not place(model).kept
