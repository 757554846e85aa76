"""Shared values: the model runs on the table's entries and nothing else, with any runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import conv_net, load, node
from test_products import CASES

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.frontends import onnx as front
from edgezip.passes.cluster_weights import TABLES, Codebook, cluster_weights
from edgezip.passes.gather_hessians import gather_hessians
from edgezip.passes.products import find_products

Array = np.ndarray[Any, Any]


def _model(case: str) -> tuple[Any, dict[str, Array]]:
    op, shape, weight, attributes = CASES[case]
    generator = np.random.default_rng(1)
    held = generator.standard_normal(weight).astype(np.float32)
    model = load([node(op, ["x", "w"], "y", **attributes)], {"w": held}, shape)
    return model, {"x": generator.standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize("case", CASES)
def test_256_entries_give_what_the_float_layer_gives(case: str) -> None:
    model, feed = _model(case)
    small, (row,) = cluster_weights(model, [(p, None) for p in find_products(model)], Codebook("kmeans", 256))
    exact, made = graph.run(model, feed)["y"], graph.run(small, feed)["y"]
    noise = float(((made - exact) ** 2).sum() / (exact**2).sum())
    assert noise == 0 if row.reason else 0 < noise < 1e-3


@pytest.mark.parametrize("table", [*TABLES, (-127, -40, 0, 40, 127)])
def test_every_weight_is_an_entry_times_its_outputs_scale(table: Any) -> None:
    model, feed = _model("strided")
    small, (row,) = cluster_weights(model, [(p, None) for p in find_products(model)], Codebook(table, 8))
    reread = front.load(graph.to_bytes(small))  # the front end folds the table away
    again = graph.run(reread, feed)["y"]
    assert np.array_equal(graph.run(small, feed)["y"], again)
    entries = graph.constant(graph.find_value(small, "w_codebook"))
    indices = graph.constant(graph.find_value(small, "w_indices"))
    assert entries is not None
    assert indices is not None
    assert indices.dtype == np.uint8
    assert indices.max() < len(entries) <= (16 if table == "nf4" else 8)
    assert row.bytes_after == indices.nbytes + entries.nbytes + 5 * indices.shape[0]


def test_calibration_data_lower_the_error() -> None:
    model, feed = _model("strided")
    products = find_products(model)
    layers = list(gather_hessians(model, products, lambda: [feed], samples=1))
    exact = graph.run(model, feed)["y"]
    noise = []
    for given in ([(p, None) for p in products], layers):
        small, _ = cluster_weights(model, given, Codebook("kmeans", 4))
        noise.append(float(((graph.run(small, feed)["y"] - exact) ** 2).sum()))
    assert noise[1] < noise[0]


def test_zeros_of_a_pruned_layer_stay_zeros() -> None:
    model, feed = _model("strided")
    held = graph.constant(graph.find_value(model, "w"))
    assert held is not None
    mask = np.random.default_rng(5).random(held.shape) < 0.5
    graph.replace_weight(model, "w", np.where(mask, held, 0).astype(np.float32))
    layers = list(gather_hessians(model, find_products(model), lambda: [feed], samples=1))
    small, (row,) = cluster_weights(model, layers, Codebook("kmeans", 8))
    entries, indices = graph.constant(graph.find_value(small, "w_codebook")), graph.constant(graph.find_value(small, "w_indices"))
    assert entries is not None
    assert indices is not None
    assert (entries[indices][~mask] == 0).all()
    assert row.sparsity >= (~mask).mean()


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"table": "lloyd"}, "no such table"),
        ({"count": 1}, "2 to 256"),
        ({"table": (-128, 0)}, "-127 to 127"),
        ({"table": ()}, "-127 to 127"),
    ],
)
def test_a_codebook_that_is_none_is_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Codebook(**values)


def test_layers_to_keep_stay() -> None:
    model = conv_net()
    _, rows = cluster_weights(model, [(p, None) for p in find_products(model)], Codebook(), keep=("c2_*",))
    assert [row.name for row in rows if row.reason] == ["c2_node"]
