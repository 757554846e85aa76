"""Weights of few bits: every sharing of scales on every kind of layer, and the ladder of methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from small_nets import conv_net, load, node
from test_products import CASES

from edgezip import graph
from edgezip.compilation import compile as compile_model
from edgezip.errors import UsageError
from edgezip.frontends import onnx as front
from edgezip.passes.gather_hessians import Inputs, gather_hessians
from edgezip.passes.products import Product, find_products
from edgezip.passes.quantize_weights import BITS_KEY, METHODS, quantize_weights
from edgezip.passes.weight_grid import SHRINKS, Form, grid_of
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session

Array = np.ndarray[Any, Any]


def _layer(case: str, seed: int = 1) -> tuple[Any, dict[str, Array]]:
    op, shape, weight, attributes = CASES[case]
    generator = np.random.default_rng(seed)
    held = generator.standard_normal(weight).astype(np.float32) * np.exp(
        generator.standard_normal(weight[:1] + (1,) * (len(weight) - 1))
    )
    model = load([node(op, ["x", "w"], "y", **attributes)], {"w": held.astype(np.float32)}, shape)
    return model, {"x": generator.standard_normal(shape).astype(np.float32)}


def _with_inputs(model: Any, feed: dict[str, Array]) -> list[tuple[Product, Inputs]]:
    return list(gather_hessians(model, find_products(model), lambda: [feed], samples=1))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per", ["tensor", "channel", 32, 64])
@pytest.mark.parametrize("case", CASES)
def test_eight_bits_give_what_the_float_layer_gives(case: str, per: str | int, symmetric: bool) -> None:
    """A scale on the wrong axis, or a code in the wrong place, would leave nothing of the output."""
    model, feed = _layer(case)
    small, (row,) = quantize_weights(model, [(p, None) for p in find_products(model)], Form(8, per, symmetric), method="nearest")
    exact, made = graph.run(model, feed)["y"], graph.run(small, feed)["y"]
    noise = float(((made - exact) ** 2).sum() / (exact**2).sum())
    if row.reason:
        assert "grouped" in row.reason or "groups" in row.reason
        assert noise == 0
    else:
        assert 0 < noise < 1e-3
        assert row.bytes_after < row.bytes_before


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_codes_fit_their_bits_and_the_file_is_as_small_as_said(bits: int) -> None:
    generator = np.random.default_rng(0)
    held = generator.standard_normal((40, 96)).astype(np.float32)
    model = load([node("Gemm", ["x", "w"], "y", transB=1)], {"w": held}, (3, 96))
    small, (row,) = quantize_weights(model, [(p, None) for p in find_products(model)], Form(bits, 32), method="nearest")
    stored = graph.constant(graph.find_value(small, "w_quantized"))
    assert stored is not None
    width = 2 if bits == 2 else 4 if bits <= 4 else 8
    assert stored.dtype.name == f"int{width}"
    codes = stored.astype(int)
    assert codes.min() >= -(2 ** (bits - 1))
    assert codes.max() <= 2 ** (bits - 1) - 1
    assert len(np.unique(codes)) > 2 ** (bits - 1)
    scales = graph.constant(graph.find_value(small, "w_scale"))
    assert scales is not None
    assert scales.shape == (40, 3)
    assert row.bytes_after == 40 * 96 * width // 8 + scales.nbytes + -(-scales.size * width // 8)
    assert graph.get_metadata(graph.nodes(small)[-1], BITS_KEY) == str(bits)


@pytest.mark.parametrize("case", ["strided", "depthwise, same", "matmul", "transposed, dilated"])
def test_learned_and_fed_back_rounding_beat_the_nearest(case: str) -> None:
    model, feed = _layer(case)
    layers = _with_inputs(model, feed)
    error = {m: quantize_weights(model, layers, Form(3, "channel"), method=m)[1][0].error for m in METHODS}
    assert error["nearest"] is not None
    assert error["gptq"] is not None
    assert error["adaround"] is not None
    assert error["awq"] is not None
    assert error["gptq"] < error["nearest"]
    assert error["adaround"] < error["nearest"]
    assert error["awq"] < error["nearest"]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per", ["tensor", "channel", 32])
@pytest.mark.parametrize("case", ["strided", "depthwise, same", "matmul", "gemm, turned", "grouped, dilated"])
def test_scales_of_least_output_error_are_those_that_plain_search_finds(case: str, per: str | int, symmetric: bool) -> None:
    """Every shrunken range of every set of weights tried one by one, judged by what those weights alone give."""
    model, feed = _layer(case)
    ((product, inputs),) = _with_inputs(model, feed)
    form = Form(3, per, symmetric, scales="output")
    rows = product.weights()
    strength = np.einsum("gkk->gk", inputs.hessian).repeat(product.outputs, axis=0)
    grid = grid_of(rows.reshape(-1, product.columns), strength, product, form, inputs.hessian)
    made = grid.rounded(rows.reshape(-1, product.columns)).reshape(rows.shape)
    channels = product.columns // product.window
    size = product.columns if per in ("tensor", "channel") else int(per)
    window = 1 if per in ("tensor", "channel") else product.window
    span = product.columns // window
    parts = [slice(p * span + b, min(p * span + b + size, (p + 1) * span)) for p in range(window) for b in range(0, span, size)]
    assert per in ("tensor", "channel") or span == channels
    for part in parts:
        sets = [(g, o) for g in range(product.groups) for o in range(product.outputs)]
        for members in [sets] if per == "tensor" else [[each] for each in sets]:
            held = [rows[g, o, part] for g, o in members]
            moments = [inputs.hessian[g, part, part] for g, _ in members]
            got = sum((d := made[g, o, part] - w) @ h @ d for (g, o), w, h in zip(members, held, moments, strict=True))
            top, bottom = max(max(w.max() for w in held), 0.0), min(min(w.min() for w in held), 0.0)
            tried = []
            for shrink in SHRINKS:
                low, high = bottom * shrink, top * shrink
                step = float(np.float32(max(high / form.high, low / form.low) if symmetric else (high - low) / form.high))
                zero = 0.0 if symmetric else float(np.clip(np.rint(-low / step), 0, form.high))
                errors = [(np.clip(np.rint(w / step) + zero, form.low, form.high) - zero) * step - w for w in held]
                tried.append(sum(d @ h @ d for d, h in zip(errors, moments, strict=True)))
            assert got == pytest.approx(min(tried), rel=1e-9)


def test_scales_of_least_output_error_need_data() -> None:
    model = conv_net()
    layers = [(p, None) for p in find_products(model)]
    with pytest.raises(UsageError, match="scales: output needs calibration data"):
        quantize_weights(model, layers, Form(4, scales="output"), method="nearest")


def test_blocks_lose_less_than_channels_and_those_less_than_the_tensor() -> None:
    generator = np.random.default_rng(3)
    held = (generator.standard_normal((24, 128)) * np.exp(generator.standard_normal((24, 4)).repeat(32, axis=1))).astype(
        np.float32
    )
    model = load([node("Gemm", ["x", "w"], "y", transB=1)], {"w": held}, (64, 128))
    layers = _with_inputs(model, {"x": generator.standard_normal((64, 128)).astype(np.float32)})
    error = [quantize_weights(model, layers, Form(4, per), method="gptq")[1][0].error for per in (32, "channel", "tensor")]
    assert error == sorted(error, key=lambda e: e or 0)


def test_an_asymmetric_range_uses_all_codes() -> None:
    generator = np.random.default_rng(4)
    held = (generator.random((8, 64)) + 1).astype(np.float32)
    model = load([node("Gemm", ["x", "w"], "y", transB=1)], {"w": held}, (3, 64))
    layers = [(p, None) for p in find_products(model)]
    spread = {}
    for symmetric in (True, False):
        small, _ = quantize_weights(model, layers, Form(4, "channel", symmetric), method="nearest")
        stored = graph.constant(graph.find_value(small, "w_quantized"))
        assert stored is not None
        spread[symmetric] = len(np.unique(stored.astype(int)))
    assert spread[False] > spread[True]


@pytest.mark.parametrize(("values", "word"), [({"bits": 1}, "2 to 8"), ({"bits": 9}, "2 to 8"), ({"per": 48}, "no such sharing")])
def test_a_form_that_is_none_is_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Form(**values)


def test_methods_that_need_data_say_so_and_layers_to_keep_stay() -> None:
    model = conv_net()
    layers = [(p, None) for p in find_products(model)]
    with pytest.raises(UsageError, match="needs calibration data"):
        quantize_weights(model, layers, Form(4), method="gptq")
    small, rows = quantize_weights(model, layers, Form(4), method="nearest", keep=("Gemm",))
    assert [row.name for row in rows if row.reason] == ["y_node"]
    assert graph.constant(graph.find_value(small, "w4")) is not None


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("per", ["tensor", "channel", 32, 64, 128])
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_width_passes_the_checker_and_runs_the_same_everywhere(bits: int, per: str | int, symmetric: bool) -> None:
    generator = np.random.default_rng(bits)
    held = {"w": generator.standard_normal((8, 160, 1, 1)), "v": generator.standard_normal((8, 128))}
    nodes = [node("Conv", ["x", "w"], "c"), node("GlobalAveragePool", ["c"], "g"), node("Flatten", ["g"], "f"),
             node("Gemm", ["f", "v2"], "h", transB=1), node("Gemm", ["h", "v"], "y")]  # fmt: skip
    held = {"w": held["w"], "v2": generator.standard_normal((8, 8)), "v": held["v"]}
    model = load(nodes, {name: array.astype(np.float32) for name, array in held.items()}, (1, 160, 4, 4))
    small, rows = quantize_weights(model, [(p, None) for p in find_products(model)], Form(bits, per, symmetric), method="nearest")
    assert not any(row.reason for row in rows)
    data = graph.to_bytes(small)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    stored = graph.constant(graph.find_value(small, "w_quantized"))
    width = next(width for width in (2, 4, 8) if width >= bits)
    assert stored.dtype.name == f"{'' if symmetric else 'u'}int{width}"
    feed = {"x": generator.standard_normal((1, 160, 4, 4)).astype(np.float32)}
    theirs = graph.run(small, feed)["y"]
    program = compile_model(front.load(data), "host", vectors=0)
    native, plain = (session(program).run(feed)["y"] for session in (Session, ReferenceSession))
    assert np.array_equal(native, plain)
    np.testing.assert_allclose(native, theirs, rtol=1e-4, atol=1e-5)


def test_unpacked_codes_are_the_same_numbers_in_bytes() -> None:
    model, _ = _layer("strided")
    layers = [(p, None) for p in find_products(model)]
    narrow, wide = (
        graph.constant(
            graph.find_value(quantize_weights(model, layers, Form(3, packed=packed), method="nearest")[0], "w_quantized")
        )
        for packed in (True, False)
    )
    assert (narrow.dtype.name, wide.dtype.name) == ("int4", "int8")
    assert np.array_equal(narrow.astype(int), wide.astype(int))


def test_layers_have_forms_of_their_own() -> None:
    model = conv_net()
    layers = [(p, None) for p in find_products(model)]
    forms = {"c2_*": Form(8, "channel"), "Conv": Form(2, "channel")}
    small, rows = quantize_weights(model, layers, Form(4, "channel"), method="nearest", forms=forms)
    assert {row.name: row.bits for row in rows} == {"c1_node": 2, "c2_node": 8, "c3_node": 2, "y_node": 4}
    assert graph.get_metadata(graph.find_node(small, "c2_node"), BITS_KEY) == "8"
    with pytest.raises(UsageError, match="no layer with weights fits"):
        quantize_weights(model, layers, Form(4), method="nearest", forms={"c9_*": Form(8)})


def test_minmax_scales_reach_the_largest_weight() -> None:
    model, _ = _layer("strided")
    product = find_products(model)[0]
    scale = {}
    for rule in ("minmax", "mse"):
        small, _ = quantize_weights(model, [(product, None)], Form(3, "channel", scales=rule), method="nearest")
        scale[rule] = graph.constant(graph.find_value(small, "w_scale"))
    reach = np.maximum(product.weights()[0].max(axis=1) / 3, -product.weights()[0].min(axis=1) / 4)
    np.testing.assert_allclose(scale["minmax"], reach, rtol=1e-6)
    assert (scale["mse"] <= scale["minmax"]).all()
    assert (scale["mse"] < scale["minmax"]).any()
    with pytest.raises(UsageError, match="no such rule"):
        Form(4, scales="median")
