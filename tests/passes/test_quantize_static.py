"""Static int8: placement, weights, biases, and what comes out of ONNX Runtime and of our packer."""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as models
from onnx import TensorProto, helper

from edgezip import graph
from edgezip.compression import compress
from edgezip.errors import UsageError
from edgezip.frontends import onnx as front
from edgezip.passes.correct_bias import correct_bias
from edgezip.passes.place_qdq import parameters, place
from edgezip.passes.round_weights import BIAS_LIMIT, quantize_weights
from edgezip.recipe import Recipe


def quantised(model, **options):
    return compress(model, Recipe.int8(**options), calibration=models.samples())


def sqnr_db(model, small, feeds) -> float:
    signal = noise = 0.0
    for exact, rounded in zip(graph.run_many(model, iter(feeds)), graph.run_many(small, iter(feeds)), strict=True):
        signal += float((exact["y"] ** 2).sum())
        noise += float(((exact["y"] - rounded["y"]) ** 2).sum())
    return 10 * np.log10(signal / noise)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("seed", range(3))
def test_int8_output_keeps_its_signal(method: str, seed: int) -> None:
    """Eight bits over a range of about 8 sigma give 20 log10(255 / 8 * sqrt(12)) = 41 dB a tensor; ten such roundings leave
    above 30; calibrators may cut tails, so 20 is asked for."""
    model = models.conv_net(seed)
    assert sqnr_db(model, quantised(model, method=method).model, models.samples(seed=9)) > 20


def test_the_original_is_not_touched() -> None:
    model = models.conv_net()
    before = graph.to_bytes(model)
    quantised(model)
    assert graph.to_bytes(model) == before


def test_same_input_gives_the_same_bytes() -> None:
    assert graph.to_bytes(quantised(models.conv_net()).model) == graph.to_bytes(quantised(models.conv_net()).model)


def test_nothing_stands_between_a_product_and_its_clip() -> None:
    placed = place(models.conv_net())
    assert {"x", "r1", "r2", "c3", "a", "p", "s", "cat", "g", "y"} == set(placed.points)


def test_movement_keeps_the_parameters_of_its_input() -> None:
    placed = place(models.conv_net())
    assert placed.same_as["p"] == "a"
    assert "f" not in placed.points
    assert placed.same_as["s"] == "cat"  # read by the concat alone
    assert "p" not in placed.same_as or placed.same_as["p"] == "a"  # read by the sigmoid too


def test_hard_swish_in_pieces_gets_no_inner_rounding() -> None:
    nodes = [
        models.node("Conv", ["x", "w"], "c"),
        models.node("Add", ["c", "three"], "t"),
        models.node("Clip", ["t", "zero", "six"], "k"),
        models.node("Mul", ["c", "k"], "m"),
        models.node("Div", ["m", "six"], "y"),
    ]
    weights = {"w": np.ones((4, 3, 1, 1), np.float32), "three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)}
    placed = place(models.load(nodes, weights, (1, 3, 4, 4)))
    assert set(placed.points) == {"x", "c", "y"}


def test_kept_nodes_stay_in_float_and_say_so() -> None:
    small = quantised(models.conv_net(), keep=("Gemm",))
    rows = {layer.op: layer for layer in small.report.layers}
    assert rows["Gemm"].form == "float32"
    assert "request" in rows["Gemm"].reason
    gemm = next(n for n in graph.nodes(small.model) if n.op_type == "Gemm")
    assert graph.constant(gemm.inputs[1]) is not None


def test_keep_takes_patterns() -> None:
    assert {n.name for n in place(models.conv_net(), ("c[12]_node",)).products} == {"c3_node", "y_node"}


def test_everything_kept_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--keep"):
        quantised(models.conv_net(), keep=("*",))


@pytest.mark.parametrize(("shape", "axis"), [((6, 5, 3, 3), 0), ((5, 6, 2, 2), 1), ((7, 4), 1)])
def test_symmetric_weights_have_one_scale_an_output(shape: tuple[int, ...], axis: int) -> None:
    weights = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    stored, scale = quantize_weights(weights, axis)
    assert stored.shape == shape
    assert stored.min() >= -127
    assert scale.shape == (shape[axis],)
    error = np.abs(stored * scale.reshape([-1 if a == axis else 1 for a in range(len(shape))]) - weights)
    assert error.max() <= 0.3 * np.abs(weights).max()  # the range may shrink to 0.72, never further


def test_all_zero_channel_is_harmless() -> None:
    weights = np.zeros((2, 3), np.float32)
    weights[1] = 1
    stored, scale = quantize_weights(weights, 0)
    assert stored[0].tolist() == [0, 0, 0]
    assert scale[0] > 0


def test_tiny_weights_under_a_large_bias_do_not_overflow_int32() -> None:
    weights, bias, sx = np.full((3, 4), 1e-9, np.float32), np.array([5.0, -5.0, 0.0], np.float32), 1e-3
    _, scale = quantize_weights(weights, 0, bias, sx)
    assert np.abs(bias / (sx * scale.astype(np.float64))).max() <= BIAS_LIMIT * 1.0001


def test_model_with_a_tiny_channel_compiles_and_stays_right() -> None:
    model = models.load(
        [models.node("Conv", ["x", "w", "b"], "y")],
        {"w": np.full((2, 3, 1, 1), [[[[1e-12]]], [[[0.5]]]], np.float32), "b": np.array([3, 1], np.float32)},
        (1, 3, 4, 4),
    )
    from edgezip import compilation
    from edgezip.runtime.session import Session

    feeds = models.samples((1, 3, 4, 4))
    small = compress(model, calibration=feeds)
    got = Session(compilation.compile(small.model, "host", vectors=0)).run(feeds[0])["y"]
    np.testing.assert_allclose(got[:, 0], 3, atol=0.05)


def test_grouped_conv_transpose_is_quantised_per_tensor() -> None:
    model = models.load(
        [models.node("ConvTranspose", ["x", "w"], "y", group=2)], {"w": np.ones((4, 3, 2, 2), np.float32)}, (1, 4, 5, 5)
    )
    small = compress(model, calibration=models.samples((1, 4, 5, 5)))
    assert np.isfinite(sqnr_db(model, small.model, models.samples((1, 4, 5, 5))))


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 1.0), (2.0, 3.0), (-3.0, -2.0), (0.0, 0.0), (-1e-20, 1e-20)])
def test_zero_is_always_exact(low: float, high: float) -> None:
    scale, zero = parameters(low, high)
    assert scale > 0
    assert -128 <= zero <= 127
    assert low >= (-128 - zero) * scale - scale
    assert high <= (127 - zero) * scale + scale


def test_bias_correction_takes_out_the_mean_error_of_the_weights() -> None:
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((4, 16)).astype(np.float32)
    model = models.load(
        [models.node("Gemm", ["x", "w", "b"], "y", transB=1)], {"w": weights, "b": np.zeros(4, np.float32)}, (1, 16)
    )
    feeds = [{"x": (rng.standard_normal((1, 16)) + 5).astype(np.float32)} for _ in range(64)]

    def mean_error(correct: bool) -> float:
        small = compress(model, Recipe.int8("minmax", correct_bias=correct), calibration=feeds).model
        pairs = zip(graph.run_many(model, iter(feeds)), graph.run_many(small, iter(feeds)), strict=True)
        return float(np.abs(np.mean([b["y"] - a["y"] for a, b in pairs], axis=0)).max())

    assert mean_error(True) < mean_error(False)


def test_a_wrong_mean_is_caught_by_the_sqnr() -> None:
    model = models.conv_net()
    small = quantised(model, correct_bias=False).model
    good = sqnr_db(model, small, models.samples())
    spoiled = correct_bias(small, model, {"r1": np.full(8, 50.0)})
    assert sqnr_db(model, spoiled, models.samples()) < good


def test_report_has_a_row_for_every_layer_and_an_sqnr_for_every_int8_one() -> None:
    model = models.conv_net()
    report = quantised(model).report
    assert [r.name for r in report.layers] == [n.name for n in graph.nodes(model)]
    assert all(r.sqnr_db is not None for r in report.layers if r.form == "int8" and r.op in ("Conv", "Gemm", "Add"))
    assert report.bytes_after < report.bytes_before / 2
    assert report.samples == 16


def outputs_of(model, feeds, optimize=False):
    return np.concatenate([r["y"].ravel().astype(np.float64) for r in graph.run_many(model, iter(feeds), optimize=optimize)])


def scale_of(model, name):
    held = next(v for v in graph.values(model).values() if v.name == f"{name}_scale")
    return graph.constant(held)


def test_minus_128_is_never_stored_even_when_the_range_shrinks() -> None:
    rows = np.clip(np.random.default_rng(0).standard_normal((8, 100_000)), None, 2.0).astype(
        np.float32
    )  # the extreme is negative
    stored, scale = quantize_weights(rows, 0)
    assert (scale * 127 < np.abs(rows).max(axis=1) * 0.99).any()  # some did shrink, so their extremes are clipped: not vacuous
    assert stored.min() == -127


def spread_transpose(group: int):
    rng = np.random.default_rng(0)
    weights = (
        rng.standard_normal((4, 6 // group, 2, 2)).astype(np.float32) * 10.0 ** -np.arange(6.0 // group)[None, :, None, None]
    )
    weights = weights.astype(np.float32)
    return models.load([models.node("ConvTranspose", ["x", "w"], "y", group=group)], {"w": weights}, (1, 4, 5, 5))


@pytest.mark.parametrize(("group", "shape"), [(1, (6,)), (2, ())])
def test_conv_transpose_has_a_scale_an_output_and_one_scale_when_grouped(group: int, shape: tuple[int, ...]) -> None:
    small = compress(spread_transpose(group), calibration=models.samples((1, 4, 5, 5))).model
    assert scale_of(small, "w").shape == shape


def test_bias_correction_uses_the_means_of_its_own_group() -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((4, 4, 1, 1)).astype(np.float32), "b": np.zeros(4, np.float32)}
    model = models.load([models.node("Conv", ["x", "w", "b"], "y", group=2)], weights, (1, 8, 4, 4))
    shift = np.array([9, 9, 9, 9, 0, 0, 0, 0], np.float32).reshape(1, 8, 1, 1)
    feeds = [{"x": rng.standard_normal((1, 8, 4, 4)).astype(np.float32) + shift} for _ in range(32)]

    def mean_error(correct: bool) -> float:
        small = compress(model, Recipe.int8("minmax", correct_bias=correct), calibration=feeds).model
        got, exact = (outputs_of(m, feeds).reshape(32, 4, -1) for m in (small, model))
        return float(np.abs((got - exact).mean(axis=(0, 2))).max())

    assert mean_error(True) < mean_error(False) / 2


@pytest.mark.parametrize("alpha", [0.1, 4.0])
def test_bias_correction_knows_gemm_alpha(alpha: float) -> None:
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((4, 16)).astype(np.float32), "b": np.zeros(4, np.float32)}
    model = models.load([models.node("Gemm", ["x", "w", "b"], "y", transB=1, alpha=alpha)], weights, (1, 16))
    feeds = [{"x": (rng.standard_normal((1, 16)) + 5).astype(np.float32)} for _ in range(64)]

    def mean_error(correct: bool) -> float:
        small = compress(model, Recipe.int8("minmax", correct_bias=correct), calibration=feeds).model
        return float(np.abs((outputs_of(small, feeds) - outputs_of(model, feeds)).reshape(64, 4).mean(0)).max())

    assert mean_error(True) < mean_error(False) / 2


def test_long_rows_stay_within_the_accumulator() -> None:
    stored, scale = quantize_weights(np.ones((2, 70_000), np.float32), 0)
    assert np.abs(stored.astype(np.int64)).sum(axis=1).max() * 255 + BIAS_LIMIT < 2**31
    np.testing.assert_allclose(stored * scale[:, None], 1, atol=0.01)


def test_a_pool_that_onnx_runtime_has_not_in_int8_stays_in_float() -> None:
    """QLinearAveragePool with dilations makes ONNX Runtime refuse the whole model."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="r"),
        helper.make_node("AveragePool", ["r"], ["y"], name="p", kernel_shape=[2, 2], dilations=[2, 2]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x", [1, 3, 8, 8]), ("y", None))]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 19)], ir_version=9
    )
    feeds = [{"x": np.random.default_rng(k).standard_normal((1, 3, 8, 8)).astype(np.float32)} for k in range(4)]
    small = compress(front.load(proto.SerializeToString()), calibration=feeds)
    assert next(row for row in small.report.layers if row.name == "p").form == "float32"
    assert np.isfinite(graph.run(small.model, feeds[0])["y"]).all()


def test_an_input_that_is_an_output_too_keeps_its_name() -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    proto = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], [ends[1], ends[0]]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    feeds = [{"x": np.random.default_rng(k).standard_normal((1, 4)).astype(np.float32)} for k in range(4)]
    small = compress(front.load(proto.SerializeToString()), calibration=feeds).model
    assert [v.name for v in graph.input_values(small)] == ["x"]
    assert [v.name for v in graph.output_values(small)] == ["y", "x"]
    assert (graph.run(small, feeds[0])["x"] == feeds[0]["x"]).all()
