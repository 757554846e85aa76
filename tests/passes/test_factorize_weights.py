"""Chains of thin layers: of a thin layer they are the layer itself, of another they lose what is said, and only for a gain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import load, node

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.passes.factorize_weights import Rank, factorize_weights
from edgezip.passes.gather_hessians import gather_hessians
from edgezip.passes.products import find_products
from edgezip.target import load_target

Array = np.ndarray[Any, Any]
WINDOWS: dict[str, dict[str, Any]] = {
    "same": {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
    "padded": {"pads": [1, 0, 2, 1], "strides": [1, 2]},
    "dilated": {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
}


def _thin(generator: np.random.Generator, outputs: int, channels: int, kh: int, kw: int, rank: int) -> Array:
    """Weights of a convolution that are a sum of ``rank`` outer products: every kind of chain can hold them."""
    sides = [generator.standard_normal((n, rank)) for n in (outputs, channels, kh, kw)]
    return (np.einsum("or,cr,hr,wr->ochw", *sides) / rank).astype(np.float32)


def _conv(weights: Array, attributes: dict[str, Any], size: int = 9) -> tuple[Any, dict[str, Array]]:
    generator = np.random.default_rng(3)
    bias = generator.standard_normal(len(weights)).astype(np.float32)
    shape = (1, weights.shape[1], size, size)
    model = load([node("Conv", ["x", "w", "b"], "y", **attributes)], {"w": weights, "b": bias}, shape)
    return model, {"x": generator.standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("method", ["tucker", "spatial", "cp"])
def test_a_thin_convolution_is_its_chain(method: str, window: str) -> None:
    model, feed = _conv(_thin(np.random.default_rng(1), 24, 16, 3, 2, 2), WINDOWS[window])
    small, (row,) = factorize_weights(model, [(p, None) for p in find_products(model)], Rank("evbmf", multiple=1), method=method)
    assert row.reason == ""
    assert row.bytes_after < row.bytes_before
    exact, made = graph.run(model, feed)["y"], graph.run(small, feed)["y"]
    np.testing.assert_allclose(made, exact, atol=2e-2 * np.abs(exact).max())
    assert len(graph.nodes(small)) == {"tucker": 3, "spatial": 2, "cp": 4}[method]


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Gemm turned", "Conv 1x1"])
def test_a_thin_matrix_is_two(kind: str) -> None:
    generator = np.random.default_rng(2)
    matrix = (generator.standard_normal((40, 5)) @ generator.standard_normal((5, 30))).astype(np.float32)  # (K, outputs)
    op, turned = kind.split(" ")[0], "turned" in kind
    held = matrix.T[:, :, None, None] if op == "Conv" else matrix.T if turned else matrix
    attributes = {"strides": [2, 2], "pads": [1, 0, 0, 1]} if op == "Conv" else {"transB": 1} if turned else {}
    shape = (1, 40, 6, 6) if op == "Conv" else (7, 40)
    names = ["x", "w"] if op == "MatMul" else ["x", "w", "b"]
    model = load([node(op, names, "y", **attributes)], {"w": held, "b": generator.standard_normal(30).astype(np.float32)}, shape)
    feed = {"x": generator.standard_normal(shape).astype(np.float32)}
    small, (row,) = factorize_weights(model, [(p, None) for p in find_products(model)], Rank("energy", 0.9999, 1))
    exact, made = graph.run(model, feed)["y"], graph.run(small, feed)["y"]
    np.testing.assert_allclose(made, exact, atol=2e-2 * np.abs(exact).max())
    assert row.form == "rank 5"
    assert row.bytes_after == 4 * 5 * 70


def test_the_inputs_decide_what_is_worth_keeping() -> None:
    """At one rank the whitened cut leaves less error in the outputs than the plain one, at every rank."""
    generator = np.random.default_rng(4)
    held = generator.standard_normal((32, 48)).astype(np.float32)
    model = load([node("Gemm", ["x", "w"], "y", transB=1)], {"w": held}, (200, 48))
    feed = {"x": (generator.standard_normal((200, 48)) * np.exp(generator.standard_normal(48))).astype(np.float32)}
    layers = list(gather_hessians(model, find_products(model), lambda: [feed], samples=1))
    exact = graph.run(model, feed)["y"]
    for share in (0.1, 0.3, 0.6):
        noise = []
        for given in (layers, [(p, None) for p, _ in layers]):
            small, (row,) = factorize_weights(model, given, Rank("ratio", share, 1))
            noise.append(float(((graph.run(small, feed)["y"] - exact) ** 2).sum(axis=1).mean()))
            if row.error is not None:
                assert row.error == pytest.approx(noise[-1], rel=1e-3)
        assert noise[0] < noise[1]


def test_a_chain_that_is_no_gain_is_not_made() -> None:
    generator = np.random.default_rng(5)
    model, _ = _conv(generator.standard_normal((16, 16, 3, 3)).astype(np.float32), WINDOWS["padded"])
    layers = [(p, None) for p in find_products(model)]
    full = Rank("energy", 0.999999, 1)
    for options, word in (
        ({}, "no fewer"),
        ({"prefer": "size"}, "weights instead of"),
        ({"target": load_target("rpi4")}, "predicted"),
    ):
        small, (row,) = factorize_weights(model, layers, full, **options)  # type: ignore[arg-type]
        assert word in row.reason
        assert row.form == "float32"
        assert row.bytes_after == row.bytes_before
        assert len(graph.nodes(small)) == 1


def test_the_chain_is_priced_as_its_nodes_are() -> None:
    """The prediction made before the chain stands is the one that its nodes get afterwards."""
    from edgezip import cost
    from edgezip.passes import factorize_weights as module

    model, _ = _conv(_thin(np.random.default_rng(1), 32, 32, 3, 3, 2), WINDOWS["dilated"])
    (product,) = find_products(model)
    for method in ("tucker", "spatial", "cp"):
        chain = module._cutter(product, None, method)(Rank("evbmf", multiple=1))
        small, _ = factorize_weights(model, [(product, None)], Rank("evbmf", multiple=1), method=method)
        stated, real = module._costs(product, chain), cost.layer_costs(small)
        assert [layer.macs for layer in stated] == [layer.macs for layer in real]
        assert [layer.output_shape for layer in stated] == [layer.output_shape for layer in real]
        assert [layer.is_depthwise for layer in stated] == [layer.is_depthwise for layer in real]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda m: factorize_weights(m, [], Rank(), method="qr"), "no such method"),
        (lambda m: factorize_weights(m, [], Rank(), prefer="beauty"), "no such aim"),
        (lambda m: Rank("guess"), "no such rule"),
        (lambda m: Rank("energy", 1.5), "between 0 and 1"),
        (lambda m: Rank("ratio", 0.5, 0), "at least 1"),
    ],
)
def test_what_cannot_be_is_refused(call: Any, word: str) -> None:
    model, _ = _conv(_thin(np.random.default_rng(1), 8, 8, 3, 3, 1), {})
    with pytest.raises(UsageError, match=word):
        call(model)


def _two_layers() -> tuple[Any, list[Any], dict[str, Array]]:
    """A full layer and a thin one behind it, with inputs: a budget has to come out of the thin one."""
    generator = np.random.default_rng(8)
    thin = generator.standard_normal((48, 6)) @ generator.standard_normal((6, 48)) / 18
    weights = {"w2": thin + 0.01 * generator.standard_normal((48, 48)), "w1": generator.standard_normal((48, 48)) / 7}
    nodes = [node("MatMul", ["x", "w1"], "h"), node("MatMul", ["h", "w2"], "y")]
    model = load(nodes, {name: held.astype(np.float32) for name, held in weights.items()}, (100, 48))
    feed = {"x": generator.standard_normal((100, 48)).astype(np.float32)}
    return model, list(gather_hessians(model, find_products(model), lambda: [feed], samples=1)), feed


@pytest.mark.parametrize("share", [0.9, 0.7, 0.4])
def test_a_budget_is_kept_and_spent_where_it_costs_least(share: float) -> None:
    model, layers, feed = _two_layers()
    errors = []
    for rank in (Rank("budget", share, 1), Rank("ratio", share, 1)):
        small, rows = factorize_weights(model, layers, rank, prefer="size")
        used = sum(row.bytes_after for row in rows) / sum(row.bytes_before for row in rows)
        assert used <= share or rank.by == "ratio"  # which is rounded to whole ranks, up too
        errors.append(float(((graph.run(small, feed)["y"] - graph.run(model, feed)["y"]) ** 2).sum()))
    assert errors[0] < 0.8 * errors[1]


def test_a_budget_that_cannot_be_kept_is_refused() -> None:
    model, layers, _ = _two_layers()
    with pytest.raises(UsageError, match=r"cannot be reached.*at least 0\.0"):
        factorize_weights(model, layers, Rank("budget", 0.01, 1), prefer="size")


@pytest.mark.parametrize("method", ["tucker", "spatial", "cp"])
def test_inputs_weigh_windows_too(method: str) -> None:
    """Channels of very different strength: with their moment the same rank leaves less error in the outputs."""
    generator = np.random.default_rng(6)
    model, _ = _conv(generator.standard_normal((24, 16, 3, 3)).astype(np.float32), {"pads": [1, 1, 1, 1]})
    feeds = [
        {"x": (generator.standard_normal((1, 16, 9, 9)) * np.exp(2 * np.linspace(-1, 1, 16))[:, None, None]).astype(np.float32)}
        for _ in range(6)
    ]
    layers = list(gather_hessians(model, find_products(model), lambda: feeds, samples=6))
    noise = []
    for whiten in (True, False):
        small, (row,) = factorize_weights(model, layers, Rank("ratio", 0.4, 1), method=method, whiten=whiten)
        assert ("whitened" in row.form) == whiten
        noise.append(sum(float(((graph.run(small, f)["y"] - graph.run(model, f)["y"]) ** 2).sum()) for f in feeds))
    assert noise[0] < 0.9 * noise[1]
