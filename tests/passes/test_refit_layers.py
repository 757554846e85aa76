"""Recovery without labels: less error on samples that no fit saw, zeros stay zeros, and chance is not fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import conv_net, load, node, samples

from edgezip import graph
from edgezip.passes.products import find_products
from edgezip.passes.prune_weights import Pattern, prune_weights
from edgezip.passes.refit_layers import refit_layers
from edgezip.passes.walk_graph import Walk

Array = np.ndarray[Any, Any]


def _linear_net(seed: int = 0) -> Any:
    """MatMul and Add, Gelu's Tanh in between: biases that stand behind their products."""
    g = np.random.default_rng(seed)
    weights = {
        name: (g.standard_normal(dims) / np.sqrt(dims[0])).astype(np.float32)
        for name, dims in {"w1": (24, 32), "b1": (32,), "w2": (32, 24), "b2": (24,)}.items()
    }
    nodes = [
        node("MatMul", ["x", "w1"], "m1"),
        node("Add", ["b1", "m1"], "a1"),
        node("Relu", ["a1"], "r"),
        node("MatMul", ["r", "w2"], "m2"),
        node("Add", ["m2", "b2"], "y"),
    ]
    return load(nodes, weights, (1, 10, 24))


NETS = {"conv": (conv_net, (1, 3, 12, 12)), "linear": (_linear_net, (1, 10, 24))}


def _pruned(model: Any, sparsity: float = 0.6) -> Any:
    layers = [(p, None) for p in find_products(model)]
    return prune_weights(model, layers, Pattern("1x1"), sparsity, method="magnitude")[0]


def _noise(model: Any, small: Any, feeds: list[dict[str, Array]]) -> float:
    return sum(float(((graph.run(small, feed)["y"] - graph.run(model, feed)["y"]) ** 2).sum()) for feed in feeds)


def test_a_walk_gives_what_a_run_gives_and_each_change_is_seen_behind_it() -> None:
    model = conv_net()
    feeds = samples(count=3)
    walk = Walk(model, feeds, ["r1", "c3", "y"])
    for name in ("r1", "c3"):
        for made, feed in zip(walk.values(name), feeds, strict=True):
            np.testing.assert_array_equal(made, graph.run(model, feed, [name])[name])
    held = graph.constant(graph.find_value(model, "b4"))
    assert held is not None
    graph.replace_weight(model, "b4", held + 1)
    for made, feed in zip(walk.values("y"), feeds, strict=True):
        np.testing.assert_allclose(made, graph.run(model, feed)["y"], rtol=1e-6)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("mode", ["bias", "refit"])
def test_a_pruned_network_comes_nearer_on_unseen_samples(net: str, mode: str) -> None:
    build, shape = NETS[net]
    model = build()
    small = _pruned(model)
    feeds = samples(shape, 24)
    made, rows = refit_layers(model, small, lambda: feeds, samples=len(feeds), mode=mode)
    unseen = samples(shape, 12, seed=9)
    before, after = _noise(model, small, unseen), _noise(model, made, unseen)
    # inputs without correlation leave the first layer nothing to answer with: the gain is that of the layers behind
    assert after < before * (0.8 if mode == "refit" else 0.95)
    assert all(row.after_db >= row.before_db for row in rows)
    assert {row.way for row in rows} <= ({"left", "bias"} if mode == "bias" else {"left", "bias", "refit"})


def test_zeros_of_a_pruned_layer_stay() -> None:
    model = conv_net()
    small = _pruned(model)
    feeds = samples(count=16)
    made, _ = refit_layers(model, small, lambda: feeds, samples=len(feeds))
    for old, new in zip(find_products(small), find_products(made), strict=True):
        assert ((new.weights() == 0) == (old.weights() == 0)).all()


def test_codes_stay_and_their_bias_moves() -> None:
    from edgezip.passes.quantize_weights import quantize_weights
    from edgezip.passes.weight_grid import Form

    model = conv_net()
    layers = [(p, None) for p in find_products(model)]
    small, _ = quantize_weights(model, layers, Form(2, "channel"), method="nearest")
    feeds = [{"x": feed["x"] + 1} for feed in samples(count=16)]
    made, rows = refit_layers(model, small, lambda: feeds, samples=len(feeds))
    assert "bias" in {row.way for row in rows}
    for name in ("w1_quantized", "w4_quantized"):
        old, new = (graph.constant(graph.find_value(m, name)) for m in (small, made))
        assert np.array_equal(old, new)  # type: ignore[arg-type]
    assert _noise(model, made, feeds) < _noise(model, small, feeds)


def test_outputs_that_are_left_are_fitted_to_their_own() -> None:
    """Rows 5, 1 and 3 of six: each has to give what it gave before."""
    g = np.random.default_rng(2)
    held, chosen = g.standard_normal((6, 12)).astype(np.float32), [5, 1, 3]
    tail = g.standard_normal((6, 4)).astype(np.float32)

    def build(w: Array, t: Array) -> Any:
        return load([node("Gemm", ["x", "w"], "h", transB=1), node("MatMul", ["h", "t"], "y")], {"w": w, "t": t}, (20, 12))

    model, small = build(held, tail), build(np.zeros((3, 12), np.float32) + 0.5, tail[chosen])
    feeds = samples((20, 12), 8)
    made, _ = refit_layers(model, small, lambda: feeds, samples=8, outputs={"h_node": chosen})
    np.testing.assert_allclose(find_products(made)[0].weights()[0], held[chosen], atol=1e-2)


def test_what_is_kept_and_what_comes_before_any_change_stays_and_one_sample_recovers_nothing() -> None:
    model = conv_net()
    small = _pruned(model)
    feeds = samples(count=8)
    _, rows = refit_layers(model, small, lambda: feeds, samples=8, keep=("c2_node",))
    assert "c2_node" not in {row.name for row in rows}
    assert refit_layers(model, small, lambda: feeds, samples=1)[1] == []
    late = graph.clone(model)
    held = graph.constant(graph.find_value(late, "w4"))
    assert held is not None
    graph.replace_weight(late, "w4", held * 1.1)
    assert [row.name for row in refit_layers(model, late, lambda: feeds, samples=8)[1]] == ["y_node"]
