"""Pruned models: the pattern is there, the ladder of methods holds, the mean of the outputs stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import conv_net, load, node

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.passes.gather_hessians import Inputs, gather_hessians
from edgezip.passes.products import Product, find_products
from edgezip.passes.prune_weights import METHODS, Pattern, prune_weights

Array = np.ndarray[Any, Any]


def _wide_net(seed: int = 0) -> Any:
    """A 3x3 convolution, a depthwise one and a product of 32 outputs: each kind that a pattern may meet."""
    generator = np.random.default_rng(seed)

    def w(*dims: int) -> Array:
        return (generator.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)

    weights = {"w1": w(32, 8, 3, 3), "w2": w(32, 1, 3, 3), "b2": w(32), "w3": w(32, 32)}
    nodes = [
        node("Conv", ["x", "w1"], "c1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], "r1"),
        node("Conv", ["r1", "w2", "b2"], "c2", pads=[1, 1, 1, 1], group=32),
        node("GlobalAveragePool", ["c2"], "g"),
        node("Flatten", ["g"], "f"),
        node("Gemm", ["f", "w3"], "y", transB=1),
    ]
    return load(nodes, weights, (1, 8, 10, 10))


def _inputs(model: Any, count: int = 6) -> list[tuple[Product, Inputs]]:
    generator = np.random.default_rng(9)
    mix = generator.standard_normal((8, 8))
    feeds = [
        {"x": np.einsum("ij,njhw->nihw", mix, generator.standard_normal((1, 8, 10, 10)) + 0.5).astype(np.float32)}
        for _ in range(count)
    ]
    return list(gather_hessians(model, find_products(model), lambda: feeds, samples=count))


def _kept(model: Any, name: str) -> Array:
    return next(p for p in find_products(model) if p.name == name).weights() != 0


@pytest.mark.parametrize("method", METHODS)
def test_blocks_of_4x16_are_whole_in_the_packed_order(method: str) -> None:
    model = _wide_net()
    pruned, rows = prune_weights(model, _inputs(model), Pattern("4x16"), 0.5, method=method)
    kept = _kept(pruned, "c1_node")[0]
    blocks = kept.reshape(2, 16, 18, 4)  # 2 panels of 16 outputs, 18 groups of 4 columns
    whole, gone = blocks.all(axis=(1, 3)), ~blocks.any(axis=(1, 3))
    assert (whole ^ gone).all()
    assert whole.mean() == 0.5
    by_name = {row.name: row for row in rows}
    assert "depthwise" in by_name["c2_node"].reason
    assert by_name["c2_node"].sparsity == 0.0
    assert by_name["c1_node"].sparsity == 0.5
    assert by_name["c1_node"].reason == ""
    assert np.array_equal(graph.constant(graph.find_value(model, "w1")), graph.constant(find_products(model)[0].weight))


def test_two_of_four_holds_in_every_layer() -> None:
    model = _wide_net()
    pruned, _ = prune_weights(model, _inputs(model), Pattern("2:4"), 0.5)
    for product in find_products(pruned):
        for at in range(0, product.columns - 3, 4):
            assert ((product.weights()[..., at : at + 4] != 0).sum(axis=-1) <= 2).all()


@pytest.mark.parametrize("pattern", ["1x1", "2:4", "4x16"])
def test_each_method_is_at_least_as_good_as_the_one_before(pattern: str) -> None:
    """Mean SQNR over layers: magnitude <= wanda <= obs, and obs clearly better."""
    model = _wide_net()
    layers = _inputs(model)
    mean = {}
    for method in METHODS:
        rows = prune_weights(model, layers, Pattern(pattern), 0.5, method=method)[1]
        mean[method] = np.mean([row.sqnr_db for row in rows if not row.reason])
    assert mean["magnitude"] <= mean["wanda"]
    assert mean["wanda"] + 0.5 <= mean["obs"]


@pytest.mark.parametrize("method", ["wanda", "obs"])
def test_the_mean_of_the_outputs_stays(method: str) -> None:
    """The bias takes up what the removed weights gave on average, also where there was none before."""
    model = _wide_net()
    layers = _inputs(model)
    pruned, rows = prune_weights(model, layers, Pattern("1x1"), 0.7, method=method)
    twins = {p.name: p for p in find_products(pruned)}
    for product, inputs in layers:
        twin = twins[product.name]
        before, after = (np.einsum("gok,gk->go", p.weights(), inputs.mean).reshape(-1) + _bias(p) for p in (product, twin))
        np.testing.assert_allclose(after, before, atol=1e-5)
    assert all(row.error is not None and row.error < (row.signal or 0) for row in rows)


def _bias(product: Product) -> Array | float:
    held = product.bias()
    values = graph.constant(held)
    return 0.0 if values is None else values.reshape(-1)


def test_a_bias_of_run_time_takes_up_nothing_and_the_report_knows() -> None:
    """The update then works on the whole second moment, and the row's error is what the layer gives."""
    generator = np.random.default_rng(5)
    held = generator.standard_normal((6, 6, 1, 1)).astype(np.float32)
    nodes = [node("ReduceMean", ["x"], "b", axes=[0, 2, 3], keepdims=0), node("Conv", ["x", "w", "b"], "y")]
    model = load(nodes, {"w": held}, (1, 6, 9, 9))
    feeds = [{"x": (generator.standard_normal((1, 6, 9, 9)) + 2).astype(np.float32)}]
    layers = list(gather_hessians(model, find_products(model), lambda: feeds, samples=1))
    pruned, (row,) = prune_weights(model, layers, Pattern("1x1"), 0.5)
    exact, made = graph.run(model, feeds[0])["y"], graph.run(pruned, feeds[0])["y"]
    assert row.error == pytest.approx(float(((made - exact) ** 2).sum(axis=1).mean()), rel=1e-4)


def test_the_reported_error_is_what_the_layer_gives() -> None:
    """One layer, all patches seen: the row's error is the mean squared difference of the outputs."""
    generator = np.random.default_rng(4)
    held = generator.standard_normal((20, 12)).astype(np.float32)
    model = load([node("Gemm", ["x", "w"], "y", transB=1)], {"w": held}, (50, 12))
    feeds = [{"x": generator.standard_normal((50, 12)).astype(np.float32)}]
    layers = list(gather_hessians(model, find_products(model), lambda: feeds, samples=1))
    pruned, (row,) = prune_weights(model, layers, Pattern("1x1"), 0.5)
    exact, made = graph.run(model, feeds[0])["y"], graph.run(pruned, feeds[0])["y"]
    assert row.error == pytest.approx(float(((made - exact) ** 2).sum(axis=1).mean()), rel=1e-4)


def test_one_ranking_over_all_layers_spares_the_layer_of_large_weights() -> None:
    model = conv_net()
    large = graph.constant(graph.find_value(model, "w3"))
    assert large is not None
    graph.replace_weight(model, "w3", large * 100)
    layers = [(p, None) for p in find_products(model)]
    rows = prune_weights(model, layers, Pattern("1x1"), 0.5, method="magnitude", everywhere=True)[1]
    sparsity = {row.name: row.sparsity for row in rows}
    assert sparsity["c3_node"] < 0.05 < 0.5 < max(sparsity.values()) <= 0.95


@pytest.mark.parametrize(
    ("pattern", "sparsity", "method", "word"),
    [
        ("4x17", 0.5, "obs", "no such pattern"),
        ("4:2", 0.5, "obs", "N is less than M"),
        ("2:4", 0.6, "obs", "removes 0.5"),
        ("4x16", 1.0, "obs", "between 0 and 1"),
        ("4x16", 0.5, "lottery", "no such method"),
        ("1x1", 0.5, "wanda", "needs calibration data"),
    ],
)
def test_what_cannot_be_is_refused(pattern: str, sparsity: float, method: str, word: str) -> None:
    model = conv_net()
    with pytest.raises(UsageError, match=word):
        prune_weights(model, [(p, None) for p in find_products(model)], Pattern(pattern), sparsity, method=method)


def test_what_is_to_be_kept_stays() -> None:
    model = _wide_net()
    pruned, rows = prune_weights(model, _inputs(model), Pattern("1x1"), 0.5, keep=("Gemm", "c1_*"))
    assert {row.name for row in rows if row.reason == "kept by request"} == {"c1_node", "y_node"}
    assert _kept(pruned, "c1_node").all()
    assert not _kept(pruned, "c2_node").all()
