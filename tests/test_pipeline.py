"""Passes in a row: composed by a recipe, kept by digest, and ending with the same bytes after an interruption."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "passes"))
from small_nets import conv_net, load, node

import edgezip
from edgezip import graph, pipeline
from edgezip.compression import compress
from edgezip.errors import UsageError
from edgezip.passes.sample_set import SampleSet
from edgezip.recipe import Recipe

STEPS = [
    {"factorize": {"rank": 0.5, "multiple": 1}},
    {"prune": {"sparsity": 0.5, "pattern": "1x1"}},
    {"quantize_weights": {"bits": 4, "per": "channel"}},
]


def _feeds(count: int = 4) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    return [{"x": generator.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(count)]


def test_each_step_begins_where_the_last_ended() -> None:
    small = compress(conv_net(), Recipe.of(STEPS), calibration=_feeds())
    assert [report.name for report in small.report.passes] == ["factorize", "prune", "quantize_weights"]
    held = [graph.constant(value) for value in graph.initializers(small.model) if (value.name or "").endswith("_quantized")]
    codes = np.concatenate([array.astype(int).reshape(-1) for array in held if array is not None])
    assert (codes == 0).mean() > 0.4  # zeros of the pruned weights are still there
    assert small.report.bytes_after < 0.3 * small.report.bytes_before
    assert 0 < min(small.report.output_sqnr_db.values()) < 40


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = graph.to_bytes(compress(conv_net(), Recipe.of(STEPS), calibration=_feeds()).model)
    real = dict(pipeline._RUN)

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(pipeline._RUN, "quantize_weights", killed)
    with pytest.raises(KeyboardInterrupt):
        compress(conv_net(), Recipe.of(STEPS), calibration=_feeds(), cache_dir=tmp_path)
    monkeypatch.setitem(pipeline._RUN, "prune", killed)  # what is kept must not run again
    monkeypatch.setitem(pipeline._RUN, "factorize", killed)
    monkeypatch.setitem(pipeline._RUN, "quantize_weights", real["quantize_weights"])
    resumed = compress(conv_net(), Recipe.of(STEPS), calibration=_feeds(), cache_dir=tmp_path)
    assert [report.from_cache for report in resumed.report.passes] == [True, True, False]
    assert graph.to_bytes(resumed.model) == whole


def test_other_data_or_options_are_another_result(tmp_path: Path) -> None:
    def run(steps: list[dict[str, Any]], feeds: list[dict[str, np.ndarray]]) -> bool:
        small = compress(conv_net(), Recipe.of(steps), calibration=feeds, cache_dir=tmp_path)
        return small.report.passes[0].from_cache

    first = [{"prune": {"sparsity": 0.5, "pattern": "1x1"}}]
    assert [run(first, _feeds()), run(first, _feeds()), run(first, _feeds(5))] == [False, True, False]
    assert not run([{"prune": {"sparsity": 0.6, "pattern": "1x1"}}], _feeds())


def test_half_a_result_in_the_cache_is_made_again(tmp_path: Path) -> None:
    recipe = Recipe.of([{"prune": {"sparsity": 0.5, "pattern": "1x1"}}])
    whole = graph.to_bytes(compress(conv_net(), recipe, calibration=_feeds(), cache_dir=tmp_path).model)
    (rows,) = (tmp_path / "passes").glob("*.json")
    rows.unlink()
    rows.with_suffix(".onnx").write_bytes(b"half")
    again = compress(conv_net(), recipe, calibration=_feeds(), cache_dir=tmp_path)
    assert not again.report.passes[0].from_cache
    assert graph.to_bytes(again.model) == whole


def test_methods_without_data_run_without_and_others_say_what_they_need() -> None:
    free = [{"prune": {"sparsity": 0.5, "pattern": "1x1", "method": "magnitude"}}, {"cluster": {"count": 4}}]
    small = compress(conv_net(), Recipe.of(free))
    assert {layer.form for layer in small.report.layers} == {"codebook of 4"}
    assert small.report.output_sqnr_db == {}
    for steps in ([{"prune": {"sparsity": 0.5}}], [{"quantize_weights": {}}]):
        with pytest.raises(UsageError, match="needs calibration data"):
            compress(conv_net(), Recipe.of(steps))


def test_int8_after_other_passes_works_on_what_they_left() -> None:
    small = compress(conv_net(), Recipe.of(STEPS[1:2], Recipe.int8("minmax")), calibration=_feeds())
    assert small.report.method == "minmax"
    assert [report.name for report in small.report.passes] == ["prune"]
    assert max(layer.sparsity for layer in small.report.layers if layer.form == "int8") >= 0.4


def test_samples_can_be_gone_through_twice_and_their_digest_knows_every_byte() -> None:
    feeds = _feeds()
    samples = SampleSet(lambda: feeds)
    assert len(list(samples())) == len(list(samples())) == len(samples) == 4
    changed = [dict(feed) for feed in feeds]
    changed[2]["x"] = changed[2]["x"].copy()
    changed[2]["x"][0, 0, 0, 0] += 1e-3
    assert SampleSet(lambda: changed).digest != samples.digest


def test_four_bit_weights_keep_their_codes_under_int8_activations() -> None:
    """W4A8: what the program multiplies by are the codes of the pass before, and it gives what ONNX Runtime gives."""
    feeds = _feeds(8)
    steps = [{"quantize_weights": {"bits": 4, "per": "channel"}}]
    small = compress(conv_net(), Recipe.of(steps, Recipe.int8("minmax", correct_bias=False)), calibration=feeds)
    stored = graph.constant(graph.find_value(small.model, "w1_quantized"))
    assert stored is not None
    assert stored.dtype.name == "int4"
    assert {layer.form for layer in small.report.layers if layer.bytes_before} == {"int8"}
    program = edgezip.compile(small, "host")
    session = edgezip.Session(program)
    exact = [graph.run(small.model, feed, optimize=False)["y"] for feed in feeds]
    made = [session.run(feed)["y"] for feed in feeds]
    step = graph.constant(graph.find_value(small.model, "y_scale"))
    assert step is not None
    # a sum that lies between two codes may fall on either side, in the last layer and in one before it
    assert max(float(np.abs(a - b).max()) for a, b in zip(exact, made, strict=True)) <= 2 * float(step) * (1 + 1e-6)
    assert not any("quantised again" in note for note in program.metadata["notes"])


def test_weights_in_blocks_stay_in_float_and_the_report_says_so() -> None:
    generator = np.random.default_rng(2)
    weights = {"w": generator.standard_normal((40, 64)).astype(np.float32)}
    model = load([node("Gemm", ["x", "w"], "y", transB=1)], weights, (1, 64))
    feeds = [{"x": generator.standard_normal((1, 64)).astype(np.float32)} for _ in range(3)]
    with pytest.raises(UsageError, match="nothing in this model can run in int8"):
        compress(model, Recipe.of([{"quantize_weights": {}}], Recipe.int8("minmax")), calibration=feeds)
