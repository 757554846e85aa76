"""Graphs that set traps for channel pruning: each is cut as its masked twin computes, or refused with a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import load, node
from test_prune_channels import _feeds, _two_outputs, _w

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.frontends import onnx as front
from edgezip.passes.channel_sets import find_channel_sets
from edgezip.passes.order_channels import order_channels
from edgezip.passes.products import find_products
from edgezip.passes.prune_channels import remove_channels, select_channels

Array = np.ndarray[Any, Any]
SHAPE = (1, 3, 6, 6)


def _between(nodes: list[Any], weights: dict[str, Array] | None = None, last: str = "t", channels: int = 16) -> Any:
    """conv to 16 channels ``c`` -> ``nodes`` -> conv of ``last``, of ``channels``."""
    g = np.random.default_rng(7)
    held = {"first": _w(g, 16, 3, 3, 3), "bias": _w(g, 16), "tail": _w(g, 4, channels, 1, 1), **(weights or {})}
    head = node("Conv", ["x", "first", "bias"], "c", pads=[1, 1, 1, 1])
    return load([head, *nodes, node("Conv", [last, "tail"], "y")], held, SHAPE)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


G = np.random.default_rng(3)
CUT = {  # what can be cut, and computes what the masked network does
    "shuffled channels": lambda: _between(
        [
            node("Reshape", ["c", "apart"], "r", ),
            node("Transpose", ["r"], "s", perm=[0, 2, 1, 3, 4]),
            node("Reshape", ["s", "whole"], "t"),
        ],
        {"apart": _ints(1, 2, 8, 6, 6), "whole": _ints(1, 16, 6, 6)},
    ),
    "gate of one element a channel": lambda: _between(
        [
            node("GlobalAveragePool", ["c"], "p"),
            node("Sigmoid", ["p"], "s"),
            node("Mul", ["c", "s"], "t"),
        ]
    ),
    "pictures turned to rows and back": lambda: _between(
        [
            node("Transpose", ["c"], "n", perm=[0, 2, 3, 1]),
            node("MatMul", ["n", "m"], "d"),
            node("Relu", ["d"], "e"),
            node("Transpose", ["e"], "t", perm=[0, 3, 1, 2]),
        ],
        {"m": _w(G, 16, 16)},
    ),
    "two channels out of each": lambda: _between(
        [node("Conv", ["c", "twice"], "t", group=16)], {"twice": _w(G, 32, 1, 3, 3)}, channels=32
    ),
    "a branch that cannot be cut beside one that can": lambda: _between(
        [
            node("Conv", ["x", "other"], "o"),
            node("CumSum", ["o", "axis"], "frozen"),
            node("Concat", ["frozen", "c"], "t", axis=1),
        ],
        {"other": _w(G, 8, 3, 1, 1), "axis": np.array(1, np.int64)},
        channels=24,
    ),
    "a picture under all channels": lambda: _between(
        [node("Mul", ["c", "plane"], "t")], {"plane": _w(G, 1, 1, 6, 6)}
    ),
    "uneven parts": lambda: _between(
        [
            _two_outputs("Split", ["c", "parts"], ["a", "b"], axis=1),
            node("Relu", ["a"], "ra"),
            node("Concat", ["b", "ra"], "t", axis=1),
        ],
        {"parts": _ints(4, 12)},
    ),
}  # fmt: skip
KEPT = {  # what must stay whole, and the operator that says so
    "a slice of the channels": (
        lambda: _between(
            [node("Slice", ["c", "from", "to", "axis"], "t")], {"from": _ints(2), "to": _ints(14), "axis": _ints(1)}, channels=12
        ),
        "Slice",
    ),
    "a gather of the channels": (
        lambda: _between([node("Gather", ["c", "at"], "t", axis=1)], {"at": _ints(*range(15, -1, -1))}),
        "Gather",
    ),
    "a mean over the channels": (
        lambda: _between([node("ReduceMean", ["c"], "m", axes=[1], keepdims=1), node("Mul", ["c", "m"], "t")]),
        "ReduceMean",
    ),
    "a softmax over the channels": (lambda: _between([node("Softmax", ["c"], "t", axis=1)]), "Softmax"),
    "a norm over groups": (
        lambda: _between(
            [
                node("Reshape", ["c", "groups"], "r"),
                node("InstanceNormalization", ["r", "scale", "shift"], "n"),
                node("Reshape", ["n", "whole"], "t"),
            ],
            {
                "groups": _ints(1, 4, 144), "whole": _ints(1, 16, 6, 6),
                "scale": np.ones(4, np.float32), "shift": np.zeros(4, np.float32),
            },
        ),
        "",
    ),
    "weights of two layers": (
        lambda: _between([node("Conv", ["c", "twice"], "d"), node("Conv", ["d", "twice"], "t")], {"twice": _w(G, 16, 16, 1, 1)}),
        "Conv",
    ),
}  # fmt: skip


def _masked(model: Any, sets: Any, gone: set[int]) -> Any:
    masked = graph.clone(model)
    for cut in sets.slices:
        held = graph.constant(graph.find_value(masked, cut.name))
        assert held is not None
        dead = np.isin(sets.roots(cut.labels), list(gone))
        held = held.copy()
        held[tuple(dead if axis == cut.axis else slice(None) for axis in range(held.ndim))] = 0
        graph.replace_weight(masked, cut.name, held)
    return masked


def _close(first: Any, second: Any) -> None:
    for feed in _feeds(first, 2):
        np.testing.assert_allclose(graph.run(first, feed)["y"], graph.run(second, feed)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", CUT)
def test_what_can_be_cut_computes_what_the_masked_one_does(net: str) -> None:
    model = CUT[net]()
    seen = {p.name: (p, None) for p in find_products(model)}
    sets, gone = select_channels(model, seen, 0.2, method="l2", multiple=1)
    pruned = graph.clone(model)
    remove_channels(pruned, sets, gone)
    again = front.load(graph.to_bytes(pruned))  # the checker, and shapes inferred anew
    _close(_masked(model, sets, gone), again)
    before, after = (sum(p.weights().size for p in find_products(each)) for each in (model, again))
    assert after < before


@pytest.mark.parametrize("net", KEPT)
def test_what_mixes_channels_freezes_them_with_a_word(net: str) -> None:
    build, operator = KEPT[net]
    model = build()
    seen = {p.name: (p, None) for p in find_products(model)}
    sets = find_channel_sets(model)
    if operator:
        assert any(graph.find_node(model, name).op_type == operator for name in sets.frozen if name.endswith("_node"))
    try:
        sets, gone = select_channels(model, seen, 0.2, method="l2", multiple=1)
    except UsageError as error:
        assert "at most" in str(error)  # noqa: PT017
        return
    pruned = graph.clone(model)
    remove_channels(pruned, sets, gone)
    _close(_masked(model, sets, gone), front.load(graph.to_bytes(pruned)))


@pytest.mark.parametrize("net", [*CUT, *KEPT])
def test_an_order_of_channels_changes_nothing_either(net: str) -> None:
    model = CUT[net]() if net in CUT else KEPT[net][0]()
    ordered, _ = order_channels(model, [(p, None) for p in find_products(model)], 2, 4)
    _close(model, front.load(graph.to_bytes(ordered)))
