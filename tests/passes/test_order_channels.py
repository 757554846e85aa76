"""Channels in another order: the network computes what it did, and N:M pruning keeps more."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from small_nets import conv_net
from test_prune_channels import NETS as MORE
from test_prune_channels import _feeds

from edgezip import graph
from edgezip.compression import compress
from edgezip.passes.order_channels import order_channels
from edgezip.passes.products import find_products
from edgezip.passes.prune_weights import Pattern, prune_weights
from edgezip.recipe import Recipe

NETS = {**MORE, "wide": lambda: conv_net(channels=64)}


@pytest.mark.parametrize("net", NETS)
def test_the_network_computes_what_it_did(net: str) -> None:
    """Split, Concat, residual sums, grouped and depthwise convolutions, Flatten, heads: all move together or not at all."""
    model = NETS[net]()
    ordered, rows = order_channels(model, [(p, None) for p in find_products(model)], 2, 4)
    assert net == "attention" or any(row.outputs for row in rows)
    for feed in _feeds(model):
        np.testing.assert_allclose(graph.run(ordered, feed)["y"], graph.run(model, feed)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", ["plain", "joined", "wide"])
def test_more_is_kept_than_in_the_order_of_the_file(net: str) -> None:
    model = NETS[net]()
    kept = []
    for each in (model, order_channels(model, [(p, None) for p in find_products(model)], 2, 4)[0]):
        pruned, _ = prune_weights(each, [(p, None) for p in find_products(each)], Pattern("2:4"), 0.5, method="magnitude")
        kept.append(sum(float((p.weights() ** 2).sum()) for p in find_products(pruned)))
    assert kept[1] > 1.005 * kept[0]


def test_rows_say_where_each_output_came_from() -> None:
    model = conv_net(channels=64)
    ordered, rows = order_channels(model, [(p, None) for p in find_products(model)], 2, 4)
    moved = {row.name: row.outputs for row in rows if row.outputs}
    feed = _feeds(model)[0]
    for name, outputs in moved.items():
        value = graph.find_node(model, name).outputs[0].name or ""
        old, new = graph.run(model, feed, [value])[value], graph.run(ordered, feed, [value])[value]
        np.testing.assert_allclose(new, old[:, list(outputs)], rtol=1e-4, atol=1e-5)
        assert outputs != tuple(range(64))
    assert "y_node" not in moved


def test_a_recipe_with_n_of_m_orders_first_and_recovers_against_the_moved_outputs() -> None:
    steps: list[dict[str, Any]] = [{"prune": {"pattern": "2:4", "sparsity": 0.5}}]
    feeds = [{"x": f["x"]} for f in itertools.chain.from_iterable(_feeds(conv_net(channels=64)) for _ in range(4))]
    noise = {}
    for permute, recover in itertools.product((False, True), ("none", "refit")):
        steps[0]["prune"]["permute"] = permute
        small = compress(conv_net(channels=64), Recipe.of(steps, recover=recover), calibration=feeds)
        assert [report.name for report in small.report.passes] == (["order_channels", "prune"] if permute else ["prune"])
        exact = conv_net(channels=64)
        noise[permute, recover] = sum(
            float(((graph.run(small.model, f)["y"] - graph.run(exact, f)["y"]) ** 2).sum()) for f in feeds
        )
    assert noise[True, "none"] < noise[False, "none"]
    assert noise[True, "refit"] < noise[True, "none"]
