"""Channels taken out: the smaller graph computes what the masked one computes, and what hangs on a channel goes with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import conv_net, load, node

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.frontends import onnx as front
from edgezip.passes.channel_sets import find_channel_sets
from edgezip.passes.gather_hessians import gather_hessians
from edgezip.passes.products import find_products
from edgezip.passes.prune_channels import prune_channels, remove_channels, select_channels

Array = np.ndarray[Any, Any]


def _w(generator: np.random.Generator, *dims: int) -> Array:
    return (generator.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)


def _plain() -> Any:
    """Convolutions, grouped and depthwise, a gate, Flatten with space left, two products."""
    g = np.random.default_rng(0)
    weights = {
        "a": _w(g, 32, 3, 3, 3), "ab": _w(g, 32), "d": _w(g, 32, 1, 3, 3), "s": _w(g, 8, 32, 1, 1), "e": _w(g, 32, 8, 1, 1),
        "k": _w(g, 24, 8, 1, 1), "m": _w(g, 20, 24 * 9), "mb": _w(g, 20), "o": _w(g, 20, 5), "slope": _w(g, 32, 1, 1),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "a", "ab"], "c1", pads=[1, 1, 1, 1]),
        node("PRelu", ["c1", "slope"], "r1"),
        node("Conv", ["r1", "d"], "c2", group=32),
        node("GlobalAveragePool", ["c2"], "g"),
        node("Conv", ["g", "s"], "squeeze"),
        node("Relu", ["squeeze"], "rs"),
        node("Conv", ["rs", "e"], "excite"),
        node("Sigmoid", ["excite"], "gate"),
        node("Mul", ["c2", "gate"], "gated"),
        node("Conv", ["gated", "k"], "c3", group=4, strides=[2, 2]),
        node("Flatten", ["c3"], "f"),
        node("Gemm", ["f", "m", "mb"], "h", transB=1),
        node("Relu", ["h"], "rh"),
        node("MatMul", ["rh", "o"], "y"),
    ]
    return load(nodes, weights, (1, 3, 8, 8))


def _joined() -> Any:
    """A residual sum, a Concat of two branches, a Split of it, and a transposed convolution."""
    g = np.random.default_rng(1)
    weights = {
        "a": _w(g, 16, 3, 3, 3), "b": _w(g, 16, 16, 3, 3), "p": _w(g, 24, 16, 1, 1), "q": _w(g, 24, 16, 1, 1),
        "t": _w(g, 24, 12, 2, 2), "tb": _w(g, 12), "u": _w(g, 4, 12, 1, 1), "v": _w(g, 4, 24, 1, 1),
        "halves": np.array([24, 24], np.int64), "row": _w(g, 1, 16, 1, 1),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "a"], "c1", pads=[1, 1, 1, 1]),
        node("Conv", ["c1", "b"], "c2", pads=[1, 1, 1, 1]),
        node("Add", ["c1", "c2"], "sum"),
        node("Mul", ["sum", "row"], "scaled"),
        node("Conv", ["scaled", "p"], "left"),
        node("Conv", ["scaled", "q"], "right"),
        node("Concat", ["left", "right"], "both", axis=1),
        _two_outputs("Split", ["both", "halves"], ["first", "second"], axis=1),
        node("ConvTranspose", ["first", "t", "tb"], "up", strides=[2, 2]),
        node("Conv", ["up", "u"], "o1"),
        node("Conv", ["second", "v"], "o2"),
        node("MaxPool", ["o1"], "o3", kernel_shape=[2, 2], strides=[2, 2]),
        node("Add", ["o3", "o2"], "y"),
    ]
    return load(nodes, weights, (1, 3, 6, 6))


def _two_outputs(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, inputs, outputs, name=f"{outputs[0]}_node", **attributes)


def _attention() -> Any:
    """Four heads of 8: reshapes, transposes, two products of activations; heads go whole."""
    g = np.random.default_rng(2)
    weights = {name: _w(g, 24, 32) for name in ("q", "k", "v")}
    weights |= {
        "o": _w(g, 32, 24),
        "bq": _w(g, 32),
        "split": np.array([1, 10, 4, 8], np.int64),
        "join": np.array([1, 10, 32], np.int64),
    }
    nodes = [
        node("MatMul", ["x", "q"], "mq"),
        node("Add", ["mq", "bq"], "aq"),
        node("Reshape", ["aq", "split"], "rq"),
        node("Transpose", ["rq"], "tq", perm=[0, 2, 1, 3]),
        node("MatMul", ["x", "k"], "mk"),
        node("Reshape", ["mk", "split"], "rk"),
        node("Transpose", ["rk"], "tk", perm=[0, 2, 3, 1]),
        node("MatMul", ["tq", "tk"], "scores"),
        node("Softmax", ["scores"], "weights", axis=-1),
        node("MatMul", ["x", "v"], "mv"),
        node("Reshape", ["mv", "split"], "rv"),
        node("Transpose", ["rv"], "tv", perm=[0, 2, 1, 3]),
        node("MatMul", ["weights", "tv"], "heads"),
        node("Transpose", ["heads"], "back", perm=[0, 2, 1, 3]),
        node("Reshape", ["back", "join"], "joined"),
        node("MatMul", ["joined", "o"], "mo"),
        node("Add", ["mo", "x"], "y"),
    ]
    return load(nodes, weights, (1, 10, 24))


NETS = {"plain": _plain, "joined": _joined, "attention": _attention, "conv_net": lambda: conv_net(channels=32)}


def _feeds(model: Any, count: int = 4) -> list[dict[str, Array]]:
    generator = np.random.default_rng(3)
    shape = graph.shape(graph.input_values(model)[0])
    return [{"x": generator.standard_normal(shape).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("macs", [0.2, 0.5])
def test_the_smaller_graph_is_valid_smaller_and_runs(net: str, macs: float) -> None:
    model = NETS[net]()
    layers = [(p, None) for p in find_products(model)]
    pruned, rows = prune_channels(model, layers, macs, method="l2", multiple=4)
    again = front.load(graph.to_bytes(pruned))  # checked, and shapes inferred anew
    for feed in _feeds(model):
        made, exact = graph.run(again, feed)["y"], graph.run(model, feed)["y"]
        assert made.shape == exact.shape
        assert np.array_equal(made, graph.run(pruned, feed)["y"])
    before, after = (sum(p.weights().size for p in find_products(m)) for m in (model, pruned))
    assert after < before
    assert sum(row.bytes_after for row in rows) == 4 * after
    assert any(not row.reason for row in rows)


@pytest.mark.parametrize("net", ["plain", "joined", "conv_net"])
@pytest.mark.parametrize("macs", [0.15, 0.5])
def test_the_smaller_graph_computes_what_the_masked_one_computes(net: str, macs: float) -> None:
    """Cutting slices equals setting them to zero: no operator between mixes channels or adds something of its own."""
    model = NETS[net]()
    seen = {p.name: (p, None) for p in find_products(model)}
    sets, gone = select_channels(model, seen, macs, method="l2", multiple=4)
    assert gone
    masked, pruned = graph.clone(model), graph.clone(model)
    for cut in sets.slices:
        held = graph.constant(graph.find_value(masked, cut.name))
        assert held is not None
        dead = np.isin(sets.roots(cut.labels), list(gone))
        held = held.copy()
        held[tuple(dead if axis == cut.axis else slice(None) for axis in range(held.ndim))] = 0
        graph.replace_weight(masked, cut.name, held)
    remove_channels(pruned, sets, gone)
    for feed in _feeds(model):
        np.testing.assert_allclose(graph.run(pruned, feed)["y"], graph.run(masked, feed)["y"], atol=1e-5)


def test_channels_that_give_nothing_go_first_and_nothing_changes() -> None:
    """A quarter of the channels is dead: taking a quarter out leaves every output as it was, to rounding."""
    model = _joined()
    held = graph.constant(graph.find_value(model, "row"))
    assert held is not None
    dead = np.arange(0, 16, 4)
    held = held.copy()
    held[:, dead] = 0
    graph.replace_weight(model, "row", held)
    sets = find_channel_sets(model)
    feeds = _feeds(model)
    layers = list(gather_hessians(model, find_products(model), lambda: feeds, samples=len(feeds)))
    for p in find_products(model):
        if p.name == "c2_node":
            weights = p.weights()
            weights[:, :, np.tile(np.isin(np.arange(16), dead), 9)] = 0
            graph.replace_weight(model, "b", p.array_of(weights))
    assert sets.slices
    pruned, rows = prune_channels(model, layers, 0.15, multiple=1, keep=("left_node", "right_node", "up_node"))
    assert {row.name: row.form for row in rows}["c1_node"].endswith(("12 outputs", "13 outputs"))
    for feed in feeds:
        np.testing.assert_allclose(graph.run(pruned, feed)["y"], graph.run(model, feed)["y"], atol=1e-4)


def test_heads_go_whole() -> None:
    model = _attention()
    pruned, rows = prune_channels(model, [(p, None) for p in find_products(model)], 0.4, method="l2", multiple=8)
    outputs = {p.name: p.outputs for p in find_products(pruned)}
    assert outputs["mq_node"] == outputs["mk_node"] == outputs["mv_node"] == 16
    assert {row.name for row in rows if row.reason} == set()
    shapes = {n.name: graph.shape(n.outputs[0]) for n in graph.nodes(pruned)}
    assert shapes["rq_node"] == (1, 10, 2, 8)


def test_a_residual_sum_ties_and_an_output_freezes() -> None:
    sets = find_channel_sets(_joined())
    tied = {
        cut.name: set(sets.roots(cut.labels)) for cut in sets.slices if (cut.name, cut.axis) in (("a", 0), ("b", 0), ("b", 1))
    }
    assert tied["a"] == tied["b"]
    assert {cut.name for cut in sets.slices if cut.axis == 0 and (sets.roots(cut.labels) == 0).all()} >= {"u", "v"}


def test_fitting_again_lowers_the_error_of_the_network() -> None:
    model = _plain()
    feeds = _feeds(model, 40)
    layers = list(gather_hessians(model, find_products(model), lambda: feeds, samples=len(feeds)))
    sets, gone = select_channels(model, {p.name: (p, inputs) for p, inputs in layers}, 0.4, multiple=4)
    cut = graph.clone(model)
    remove_channels(cut, sets, gone)
    fitted, _ = prune_channels(model, layers, 0.4, multiple=4)
    noise = [sum(float(((graph.run(m, f)["y"] - graph.run(model, f)["y"]) ** 2).sum()) for f in feeds) for m in (fitted, cut)]
    assert noise[0] < 0.95 * noise[1]  # white inputs leave channels little to answer for each other with


def test_channels_go_where_they_cost_least_for_what_they_save() -> None:
    """Two branches of one size, one read by weights a hundred times smaller: it goes first, and the other stays whole."""
    g = np.random.default_rng(4)
    weights = {"a": _w(g, 32, 3, 3, 3), "b": _w(g, 32, 3, 3, 3), "u": _w(g, 4, 64, 1, 1)}
    weights["u"][:, :24] *= 0.01  # of the first branch's channels, three in four
    nodes = [
        node("Conv", ["x", "a"], "left"),
        node("Conv", ["x", "b"], "right"),
        node("Concat", ["left", "right"], "both", axis=1),
        node("Conv", ["both", "u"], "y"),
    ]
    model = load(nodes, weights, (1, 3, 8, 8))
    feeds = _feeds(model)
    layers = list(gather_hessians(model, find_products(model), lambda: feeds, samples=len(feeds)))
    pruned, _ = prune_channels(model, layers, 0.35, multiple=8)
    assert [p.outputs for p in find_products(pruned)] == [8, 32, 4]


def test_an_unknown_operator_freezes_its_set_with_a_word() -> None:
    g = np.random.default_rng(5)
    nodes = [
        node("Conv", ["x", "a"], "c"),
        node("CumSum", ["c", "axis"], "s"),
        node("Conv", ["s", "b"], "y"),
    ]
    model = load(nodes, {"a": _w(g, 16, 4, 1, 1), "b": _w(g, 4, 16, 1, 1), "axis": np.array(1, np.int64)}, (1, 4, 3, 3))
    sets = find_channel_sets(model)
    assert "CumSum is not known" in sets.frozen["s_node"]
    with pytest.raises(UsageError, match="at most 0%"):
        prune_channels(model, [(p, None) for p in find_products(model)], 0.5, method="l2")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"method": "lottery"}, "no such method"),
        ({"macs": 1.0}, "between 0 and 1"),
        ({"macs": 0.99}, "at most"),
        ({"method": "wanda"}, "needs calibration"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], word: str) -> None:
    model = _plain()
    with pytest.raises(UsageError, match=word):
        prune_channels(model, [(p, None) for p in find_products(model)], **{"macs": 0.5, "method": "l2", **options})
