"""Passes composed: ranges, the choice of method, the report, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "passes"))
import small_nets as models

from edgezip import compression, graph
from edgezip.compilation import compile as compile_model
from edgezip.compression import compress, ranges
from edgezip.errors import UsageError
from edgezip.passes.calibrate import calibrate
from edgezip.passes.measure_sqnr import measure_sqnr
from edgezip.passes.place_qdq import place
from edgezip.program import Op
from edgezip.recipe import Recipe
from edgezip.runtime.session import Session


def outputs_of(model, feeds, optimize=False):
    return np.concatenate([r["y"].ravel().astype(np.float64) for r in graph.run_many(model, iter(feeds), optimize=optimize)])


def db(exact, got):
    return 10 * np.log10((exact**2).sum() / max(((exact - got) ** 2).sum(), 1e-300))


def placed(model, feeds, method):
    found = place(model)
    return ranges(model, found, calibrate(model, sorted(found.points), iter(feeds)), method)


def test_softmax_takes_the_range_of_its_definition() -> None:
    model = models.load(
        [models.node("Conv", ["x", "w"], "c"), models.node("Flatten", ["c"], "f"), models.node("Softmax", ["f"], "y")],
        {"w": np.ones((2, 3, 1, 1), np.float32)},
        (1, 3, 2, 2),
    )
    scale, zero = placed(model, models.samples((1, 3, 2, 2)), "mse")["y"]
    assert (scale, zero) == (pytest.approx(1 / 255), -128)


@pytest.mark.parametrize("method", ["mse", "percentile", "entropy"])
def test_outputs_keep_all_that_was_seen(method: str) -> None:
    model = models.conv_net()
    feeds = models.samples(count=64)
    outlier = [*feeds, {"x": np.full((1, 3, 12, 12), 30, np.float32)}]
    exact = outputs_of(model, outlier, True)
    scale, _ = placed(model, outlier, method)["y"]
    assert scale * 255 >= (max(exact.max(), 0) - min(exact.min(), 0)) * 0.999


def test_sqnr_is_what_numpy_says() -> None:
    model, feeds = models.conv_net(), models.samples()
    small = compress(model, Recipe.int8("minmax"), calibration=feeds).model
    want = db(outputs_of(model, feeds, True), outputs_of(small, feeds, True))
    assert measure_sqnr(model, small, {"y": "y"}, feeds)["y"] == pytest.approx(want, abs=0.01)


def test_auto_is_as_good_as_the_best_of_its_methods() -> None:
    model, feeds = models.conv_net(), models.samples(count=12)
    exact = outputs_of(model, feeds, True)
    fixed = [Recipe.int8(m, correct_bias=b) for m in ("mse", "percentile", "minmax") for b in (True, False)]
    each = [db(exact, outputs_of(compress(model, r, calibration=feeds).model, feeds, True)) for r in fixed]
    assert db(exact, outputs_of(compress(model, calibration=feeds).model, feeds, True)) == pytest.approx(max(each), abs=0.01)
    assert max(each) - min(each) > 0.1  # otherwise any choice would pass


def test_keep_pattern_without_a_match_is_refused() -> None:
    with pytest.raises(UsageError, match="Convv"):
        compress(models.conv_net(), Recipe.int8(keep=("Convv",)), calibration=models.samples())


def test_model_that_is_quantised_already_is_refused() -> None:
    small = compress(models.conv_net(), calibration=models.samples()).model
    with pytest.raises(UsageError, match="quantised already"):
        compress(small, calibration=models.samples())


def test_pad_value_outside_the_range_is_not_clipped() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, 3, 1, 1)).astype(np.float32) * 0.1,
        "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "v": np.float32(5),
        "w2": rng.standard_normal((4, 4, 3, 3)).astype(np.float32),
    }
    model = models.load(
        [models.node("Conv", ["x", "w"], "c"), models.node("Pad", ["c", "p", "v"], "d"), models.node("Conv", ["d", "w2"], "y")],
        weights,
        (1, 3, 6, 6),
    )
    feeds = models.samples((1, 3, 6, 6))
    assert db(outputs_of(model, feeds), outputs_of(compress(model, calibration=feeds).model, feeds)) > 20


def test_report_calls_no_operator_int8_that_has_no_int8_form() -> None:
    model = models.load(
        [
            models.node("Conv", ["x", "w"], "c"),
            models.node("Abs", ["c"], "e"),
            models.node("Sigmoid", ["x"], "a"),
            models.node("Pow", ["a", "e"], "y"),
        ],
        {"w": np.ones((3, 3, 1, 1), np.float32)},
        (1, 3, 4, 4),
    )
    assert {r.op: r.form for r in compress(model, calibration=models.samples((1, 3, 4, 4))).report.layers}["Pow"] != "int8"


def test_parts_of_a_table_are_reported_as_int8() -> None:
    nodes = [
        models.node("Conv", ["x", "w"], "c"),
        models.node("Sigmoid", ["c"], "s"),
        models.node("Mul", ["c", "s"], "m"),
        models.node("Flatten", ["m"], "f"),
        models.node("Gemm", ["f", "v"], "y"),
    ]
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(dims).astype(np.float32) for name, dims in {"w": (4, 3, 1, 1), "v": (64, 5)}.items()}
    model, feeds = models.load(nodes, weights, (1, 3, 4, 4)), models.samples((1, 3, 4, 4))
    forms = {row.name: row.form for row in compress(model, calibration=feeds).report.layers}
    assert set(forms.values()) == {"int8"}
    kept = {row.name: row.form for row in compress(model, Recipe.int8(keep=("Gemm",)), calibration=feeds).report.layers}
    assert kept["y_node"] == "float32"
    assert kept["c_node"] == "int8"


def test_rows_quantised_at_run_time_need_no_calibration() -> None:
    rng = np.random.default_rng(3)
    shapes = {"w": (24, 16), "b": (16,), "v": (16, 10)}
    model = models.load(
        [models.node("MatMul", ["x", "w"], "m"), models.node("Add", ["m", "b"], "n"), models.node("Tanh", ["n"], "g"),
         models.node("MatMul", ["g", "v"], "y")],
        {name: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}, (1, 5, 24),
    )  # fmt: skip
    made = compress(model, Recipe.int8(activations="dynamic")).model
    marked = [n.op_type for n in graph.nodes(made) if graph.get_metadata(n, graph.DYNAMIC_ROWS[0])]
    assert marked == ["MatMul", "MatMul"]
    assert not any(n.op_type == "QuantizeLinear" for n in graph.nodes(made))
    program = compile_model(made, vectors=0)
    assert [step.op for step in program.steps].count(Op.LINEAR) == 2
    feeds = {"x": rng.standard_normal((1, 5, 24)).astype(np.float32)}
    assert db(graph.run(model, feeds)["y"], Session(program).run(feeds)["y"]) > 35


def test_low_bit_weights_under_rows_quantised_at_run_time_stay_packed() -> None:
    weight = np.random.default_rng(3).uniform(-0.5, 0.5, (96, 40)).astype(np.float32)
    model = models.load([models.node("MatMul", ["x", "w"], "y")], {"w": weight}, (1, 5, 96))
    int4: dict[str, Any] = {"quantize_weights": {"method": "nearest"}}
    made = compress(model, Recipe.of([int4], Recipe.int8(activations="dynamic"))).model
    program = compile_model(made, vectors=0)
    assert [step.op for step in program.steps] == [Op.CODES]
    assert program.tensors[program.steps[0].inputs[1]].bytes == 3 * 3 * (16 * 32 // 2 + 16 * 2)  # 3 panels, 3 blocks of 32
    feeds = {"x": np.random.default_rng(4).standard_normal((1, 5, 96)).astype(np.float32)}
    assert db(graph.run(made, feeds)["y"], Session(program).run(feeds)["y"]) > 35


def test_static_int8_without_calibration_is_refused() -> None:
    with pytest.raises(UsageError, match="needs calibration"):
        compress(models.conv_net(), Recipe.int8())


def test_samples_kept_for_the_choice_of_method_fit_with_what_the_float_network_gives_for_them() -> None:
    """A network that gives a hundred times what it takes, say a map of classes, would else hold gigabytes."""
    feed = {"x": np.zeros((1, 3, 64, 64), np.float32)}
    probe: list[Any] = []
    while compression._has_room(probe, feed, 0):
        probe.append(feed)
    assert len(probe) == min(compression.PROBE_SAMPLES, compression.PROBE_BYTES // feed["x"].nbytes)
    wide = 100 * feed["x"].nbytes
    held = probe[:1]
    while compression._has_room(held, feed, wide):
        held.append(feed)
    assert len(held) == compression.PROBE_OUTPUT_BYTES // wide < len(probe)
    assert compression._has_room([], feed, 10**12)  # one there must be
