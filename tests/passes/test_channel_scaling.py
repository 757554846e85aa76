"""Scaling channels against each other: the network computes the same, and what comes after rounds better."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
from small_nets import conv_net, load, node

import edgezip
from edgezip import graph
from edgezip.errors import UsageError
from edgezip.frontends import onnx as front
from edgezip.passes.channel_links import apply_scale, find_links
from edgezip.passes.equalize_channels import equalize_channels
from edgezip.passes.gather_hessians import Inputs, gather_hessians
from edgezip.passes.products import Product, find_products
from edgezip.passes.quantize_weights import quantize_weights
from edgezip.passes.smooth_activations import smooth_activations
from edgezip.passes.weight_grid import Form
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session

Array = np.ndarray[Any, Any]


def _w(generator: np.random.Generator, *dims: int) -> Array:
    return (generator.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)


def _chain(cap: bool = False) -> Any:
    """conv, relu (or relu6), depthwise, leaky relu, pool, grouped conv, global pool, flatten, gemm: a link at every step."""
    g = np.random.default_rng(0)
    weights = {
        "w1": _w(g, 16, 3, 3, 3), "b1": _w(g, 16), "w2": _w(g, 16, 1, 3, 3), "b2": _w(g, 16), "w3": _w(g, 8, 8, 1, 1),
        "w4": _w(g, 10, 8), "b4": _w(g, 10), "zero": np.float32(0), "six": np.float32(6),
    }  # fmt: skip
    first = node("Clip", ["c1", "zero", "six"], "r1") if cap else node("Relu", ["c1"], "r1")
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1", pads=[1, 1, 1, 1]),
        first,
        node("Conv", ["r1", "w2", "b2"], "c2", group=16),
        node("LeakyRelu", ["c2"], "r2"),
        node("MaxPool", ["r2"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w3"], "c3", group=2),
        node("GlobalAveragePool", ["c3"], "a"),
        node("Flatten", ["a"], "f"),
        node("Gemm", ["f", "w4", "b4"], "y", transB=1),
    ]
    return load(nodes, weights, (1, 3, 12, 12))


def _transformer(outliers: bool = True) -> Any:
    """LayerNorm with two readers (one behind an added row), then a product that reads another: sentences in small."""
    g = np.random.default_rng(1)
    gain = np.ones(32, np.float32)
    if outliers:
        gain[[3, 17]] = 40.0
    weights = {"gain": gain, "shift": _w(g, 32), "q": _w(g, 32, 24), "k": _w(g, 32, 24), "bq": _w(g, 24), "o": _w(g, 24, 8)}
    nodes = [
        node("LayerNormalization", ["x", "gain", "shift"], "n", axis=-1),
        node("MatMul", ["n", "q"], "mq"),
        node("Add", ["mq", "bq"], "aq"),
        node("MatMul", ["aq", "o"], "ao"),
        node("MatMul", ["n", "k"], "mk"),
        node("ReduceMean", ["mk"], "m", axes=[-1], keepdims=1),
        node("Add", ["ao", "m"], "y"),
    ]
    return load(nodes, weights, (1, 20, 32))


def _feeds(model: Any, count: int = 6, seed: int = 2) -> list[dict[str, Array]]:
    generator = np.random.default_rng(seed)
    shape = graph.shape(graph.input_values(model)[0])
    return [{"x": generator.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def _seen(model: Any) -> list[tuple[Product, Inputs]]:
    feeds = _feeds(model)
    return list(gather_hessians(model, find_products(model), lambda: feeds, samples=len(feeds)))


def _noise(model: Any, other: Any) -> float:
    error = signal = 0.0
    for feed in _feeds(model, seed=9):
        exact, made = graph.run(model, feed)["y"], graph.run(other, feed)["y"]
        error, signal = error + float(((made - exact) ** 2).sum()), signal + float((exact**2).sum())
    return error / signal


def test_every_step_of_a_chain_is_a_link_and_any_scale_leaves_the_network_as_it_is() -> None:
    model = _chain()
    scaled = graph.clone(model)
    links = find_links(scaled)
    assert [link.name for link in links] == ["c1_node", "c2_node", "c3_node"]
    generator = np.random.default_rng(3)
    for link in links:
        apply_scale(scaled, link, 2.0 ** generator.integers(-6, 7, link.channels))
    assert _noise(model, scaled) < 1e-10
    assert not np.array_equal(graph.constant(graph.find_value(model, "w2")), graph.constant(graph.find_value(scaled, "w2")))


def test_a_norm_and_both_its_readers_are_one_link() -> None:
    model = _transformer()
    scaled = graph.clone(model)
    links = {link.name: link for link in find_links(scaled)}
    assert {name: len(link.consumers) for name, link in links.items()} == {"n_node": 2, "mq_node": 1}
    generator = np.random.default_rng(4)
    for link in links.values():
        apply_scale(scaled, link, np.exp(generator.standard_normal(link.channels)))
    assert _noise(model, scaled) < 1e-10


def test_a_value_that_a_residual_sum_reads_is_no_link() -> None:
    assert "c1_node" not in {link.name for link in find_links(conv_net())}


def test_shared_biases_and_graph_outputs_are_no_links() -> None:
    g = np.random.default_rng(5)
    weights = {"a": _w(g, 4, 4, 1, 1), "b": _w(g, 4), "c": _w(g, 4, 4, 1, 1), "d": _w(g, 4, 4, 1, 1)}
    nodes = [node("Conv", ["x", "a", "b"], "m"), node("Conv", ["m", "c", "b"], "n"), node("Conv", ["n", "d"], "y")]
    assert find_links(load(nodes, weights, (1, 4, 3, 3))) == []


@pytest.mark.parametrize("cap", [False, True])
def test_equalisation_restores_what_random_powers_of_two_broke(cap: bool) -> None:
    """Data-free: int8 with one scale for the tensor collapses on rescaled channels and is itself again after equalisation."""
    model = _chain(cap)
    broken = graph.clone(model)
    generator = np.random.default_rng(6)
    for link in find_links(broken, through_caps=False):
        apply_scale(broken, link, 2.0 ** generator.integers(-7, 8, link.channels))
    assert _noise(model, broken) < 1e-10
    equal, rows = equalize_channels(broken)
    assert {row.name for row in rows} == {"c1_node", "c2_node", "c3_node"}
    noise = {}
    for name, net in (("broken", broken), ("equal", equal), ("before", model)):
        small, _ = quantize_weights(net, [(p, None) for p in find_products(net)], Form(8, "tensor"), method="nearest")
        noise[name] = _noise(model, small)
    assert noise["broken"] > 0.05
    assert noise["equal"] < 2 * noise["before"] + 1e-4


def test_relu6_is_left_alone_on_request_and_gets_a_cap_for_each_channel_otherwise() -> None:
    model = _chain(cap=True)
    kept, rows = equalize_channels(model, through_relu6=False)
    assert "Clip" in {n.op_type for n in graph.nodes(kept)}
    assert "c1_node" not in {row.name for row in rows}
    equal, rows = equalize_channels(model)
    assert "c1_node" in {row.name for row in rows}
    assert [n.op_type for n in graph.nodes(equal)].count("Min") == 1  # later sweeps move it, and add none
    feed = {"x": 20 * np.random.default_rng(0).standard_normal(graph.shape(graph.input_values(model)[0])).astype(np.float32)}
    exact, made = (next(iter(graph.run(each, feed).values())) for each in (model, equal))
    np.testing.assert_allclose(made, exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max())
    assert (graph.run(model, feed, ["r1"])["r1"] == 6).any()  # or the test would show nothing


def test_equalised_caps_run_in_int8_as_the_reference_says() -> None:
    model = _chain(cap=True)
    generator = np.random.default_rng(1)
    shape = graph.shape(graph.input_values(model)[0])
    samples = [{"x": 5 * generator.standard_normal(shape).astype(np.float32)} for _ in range(8)]
    small = edgezip.compress(model, edgezip.Recipe.of([{"equalize": {}}], edgezip.Recipe.int8("minmax")), calibration=samples)
    program = edgezip.compile(front.load(graph.to_bytes(small.model)), "host", vectors=0)
    exact = next(iter(graph.run(model, samples[0]).values()))
    native, plain = (next(iter(session(program).run(samples[0]).values())) for session in (Session, ReferenceSession))
    assert np.array_equal(native, plain)
    assert ((native - exact) ** 2).sum() < 0.01 * (exact**2).sum()


def test_smoothing_moves_outliers_of_a_norm_into_the_weights() -> None:
    """Per-tensor int8 of the norm's output, simulated: with outlier channels smoothing pays, and the function stays."""
    model = _transformer()
    smooth, rows = smooth_activations(model, _seen(model))
    assert _noise(model, smooth) < 1e-10
    assert not {row.name: row for row in rows}["n_node"].reason
    errors = []
    for net in (model, smooth):
        feed = _feeds(net, 1, seed=11)[0]
        x = graph.run(net, feed, ["n"])["n"]
        step = np.abs(x).max() / 127
        rounded = np.rint(x / step) * step
        held = graph.constant(graph.find_value(net, "q"))
        assert held is not None
        fine = np.abs(held).max(axis=0) / 127
        errors.append(float(((rounded @ (np.rint(held / fine) * fine) - x @ held) ** 2).sum()))
    assert errors[1] < 0.3 * errors[0]


def test_awq_lowers_the_error_of_four_bit_weights() -> None:
    model = _transformer()
    form = Form(3, "channel")
    moved, _ = smooth_activations(model, _seen(model), method="awq", form=form)
    assert _noise(model, moved) < 1e-10
    noise = []
    for net in (model, moved):
        small, _ = quantize_weights(net, _seen(net), form, method="nearest")
        noise.append(_noise(model, small))
    assert noise[1] < 0.8 * noise[0]


def test_awq_goes_through_relu6_and_leaves_depthwise_layers_alone() -> None:
    """A depthwise layer's channel has scales of its own: no factor changes what rounding does to it."""
    model = _chain(cap=True)
    moved, rows = smooth_activations(model, _seen(model), method="awq", form=Form(3, 32))
    assert _noise(model, moved) < 1e-10
    assert {row.name: bool(row.reason) for row in rows}["c1_node"]
    closed, rows = smooth_activations(model, _seen(model), method="awq", form=Form(3, 32), through_relu6=False)
    assert {row.name for row in rows} < {link.name for link in find_links(model, through_caps=True)}
    assert all(node.op_type != "Min" for node in graph.nodes(closed))


def test_where_nothing_is_gained_nothing_moves() -> None:
    model = _transformer(outliers=False)
    with pytest.raises(UsageError, match="no such method"):
        smooth_activations(model, [], method="roughen")
    assert smooth_activations(model, [])[1] == []


def test_moments_are_let_go_as_soon_as_their_links_are_done() -> None:
    model = _transformer()
    alive: list[weakref.ref[Any]] = []
    most = 0

    def counted() -> Any:
        nonlocal most
        for product, inputs in _seen(model):
            copied = Inputs(inputs.hessian.copy(), inputs.mean, inputs.largest, inputs.rows)
            alive.append(weakref.ref(copied.hessian))
            yield product, copied
            del copied
            most = max(most, sum(ref() is not None for ref in alive))

    smooth_activations(model, counted())
    readers = [len(link.consumers) for link in find_links(model)]
    assert most <= max(readers) + 1
    assert len(alive) > most
