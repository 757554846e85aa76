"""Layers as matrices: what a layer gives is its rows times what they meet, for every kind of layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import conv_net, load, node

from edgezip import graph
from edgezip.passes.gather_hessians import gather_hessians
from edgezip.passes.products import find_products

CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "strided": ("Conv", (2, 6, 9, 8), (4, 6, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    "grouped, dilated": ("Conv", (1, 6, 9, 8), (6, 2, 3, 3), {"group": 3, "dilations": [2, 1]}),
    "depthwise, same": ("Conv", (1, 6, 9, 8), (6, 1, 3, 3), {"group": 6, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "one axis": ("Conv", (1, 5, 20), (4, 5, 4), {"auto_pad": "SAME_LOWER", "strides": [3]}),
    "transposed, grouped": ("ConvTranspose", (1, 6, 5, 4), (6, 2, 3, 2), {"group": 2, "strides": [2, 3], "pads": [1, 0, 0, 1]}),
    "transposed, dilated": (
        "ConvTranspose",
        (1, 4, 5, 4),
        (4, 3, 3, 3),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1], "dilations": [2, 1]},
    ),
    "matmul": ("MatMul", (2, 3, 7), (7, 5), {}),
    "gemm, turned": ("Gemm", (3, 7), (5, 7), {"transB": 1}),
    "gemm": ("Gemm", (3, 7), (7, 5), {}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rows_times_what_they_meet_is_the_output(case: tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]) -> None:
    op, shape, weight, attributes = case
    generator = np.random.default_rng(1)
    held = generator.standard_normal(weight).astype(np.float32)
    model = load([node(op, ["x", "w"], "y", **attributes)], {"w": held}, shape)
    (product,) = find_products(model)
    rows = product.weights()
    assert rows.shape == (product.groups, product.outputs, product.columns)
    assert product.columns % product.span == 0
    assert np.array_equal(product.array_of(rows), graph.constant(product.weight))
    x = generator.standard_normal(shape).astype(np.float32)
    made = graph.run(model, {"x": x})["y"]
    seen = product.inputs_seen(x, 10**9, generator)
    got = np.einsum("gnk,gmk->ngm", seen, rows).reshape(seen.shape[1], -1)
    expected = np.moveaxis(made, 1, -1) if op.startswith("Conv") else made
    np.testing.assert_allclose(got, expected.reshape(-1, got.shape[1]), atol=2e-5)


def test_columns_stand_in_the_order_of_packed_weights() -> None:
    """Channels are fastest, then window columns, then window rows."""
    held = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    model = load([node("Conv", ["x", "w"], "y")], {"w": held}, (1, 3, 4, 4))
    (product,) = find_products(model)
    assert np.array_equal(product.weights()[0, 0], held[0].transpose(1, 2, 0).reshape(-1))
    assert product.span == 6


def test_weights_that_two_layers_share_are_left_alone() -> None:
    held = np.ones((3, 3, 1, 1), np.float32)
    model = load([node("Conv", ["x", "w"], "a"), node("Conv", ["a", "w"], "y")], {"w": held}, (1, 3, 4, 4))
    assert find_products(model) == []


def test_moments_do_not_depend_on_the_waves() -> None:
    model = conv_net()
    generator = np.random.default_rng(2)
    feeds = [{"x": generator.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(3)]
    products = find_products(model)
    whole = {p.name: i for p, i in gather_hessians(model, products, lambda: feeds, samples=3)}
    waves = {p.name: i for p, i in gather_hessians(model, products, lambda: feeds, samples=3, wave_bytes=1)}
    assert list(whole) == [p.name for p in products] == list(waves)
    for product in products:
        one, other = whole[product.name], waves[product.name]
        assert one.hessian.shape == (product.groups, product.columns, product.columns)
        np.testing.assert_allclose(one.mean, other.mean, atol=1e-12)
        np.testing.assert_allclose(one.hessian, other.hessian, atol=1e-12)


def test_no_more_patches_are_drawn_than_asked_for() -> None:
    model = conv_net()
    feeds = [{"x": np.ones((1, 3, 12, 12), np.float32)}] * 4
    for _, inputs in gather_hessians(model, find_products(model), lambda: feeds, samples=4, rows=20):
        assert inputs.rows <= 20
