"""Recovery without labels: layer after layer, weights and bias are fitted to give what the untouched network gave there.

Inputs are those of the changed network, layers before already fitted, so errors do not add up. For each layer the ways are: leave
it, move its bias, or solve a ridge regression for its weights (zeros of a pruned layer stay); fitted on every other sample, the
way that does best on the rest is taken and, if it is a fit, made again with all. So no layer is fitted to chance. Least squares
against the float outputs: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", 2017, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import cost, graph
from edgezip.kernels import second_order
from edgezip.passes.measure_sqnr import decibels
from edgezip.passes.products import OPERATORS, find_products, product_of, shift_bias
from edgezip.passes.walk_graph import Walk

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
MODES = ("refit", "bias", "none")
RIDGES = (1e-3, 3e-2)  # of the mean second moment of the inputs
ROWS = 10_000  # positions a layer, over all samples
MOST_VALUES = 32 * 2**20  # of the inputs at these positions
ROUNDS = 2  # of fitting where an activation cuts off
MOST_COLUMNS = 6_000  # of a layer: solving for it takes K^3
HELD_BYTES = 512 * 2**20  # of activations of both networks: fewer samples are taken where they are large
PRUNED = 0.01  # of the weights are zero: below it they are zero by chance
GAIN = 0.99  # of the error that is left: less is not worth another bias


@dataclass(frozen=True, slots=True)
class Recovered:
    """How a layer was recovered: ``way`` ("refit", "bias", "left"), and the SQNR in decibels of what it gives, before and after,
    on the samples at hand, with all that the layers before it do."""

    name: str
    way: str
    before_db: float
    after_db: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """One half of the samples, float32: inputs with a 1 behind (groups, n, K + 1), wanted outputs (groups, n, outputs), and
    between which bounds the activation behind looks at them; ``second`` (groups, K + 1, K + 1): sum of the inputs' products."""

    x: Array
    y: Array
    bounds: tuple[float, float]
    second: Array

    def gives(self, weights: Array) -> Array:
        """(groups, n, outputs) of ``weights`` (groups, outputs, K + 1)."""
        return np.asarray(self.x @ np.swapaxes(weights, 1, 2).astype(np.float32))

    def error(self, weights: Array) -> float:
        """Sum of the squared differences behind the activation; ``weights`` (groups, outputs, K + 1)."""
        change = np.clip(self.gives(weights), *self.bounds) - np.clip(self.y, *self.bounds)
        return float((change**2).sum(dtype=np.float64))

    def signal(self) -> float:
        """Sum of the squares behind the activation."""
        return float((np.clip(self.y, *self.bounds) ** 2).sum(dtype=np.float64))

    def wanted(self, weights: Array) -> Array:
        """``y``, but where the activation cuts it off: there what the weights give is as good, as long as it is cut off too.

        Zhang et al., "Accelerating Very Deep Convolutional Networks", 2016, section 3.2.
        """
        low, high = self.bounds
        if not np.isfinite(self.bounds).any():
            return self.y
        made = self.gives(weights)
        return np.where(self.y < low, np.minimum(made, low), np.where(self.y > high, np.maximum(made, high), self.y))


def refit_layers(
    reference: Model,
    model: Model,
    feeds: Callable[[], Iterable[Mapping[str, Array]]],
    *,
    samples: int,
    outputs: Mapping[str, Sequence[int]] | None = None,
    mode: str = "refit",
    keep: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> tuple[Model, list[Recovered]]:
    """``model`` with layers that give again what those of the same name give in ``reference``; the original is not touched.

    ``outputs``: for layers that lost or moved some, which outputs of the reference's they have. ``mode``: "refit" or "bias".
    ``keep``: names of layers that stay. Weights that are not float (codes behind DequantizeLinear) only have their bias moved.
    Fewer than two samples recover nothing.
    """
    made = graph.clone(model)
    taken = _taken(reference, made, feeds, samples)
    layers = [product for product in _layers(reference, made) if product.name not in keep]
    if len(taken) < 2 or not layers:
        return made, []
    there = {node.name: node for node in graph.nodes(reference)}
    floats = {product.name for product in find_products(made)}
    wanted = Walk(reference, taken, [_made(there[product.name]) for product in layers])
    walk = Walk(made, taken, [_source(product.node) for product in layers])
    rows = []
    for number, product in enumerate(layers):
        x, y = walk.values(_source(product.node)), wanted.values(_made(there[product.name]))
        chosen = (outputs or {}).get(product.name)
        if chosen is not None:
            y = [np.take(array, chosen, axis=1 if product.node.op_type.startswith("Conv") else -1) for array in y]
        offset = _offset(product, product_of(there[product.name]), chosen)
        rows.append(_recover(made, product, offset, x, y, mode == "refit" and product.name in floats))
        if progress is not None:
            progress(number + 1)
    return made, rows


def _taken(
    reference: Model, model: Model, feeds: Callable[[], Iterable[Mapping[str, Array]]], samples: int
) -> list[Mapping[str, Array]]:
    """As many of the samples as fit into HELD_BYTES, evenly from all."""
    each = cost.peak_activation_bytes(reference) + cost.peak_activation_bytes(model)
    count = int(np.clip(HELD_BYTES // max(each, 1), 2, samples))
    chosen = set(np.linspace(0, samples - 1, count).astype(int).tolist())
    return [feed for number, feed in enumerate(islice(feeds(), samples)) if number in chosen]


def _layers(reference: Model, model: Model) -> list[Product]:
    """Products of ``model`` with a twin in ``reference``, from the first whose weights differ on."""
    there = {node.name: node for node in graph.nodes(reference)}
    found, differs = [], False
    for node in graph.nodes(model):
        if node.domain or node.op_type not in OPERATORS:
            continue
        twin = there.get(node.name)
        differs = differs or twin is None or not _same_constants(node, twin)
        if twin is None or not differs or _weights(model, node.inputs[1]) is None:
            continue
        product = product_of(node)
        if product is not None and product.columns <= MOST_COLUMNS and _bias_is_known(product):
            found.append(product)
    return found


def _same_constants(node: Node, twin: Node) -> bool:
    pairs = [(graph.constant(a), graph.constant(b)) for a, b in zip(node.inputs[1:], twin.inputs[1:], strict=False)]
    return len(node.inputs) == len(twin.inputs) and all(
        a is not None and b is not None and np.array_equal(a, b) for a, b in pairs
    )


def _bias_is_known(product: Product) -> bool:
    """No bias, or a constant one: what a layer shall give beside a bias of run time is not known."""
    node = product.node
    return len(node.inputs) < 3 or node.inputs[2] is None or product.bias() is not None


def _weights(model: Model, value: Value | None) -> Array | None:
    """The constant that a value is in the end, be it made by DequantizeLinear, Gather or Cast; None for activations."""
    if value is None or graph.constant(value) is not None:
        return graph.constant(value)
    pending, seen = [value], set()
    while pending:
        maker = graph.producer(pending.pop())
        if maker is None:
            return None
        pending += [v for v in maker.inputs if v is not None and graph.constant(v) is None and v.name not in seen]
        seen |= {v.name for v in maker.inputs if v is not None}
    return graph.run(graph.part(model, [], [value.name or ""]), {})[value.name or ""]


def _source(node: Node) -> str:
    assert node.inputs[0] is not None
    return node.inputs[0].name or ""


def _made(node: Node) -> str:
    return node.outputs[0].name or ""


def _offset(product: Product, twin: Product | None, chosen: Sequence[int] | None) -> Array:
    """(groups * outputs,): what is added to the product beside what the wanted outputs leave out (the Add behind a MatMul)."""
    held = product.added()
    made = np.zeros(product.groups * product.outputs) if held is None else held
    before = twin.added() if product.node.op_type == "MatMul" and twin is not None else None
    if before is None:
        return made
    return np.asarray(made - (before if chosen is None else np.take(before, chosen)))


def _recover(model: Model, product: Product, offset: Array, x: list[Array], y: list[Array], refit: bool) -> Recovered:
    held = _weights(model, product.weight)
    assert held is not None
    rows = product.rows_of(held)
    whole = np.concatenate([rows, offset.reshape(*rows.shape[:2], 1)], axis=-1)
    bounds = _bounds(product)
    first, second = (_seen(product, x[half::2], y[half::2], bounds, _rows_each(product, len(x))) for half in (0, 1))
    best, way, ridge = second.error(whole) * GAIN, "left", 0.0
    for name, damping in _ways(product.takes_bias, refit):
        error = second.error(_fitted(whole, [first], name, damping, product.takes_bias))
        if error < best:
            best, way, ridge = error, name, damping
    both = [first, second]
    made = whole if way == "left" else _fitted(whole, both, way, ridge, product.takes_bias)
    before, after = (sum(part.error(weights) for part in both) for weights in (whole, made))
    if after >= before:
        way, made, after = "left", whole, before
    if way == "refit":
        graph.replace_weight(model, product.weight_name, product.array_of(made[..., :-1]))
    if way != "left" and product.takes_bias:
        shift_bias(model, product, (made - whole)[..., -1].reshape(-1))
    signal = sum(part.signal() for part in both)
    return Recovered(product.name, way, decibels(signal, before), decibels(signal, after))


def _ways(takes_bias: bool, refit: bool) -> list[tuple[str, float]]:
    return ([("bias", 0.0)] if takes_bias else []) + ([("refit", damping) for damping in RIDGES] if refit else [])


def _rows_each(product: Product, samples: int) -> int:
    """Positions a sample."""
    return max(min(ROWS, MOST_VALUES // (product.groups * product.columns)) // samples, 1)


def _bounds(product: Product) -> tuple[float, float]:
    """Between which values the only reader of the layer's result tells them apart."""
    value, everything = product.node.outputs[0], (-np.inf, np.inf)
    if product.node.op_type == "MatMul" and product.takes_bias:
        value = graph.consumers(value)[0][0].outputs[0]
    readers = graph.consumers(value)
    if len(readers) != 1 or graph.is_graph_output(value):
        return everything
    node = readers[0][0]
    if node.op_type == "Relu":
        return (0.0, np.inf)
    if node.op_type != "Clip" or len(node.inputs) < 2:
        return everything
    ends = [graph.constant(value) for value in [*node.inputs[1:3], None][:2]]
    if any(end is not None and end.size > 1 for end in ends):
        return everything
    return (-np.inf if ends[0] is None else float(ends[0].item()), np.inf if ends[1] is None else float(ends[1].item()))


def _seen(product: Product, x: list[Array], y: list[Array], bounds: tuple[float, float], rows: int) -> _Seen:
    inputs, wanted = [], []
    for number, (given, target) in enumerate(zip(x, y, strict=True)):
        seen = product.inputs_seen(given, rows, np.random.default_rng(number))
        inputs.append(np.concatenate([seen, np.ones((*seen.shape[:2], 1))], axis=-1))
        wanted.append(product.outputs_seen(target, rows, np.random.default_rng(number)))
    whole = np.concatenate(inputs, axis=1).astype(np.float32)
    second = (np.swapaxes(whole, 1, 2) @ whole).astype(np.float64)
    return _Seen(whole, np.concatenate(wanted, axis=1).astype(np.float32), bounds, second)


def _fitted(weights: Array, parts: list[_Seen], way: str, damping: float, takes_bias: bool) -> Array:
    """``weights`` (groups, outputs, K + 1) fitted to what was seen; the bias is the last column."""
    count = sum(part.x.shape[1] for part in parts)
    second = sum(part.second for part in parts) / count
    held_by = np.append(np.full(weights.shape[-1] - 1, damping), 0.0)
    keep = _kept(weights, way, takes_bias)
    made = weights
    for _ in range(ROUNDS if np.isfinite(parts[0].bounds).any() else 1):
        cross = sum((np.swapaxes(part.wanted(made), 1, 2) @ part.x).astype(np.float64) for part in parts) / count
        rows = [second_order.ridge(*group, held_by) for group in zip(weights, second, cross, keep, strict=True)]
        made = np.stack(rows)
    return made


def _kept(weights: Array, way: str, takes_bias: bool) -> Array:
    """Which weights a way may change: not the zeros of a pruned layer."""
    keep = np.full(weights.shape, way == "refit")
    pruned = weights[..., :-1] == 0
    if pruned.mean() >= PRUNED:
        keep[..., :-1] &= ~pruned
    keep[..., -1] = takes_bias
    return keep
