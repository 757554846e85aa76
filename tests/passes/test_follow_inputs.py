"""Two networks side by side: what a layer meets when those before it are changed, and what it should give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import conv_net, load, node

from edgezip import graph
from edgezip.errors import CalibrationError
from edgezip.passes import follow_inputs as module
from edgezip.passes.follow_inputs import Wanted, follow_inputs
from edgezip.passes.gather_hessians import gather_hessians
from edgezip.passes.products import find_products
from edgezip.passes.quantize_weights import quantize_weights
from edgezip.passes.weight_grid import Form

Array = np.ndarray[Any, Any]


def _feeds(model: Any, count: int = 6) -> list[dict[str, Array]]:
    generator = np.random.default_rng(3)
    (value,) = graph.input_values(model)
    return [{value.name: generator.standard_normal(graph.shape(value)).astype(np.float32)} for _ in range(count)]


def _chain(depth: int = 6, width: int = 24) -> Any:
    generator = np.random.default_rng(5)
    weights, nodes, name = {}, [], "x"
    for i in range(depth):
        weights[f"w{i}"] = (generator.standard_normal((width, width, 1, 1)) / np.sqrt(width / 2)).astype(np.float32)
        weights[f"b{i}"] = generator.standard_normal(width).astype(np.float32) / 4
        made = "y" if i == depth - 1 else f"c{i}"
        nodes.append(node("Conv", [name, f"w{i}", f"b{i}"], made))
        if made != "y":
            nodes.append(node("Relu", [made], f"r{i}"))
        name = f"r{i}"
    return load(nodes, weights, (1, width, 9, 9))


def test_in_a_network_that_nothing_changed_a_layer_meets_what_it_always_met() -> None:
    model = conv_net()
    feeds = _feeds(model)
    plain = {p.name: seen for p, seen in gather_hessians(model, find_products(model), lambda: feeds, samples=len(feeds))}
    for product, wanted in follow_inputs(model, graph.clone(model), find_products(model), lambda: feeds, samples=len(feeds)):
        exact = Wanted.of(plain[product.name], product.weights())
        pairs = [(wanted.inputs.hessian, exact.inputs.hessian), (wanted.cross, exact.cross), (wanted.given, exact.given)]
        for got, other in pairs:
            np.testing.assert_allclose(got, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
        assert wanted.output_error(product.weights(), centred=False) < 1e-6 * wanted.power


def test_inputs_are_those_that_the_changed_layers_give_when_they_are_asked_for() -> None:
    model, feeds = conv_net(), None
    feeds = _feeds(model)
    shadow = graph.clone(model)
    there = {p.name: p for p in find_products(shadow)}
    seen = {}
    for product, wanted in follow_inputs(model, shadow, find_products(model), lambda: feeds, samples=len(feeds)):
        seen[product.name] = wanted
        twin = there[product.name]
        graph.replace_weight(shadow, twin.weight_name, twin.array_of(twin.weights() * 0))
    zero = seen["c3_node"].inputs  # r2 = Clip(b2, 0, 6): the same at every place
    wanted = np.clip(graph.constant(graph.find_value(model, "b2")), 0, 6)
    np.testing.assert_allclose(zero.mean[0], wanted, rtol=1e-5)
    np.testing.assert_allclose(zero.hessian[0], np.outer(wanted, wanted), rtol=1e-4, atol=1e-7)
    assert seen["c3_node"].power > 0  # while what is wanted comes from the untouched network


def test_inputs_that_are_always_the_same_leave_weights_as_they_are() -> None:
    """Behind a layer of zeros: the spread of its inputs is rounding alone, and a fit to it gave weights of 1e9."""
    generator = np.random.default_rng(5)
    weights = {name: generator.standard_normal((24, 24, 1, 1)).astype(np.float32) / 5 for name in ("w0", "w1", "w2")}
    weights["w1"][:] = 0
    weights["b1"] = generator.standard_normal(24).astype(np.float32)
    nodes = [node("Conv", ["x", "w0"], "c0"), node("Conv", ["c0", "w1", "b1"], "c1"), node("Relu", ["c1"], "r1")]
    model = load([*nodes, node("Conv", ["r1", "w2"], "y")], weights, (1, 24, 7, 7))
    products, feeds = find_products(model), _feeds(model, 5)
    shadow = graph.clone(model)
    walk = follow_inputs(model, shadow, products, lambda: feeds, samples=5)
    quantize_weights(model, walk, Form(bits=4, per="channel"), shadow=shadow)  # GPTQ: raised ValueError
    *_, (last, wanted) = follow_inputs(model, graph.clone(model), products, lambda: feeds, samples=5)
    change = wanted.fit(last.weights(), 0.0, centred=True) - last.weights()
    moved = np.abs(np.einsum("gok,gk->go", np.abs(change), np.abs(wanted.inputs.mean))).max()
    assert moved < 1e-2 * np.abs(wanted.given).max()  # and not 1e9 times that
    assert np.linalg.eigvalsh(wanted.damped(0.0, centred=True)).min() > 0


def test_two_halves_make_the_whole() -> None:
    model = conv_net()
    feeds = _feeds(model, 5)
    for _, wanted in follow_inputs(model, graph.clone(model), find_products(model), lambda: feeds, samples=5):
        assert wanted.halves is not None
        first, second = wanted.halves
        assert first.inputs.rows + second.inputs.rows == wanted.inputs.rows
        share = first.inputs.rows / wanted.inputs.rows
        np.testing.assert_allclose(wanted.cross, share * first.cross + (1 - share) * second.cross)


def test_the_bias_brings_back_the_mean_and_the_fit_lowers_the_error() -> None:
    model = _chain()
    feeds = _feeds(model)
    shadow = graph.clone(model)
    there = {p.name: p for p in find_products(shadow)}
    for product, wanted in follow_inputs(model, shadow, find_products(model), lambda: feeds, samples=len(feeds)):
        coarse = np.round(product.weights() * 2) / 2
        fitted = wanted.fit(product.weights(), 0.01, centred=True)
        held = wanted.output_error(product.weights(), centred=True)
        assert wanted.output_error(fitted, centred=True) <= held * (1 + 1e-9)
        assert wanted.output_error(coarse, centred=True) <= wanted.output_error(coarse, centred=False)
        made = np.einsum("gok,gk->go", coarse, wanted.inputs.mean).reshape(-1) + wanted.shift(coarse)
        np.testing.assert_allclose(made, wanted.given.reshape(-1), rtol=1e-9, atol=1e-9)
        twin = there[product.name]
        graph.replace_weight(shadow, twin.weight_name, twin.array_of(coarse))


def test_rounding_that_follows_leaves_less_error_than_rounding_for_the_float_network() -> None:
    model = _chain()
    feeds, fresh = _feeds(model, 12), _feeds(model, 16)[12:]
    exact = [r["y"] for r in graph.run_many(model, fresh)]

    def noise(shadow: Any) -> float:
        products = find_products(model)
        seen = (
            gather_hessians(model, products, lambda: feeds, samples=12)
            if shadow is None
            else follow_inputs(model, shadow, products, lambda: feeds, samples=12)
        )
        small, _ = quantize_weights(model, seen, Form(3, "channel"), method="gptq", shadow=shadow)
        return sum(float(((r["y"] - y) ** 2).sum()) for r, y in zip(graph.run_many(small, fresh), exact, strict=True))

    assert noise(graph.clone(model)) < 0.9 * noise(None)


def test_few_samples_are_not_rounded_for_as_if_they_were_all() -> None:
    """A matrix of 64 columns and four rows: least squares on them is free, and worthless on others."""
    generator = np.random.default_rng(0)
    held = generator.standard_normal((64, 32)).astype(np.float32)
    model = load([node("MatMul", ["x", "w"], "y")], {"w": held}, (1, 64))
    feeds = _feeds(model, 4)
    inputs = generator.standard_normal((256, 64))
    errors = {}
    for method in ("nearest", "gptq"):
        shadow = graph.clone(model)
        seen = follow_inputs(model, shadow, find_products(model), lambda: feeds, samples=4)
        quantize_weights(model, seen, Form(3, "channel"), method=method, shadow=shadow)
        made = graph.constant(graph.find_value(shadow, "w"))
        errors[method] = float(((inputs @ (made - held)) ** 2).mean())
    assert errors["gptq"] < 1.1 * errors["nearest"]


def test_activations_that_would_not_fit_mean_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model = conv_net()
    feeds = _feeds(model, 8)
    monkeypatch.setattr(module, "HELD_BYTES", 1)
    (_, wanted), *_ = follow_inputs(model, graph.clone(model), find_products(model), lambda: feeds, samples=8)
    assert wanted.inputs.rows == 144  # one sample of 12 x 12


def test_no_samples_and_values_that_are_not_finite_are_refused() -> None:
    model = conv_net()
    with pytest.raises(CalibrationError, match="no calibration samples"):
        next(iter(follow_inputs(model, graph.clone(model), find_products(model), lambda: [], samples=0)))
    feeds = _feeds(model, 2)
    feeds[1]["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(CalibrationError, match="not finite"):
        next(iter(follow_inputs(model, graph.clone(model), find_products(model), lambda: feeds, samples=2)))
