"""Puts channels into the order in which N:M pruning of the layers that read them loses least; the network computes what it did.

Channels move between places that nothing tells apart: those of one layer that the same constants and values count in the same
way (the halves of a Split stay apart, the parts of a Concat too). All that hangs on a channel moves with it, by ``channel_sets``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.kernels import group_order
from edgezip.passes.channel_sets import FROZEN, ChannelSets, find_channel_sets
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.place_qdq import matches

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]


def order_channels(
    model: Model, layers: Iterable[tuple[Product, Inputs | None]], n: int, m: int, *, keep: Sequence[str] = ()
) -> tuple[Model, list[LayerChange]]:
    """``model`` with channels in an order for N:M, and a row for each layer that reads or makes some; the original stays.

    ``layers``: products with their inputs; without them weights count by their squares. ``keep``: layers that will not be pruned.
    """
    sets = find_channel_sets(model)
    saliencies: dict[str, list[tuple[tuple[int, ...], Array]]] = defaultdict(list)  # class -> (its roots in order, saliency)
    classes = _classes(sets)
    products = []
    for product, inputs in layers:
        products.append(product)
        if not matches(product.node, keep) and not product.is_depthwise:
            for name, roots, part in _read(product, inputs, sets, classes, m):
                saliencies[name].append((roots, part))
    moved: dict[int, int] = {}  # root -> the root that takes its place
    for parts in saliencies.values():
        roots = parts[0][0]
        stacked = np.concatenate([part for other, part in parts if other == roots])
        order = group_order.order_columns(stacked, n, m)
        moved |= {roots[at]: roots[source] for at, source in enumerate(order.tolist()) if at != source}
    ordered = graph.clone(model)
    for cut in sets.slices:
        source = _sources(sets.roots(cut.labels), moved)
        held = graph.constant(graph.find_value(ordered, cut.name))
        if held is not None and (source != np.arange(len(source))).any():
            graph.replace_weight(ordered, cut.name, np.take(held, source, axis=cut.axis))
    return ordered, [_row(product, sets, moved) for product in products]


def _classes(sets: ChannelSets) -> dict[int, str]:
    """Root -> a name that it shares with those whose places it may take."""
    said: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for cut in sets.slices:
        _count(said, sets.roots(cut.labels), cut.name, cut.axis)
    for name, labels in sets.of.items():
        _count(said, sets.roots(labels), name, -1)
    return {root: repr(marks) for root, marks in said.items() if root != FROZEN}


def _count(said: dict[int, list[tuple[str, int, int]]], roots: Array, name: str, axis: int) -> None:
    for root, count in zip(*np.unique(roots, return_counts=True), strict=True):
        said[int(root)].append((name, axis, int(count)))


def _read(
    product: Product, inputs: Inputs | None, sets: ChannelSets, classes: dict[int, str], m: int
) -> list[tuple[str, tuple[int, ...], Array]]:
    """(class, its roots by place, saliency (rows, channels)) for each class whose channels fill whole groups of the layer."""
    axis = 1 - product.output_axis
    labels = next((cut.labels for cut in sets.slices if (cut.name, cut.axis) == (product.weight_name, axis)), None)
    if labels is None or len(labels) % m or len(labels) != product.columns // product.window:
        return []
    roots = sets.roots(labels)
    strength: float | Array = 1.0
    if inputs is not None:  # as the pruning counts them
        moments = inputs.covariance if product.takes_bias else inputs.hessian
        strength = np.einsum("gkk->gk", moments)[:, None]
    saliency = (product.weights() ** 2 * strength).reshape(-1, len(labels))  # a row for each output and place of the window
    found = []
    names = np.array([classes.get(int(root), "") for root in roots])
    for name in dict.fromkeys(names.tolist()):
        places = np.flatnonzero(names == name)
        own = tuple(roots[places].tolist())
        whole = len(places) % m == 0 and places[0] % m == 0 and places[-1] - places[0] == len(places) - 1
        if name and whole and len(set(own)) == len(own) > m:
            found.append((name, own, saliency[:, places]))
    return found


def _sources(roots: Array, moved: dict[int, int]) -> Array:
    """For each place of an axis, which place of the old one goes there: the i-th of one root to the i-th of another."""
    places: dict[int, list[int]] = defaultdict(list)
    for at, root in enumerate(roots.tolist()):
        places[root].append(at)
    source = np.arange(len(roots))
    for root, held in places.items():
        if root in moved:
            source[held] = places[moved[root]]
    return source


def _row(product: Product, sets: ChannelSets, moved: dict[int, int]) -> LayerChange:
    """``outputs`` where the layer's own outputs have moved."""
    made = product.node.outputs[0]
    labels = sets.along(made, 1 if product.node.op_type.startswith("Conv") else -1)
    source = _sources(sets.roots(labels), moved)
    has_moved = bool((source != np.arange(len(source))).any())
    held = product.weights()
    form = f"float32, {int((source != np.arange(len(source))).sum())} outputs moved" if has_moved else "float32"
    reason = "" if has_moved else sets.frozen.get(product.name, "its outputs stay in their order")
    sizes = (held.size * 4, held.size * 4)
    outputs = tuple(source.tolist()) if has_moved else None
    return LayerChange(
        product.name, product.node.op_type, form, 32, float((held == 0).mean()), *sizes, reason=reason, outputs=outputs
    )
