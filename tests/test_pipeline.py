"""Passes in a row: composed by a recipe, kept by digest, and ending with the same bytes after an interruption."""

from __future__ import annotations

import os
import signal
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
from edgezip.errors import CalibrationError, InvalidModelError, ShapeError, UsageError
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
    products = [layer for layer in small.report.layers if layer.op in ("Conv", "Gemm")]
    assert {(layer.form, layer.bits) for layer in products} == {("int8", 4)}
    sizes = {"c1": (8 * 27, 8, 8), "c2": (8 * 9, 8, 8), "c3": (8 * 8, 8, 0), "y": (160, 10, 10)}  # codes, scales, biases
    wanted = {f"{name}_node": (4 * (n + b), -(-n // 2) + 4 * s + -(-s // 2) + 4 * b) for name, (n, s, b) in sizes.items()}
    bias = 4 * 8  # of the layer without one, which took up the mean
    wanted["c3_node"] = (wanted["c3_node"][0] + bias, wanted["c3_node"][1] + bias)
    assert {layer.name: (layer.bytes_before, layer.bytes_after) for layer in products} == wanted
    program = edgezip.compile(small, "host")
    session = edgezip.Session(program)
    exact = [graph.run(small.model, feed, optimize=False)["y"] for feed in feeds]
    wished = [graph.run(conv_net(), feed)["y"] for feed in feeds]
    noise, power = np.square(np.array(wished) - np.array(exact)).sum(), np.square(wished).sum()
    assert small.report.output_sqnr_db["y"] == pytest.approx(10 * np.log10(power / noise), abs=0.1)  # not against the 4 bits
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


HALF = [{"prune": {"sparsity": 0.6, "pattern": "1x1", "method": "magnitude"}}]


def _noise(model: Any, feeds: list[dict[str, np.ndarray]]) -> float:
    exact = conv_net()
    return sum(float(((graph.run(model, feed)["y"] - graph.run(exact, feed)["y"]) ** 2).sum()) for feed in feeds)


def _unseen(count: int = 12) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(77)
    return [{"x": generator.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(count)]


def test_recovery_follows_each_pass_unless_it_is_not_wanted() -> None:
    noise = {}
    for mode in ("none", "bias", "refit"):
        small = compress(conv_net(), Recipe.of(HALF, recover=mode), calibration=_feeds(24))
        noise[mode] = _noise(small.model, _unseen())
        ways = {row.recovery for row in small.report.passes[0].layers}
        assert ways <= {"none": {""}, "bias": {"bias", "left"}, "refit": {"refit", "bias", "left"}}[mode]
    assert noise["refit"] < 0.5 * noise["none"]
    assert noise["bias"] < noise["none"]
    assert compress(conv_net(), Recipe.of(HALF)).report.passes[0].layers[0].recovery == ""  # no data, no recovery


def test_channels_that_went_are_recovered_against_their_own_and_so_are_those_of_a_second_cut() -> None:
    build = lambda: conv_net(channels=32)  # noqa: E731
    steps = [{"prune_channels": {"macs": 0.3, "multiple": 4}}, {"prune_channels": {"macs": 0.2, "multiple": 4}}]
    noise = {}
    for mode in ("none", "refit"):
        small = compress(build(), Recipe.of(steps, recover=mode), calibration=_feeds(24))
        noise[mode] = sum(
            float(((graph.run(small.model, feed)["y"] - graph.run(build(), feed)["y"]) ** 2).sum()) for feed in _unseen()
        )
        again = [row for row in small.report.passes[1].layers if row.recovered_db is not None]
        assert all(row.recovered_db > 6 for row in again)  # against another's outputs it would be about 0 dB
        assert bool(again) == (mode == "refit")
    assert noise["refit"] < noise["none"]  # which has the fit of prune_channels itself


def test_after_equalising_layers_are_fitted_to_the_equalised_network() -> None:
    steps = [{"equalize": {}}, *HALF]
    small = compress(conv_net(), Recipe.of(steps), calibration=_feeds(24))
    plain = compress(conv_net(), Recipe.of(steps, recover="none"), calibration=_feeds(24))
    assert _noise(small.model, _unseen()) < 0.5 * _noise(plain.model, _unseen())


def test_rows_say_time_and_share_of_the_error() -> None:
    generator = np.random.default_rng(0)
    weights = {name: generator.standard_normal((256, 256)).astype(np.float32) / 16 for name in ("w1", "w2")}
    model = load([node("MatMul", ["x", "w1"], "h"), node("MatMul", ["h", "w2"], "y")], weights, (64, 256))
    feeds = [{"x": generator.standard_normal((64, 256)).astype(np.float32)} for _ in range(4)]
    steps = [{"factorize": {"rank_by": "ratio", "rank": 0.25, "keep": ["y_node"]}}]
    first, second = compress(model, Recipe.of(steps), calibration=feeds, target="rpi4").report.passes[0].layers
    assert first.predicted_us is not None
    assert first.predicted_us[0] > first.predicted_us[1]
    assert second.predicted_us == (first.predicted_us[0], first.predicted_us[0])
    assert (first.share, second.share) == (pytest.approx(1.0), None)


def test_the_share_is_the_noise_of_one_layer_alone() -> None:
    from edgezip.search.error_shares import error_shares

    model, small = conv_net(), graph.clone(conv_net())
    for name, factor in (("w1", 1.01), ("w4", 1.1)):
        held = graph.constant(graph.find_value(small, name))
        assert held is not None
        graph.replace_weight(small, name, held * np.float32(factor))
    shares = error_shares(model, small, _feeds(2), ["c1_node", "y_node"])
    noise = {}
    for layer, name in (("c1_node", "w1"), ("y_node", "w4")):
        alone = conv_net()
        graph.replace_weight(alone, name, graph.constant(graph.find_value(small, name)))  # type: ignore[arg-type]
        noise[layer] = _noise(alone, _feeds(2))
    assert shares == pytest.approx({name: value / sum(noise.values()) for name, value in noise.items()}, rel=1e-3)


def test_sparsity_grows_in_rounds_and_gradual_is_no_worse() -> None:
    once = compress(conv_net(), Recipe.of(HALF), calibration=_feeds(24))
    steps = [{"prune": {"sparsity": 0.6, "pattern": "1x1", "method": "magnitude", "rounds": 3}}]
    slow = compress(conv_net(), Recipe.of(steps), calibration=_feeds(24))
    shares = [report.options["sparsity"] for report in slow.report.passes]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.6)
    assert len(shares) == 3
    assert {round(row.sparsity, 1) for row in slow.report.passes[-1].layers} == {0.6}
    assert _noise(slow.model, _unseen()) < 1.05 * _noise(once.model, _unseen())
    with pytest.raises(UsageError, match="one sparsity"):
        compress(conv_net(), Recipe.of([{"prune": {"sparsity": 0.5, "pattern": "2:4", "rounds": 2}}]), calibration=_feeds())


def test_channels_go_in_rounds_that_reach_the_share_together() -> None:
    steps = [{"prune_channels": {"macs": 0.4, "multiple": 1, "rounds": 2}}]
    small = compress(conv_net(channels=64), Recipe.of(steps), calibration=_feeds(8))
    from edgezip import cost

    left = [sum(layer.macs for layer in cost.layer_costs(model)) for model in (conv_net(channels=64), small.model)]
    assert left[1] / left[0] == pytest.approx(0.6, abs=0.06)
    assert len(small.report.passes) == 2


def test_a_pattern_that_no_kernel_of_the_target_skips_is_refused_unless_forced() -> None:
    steps = [{"prune": {"sparsity": 0.5, "pattern": "2:4"}}]
    with pytest.raises(UsageError, match=r"no kernel of rpi4 skips.*2:4.*--force"):
        compress(conv_net(), Recipe.of(steps), calibration=_feeds(), target="rpi4")
    assert compress(conv_net(), Recipe.of(steps, force=True), calibration=_feeds(), target="rpi4").report.passes
    skipped = {"prune": {"sparsity": 0.5, "pattern": "8x16"}}
    assert compress(conv_net(), Recipe.of([skipped]), calibration=_feeds(), target="rpi4").report.passes
    with pytest.raises(UsageError, match=r"no kernel of x86-64 skips.*8x16"):
        compress(conv_net(), Recipe.of([skipped]), calibration=_feeds(), target="x86-64")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_by_node(wrong: float) -> None:
    model = conv_net()
    held = graph.constant(graph.find_value(model, "w3"))
    assert held is not None
    held = held.copy()
    held[2, 1] = wrong
    graph.replace_weight(model, "w3", held)
    for recipe in (Recipe.of(HALF), Recipe.int8("minmax")):
        with pytest.raises(InvalidModelError, match=r"node 'c3_node' \(Conv\), weight 'w3' at \(2, 1, 0, 0\)"):
            compress(model, recipe, calibration=_feeds())


def test_a_share_that_would_empty_a_layer_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match=r"nothing would be left.*c1_node.*keep"):
        compress(conv_net(), Recipe.of([{"prune": {"sparsity": 0.999, "pattern": "1x1"}}]), calibration=_feeds())


@pytest.mark.parametrize(
    ("steps", "hint"),
    [
        ([{"prune": {"sparcity": 0.5}}], "sparsity"),
        ([{"prune": {"sparsity": 0.5, "patern": "2:4"}}], "pattern"),
        ([{"prune_chanels": {"macs": 0.5}}], "prune_channels"),
        ([{"factorize": {"rank_buy": "ratio"}}], "rank_by"),
    ],
)
def test_an_unknown_key_gets_the_one_that_was_meant(steps: list[dict[str, Any]], hint: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{hint}'"):
        Recipe.of(steps)


@pytest.mark.parametrize(
    ("feed", "error", "word"),
    [
        ({"x": np.zeros((1, 3, 12, 11), np.float32)}, ShapeError, "x"),
        ({"z": np.zeros((1, 3, 12, 12), np.float32)}, ShapeError, "x"),
        ({"x": np.full((1, 3, 12, 12), np.nan, np.float32)}, CalibrationError, "not finite"),
    ],
)
def test_calibration_data_that_does_not_fit_is_refused(feed: Any, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        compress(conv_net(), Recipe.of([{"prune": {"sparsity": 0.5, "pattern": "1x1"}}]), calibration=[*_feeds(), feed])


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1].split(os.pathsep)
import test_pipeline as here
from edgezip import pipeline
from edgezip.compression import compress
from edgezip.recipe import Recipe
real = pipeline._RUN["prune"]
def killed(*given):
    real(*given)
    os.kill(os.getpid(), signal.SIGKILL)
pipeline._RUN["prune"] = killed
compress(here.conv_net(), Recipe.of(here.STEPS), calibration=here._feeds(), cache_dir=sys.argv[2])
"""


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL in the midst of the second pass: what is kept is the first, whole, and nothing of the second."""
    import subprocess

    here = Path(__file__).parent
    folders = f"{here}{os.pathsep}{here / 'passes'}"
    done = subprocess.run([sys.executable, "-c", KILLED, folders, str(tmp_path)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list((tmp_path / "passes").glob("*.json"))) == 1
    resumed = compress(conv_net(), Recipe.of(STEPS), calibration=_feeds(), cache_dir=tmp_path)
    assert [report.from_cache for report in resumed.report.passes] == [True, False, False]
    whole = compress(conv_net(), Recipe.of(STEPS), calibration=_feeds())
    assert graph.to_bytes(resumed.model) == graph.to_bytes(whole.model)
    assert [r.layers for r in resumed.report.passes] == [r.layers for r in whole.report.passes]


def test_the_cache_stays_below_its_bound_and_the_oldest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgezip import pass_cache

    for number, name in enumerate("abc"):
        pass_cache.write(tmp_path / name, bytes(1000), [])
        os.utime(tmp_path / f"{name}.json", (number, number))
    (tmp_path / "torn.onnx").write_bytes(bytes(1000))  # of a run that was killed before its rows
    assert pass_cache.read(tmp_path / "a") is not None  # now the youngest
    monkeypatch.setattr(pass_cache, "CACHE_BYTES", 3500)
    pass_cache.write(tmp_path / "d", bytes(1000), [])
    assert sorted(path.stem for path in tmp_path.glob("*.onnx")) == ["a", "c", "d"]
    (tmp_path / "a.onnx").write_bytes(bytes(999))
    assert pass_cache.read(tmp_path / "a") is None  # does not fit its checksum


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ([{"prune": {"sparsity": 0.5, "pattern": "2:0"}}], "no such pattern"),
        ([{"prune": {"sparsity": 0.5, "pattern": "3x7"}}], "no such pattern"),
        ([{"order_channels": {"pattern": "9:4"}}], "N is less than M"),
        ([{"order_channels": {"pattern": "4x16"}}], "only N:M has an order"),
        ([{"cluster": {"keep": ("nope",)}}], "nothing in the model matches"),
        ([{"equalize": {}}, {"prune": {"sparsity": 0.5, "pattern": "1x1", "keep": ("Gmem",)}}], "nothing in the model matches"),
        ([{"factorize": {"prefer": "size"}}, {"cluster": {"keep": ("nope",)}}], "nothing in the model matches"),
        ([{"quantize_weights": {}}, {"quantize_weights": {}}], "an earlier pass made integers of them"),
        ([{"cluster": {}}, {"prune": {"sparsity": 0.5, "pattern": "1x1"}}], "an earlier pass made integers of them"),
        ([{"prune": {"sparsity": 0.9999, "pattern": "1x1"}}], "nothing would be left of a layer"),
    ],
)
def test_steps_that_cannot_be_are_refused_by_name(steps: list[dict[str, Any]], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        compress(conv_net(), Recipe.of(steps, recover="none"), calibration=_feeds(3))


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0])
@pytest.mark.parametrize(
    "step",
    [
        {"prune": {"sparsity": 0.5, "pattern": "1x1"}},
        {"quantize_weights": {}},
        {"quantize_weights": {"method": "adaround"}},
        {"quantize_weights": {"method": "awq"}},
        {"smooth": {"method": "awq"}},
        {"cluster": {}},
        {"order_channels": {}},
        {"prune_channels": {"macs": 0.3}},
    ],
    ids=lambda step: "-".join(str(part) for name, options in step.items() for part in (name, *options.values())),
)
def test_one_sample_of_one_value_leaves_a_network_that_still_answers(step: dict[str, Any], level: float) -> None:
    """Inputs that say nothing: no NaN, no weights blown up, and on real inputs still about the same answer."""
    model = conv_net()
    flat = [{"x": np.full((1, 3, 12, 12), level, np.float32)}]
    small = compress(model, Recipe.of([step]), calibration=flat).model
    held = [np.asarray(graph.constant(value)).astype(np.float64) for value in graph.initializers(small)]
    assert all(np.isfinite(array).all() for array in held)
    exact, made = (np.concatenate([graph.run(each, feed)["y"] for feed in _unseen(4)]) for each in (model, small))
    assert ((made - exact) ** 2).sum() < 0.3 * (exact**2).sum()


@pytest.mark.parametrize("method", ["gptq", "adaround", "awq"])
@pytest.mark.parametrize("per", ["channel", "tensor", 32])
def test_a_pass_that_was_stopped_goes_on_with_the_layer_where_it_was(
    method: str, per: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the third of four layers: two are found again, one of them damaged is made anew, and the bytes are the same."""
    from edgezip.passes import quantize_weights as module

    recipe = Recipe.of([{"quantize_weights": {"method": method, "per": per, "symmetric": False}}])
    whole = compress(conv_net(channels=40), recipe, calibration=_feeds(4))
    made: list[str] = []
    plain = module._quantize

    def counted(held: Any, aim: Any, product: Any, *rest: Any) -> Any:
        if len(made) == 2 and not stopped:
            raise KeyboardInterrupt
        made.append(product.name)
        return plain(held, aim, product, *rest)

    stopped: list[bool] = []
    monkeypatch.setattr(module, "_quantize", counted)
    with pytest.raises(KeyboardInterrupt):
        compress(conv_net(channels=40), recipe, calibration=_feeds(4), cache_dir=tmp_path)
    parts = sorted(tmp_path.rglob("*.npz"))
    assert [path.name.rsplit(".", 2)[1] for path in parts] == ["0", "1"]
    parts[0].write_bytes(parts[0].read_bytes()[:-40])
    stopped.append(True)
    again = compress(conv_net(channels=40), recipe, calibration=_feeds(4), cache_dir=tmp_path)
    assert made == ["c1_node", "c2_node", "c1_node", "c3_node", "y_node"]
    assert graph.to_bytes(again.model) == graph.to_bytes(whole.model)
    assert again.report.to_dict() == whole.report.to_dict()
    assert not list(tmp_path.rglob("*.npz"))
