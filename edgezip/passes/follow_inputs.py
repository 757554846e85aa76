"""What each layer meets in a network whose earlier layers are changed already, and what it should give all the same.

``gather_hessians`` looks at the float network alone: layers rounded for its inputs cannot answer for errors of the layers before
them. Here two networks go through the samples side by side, layer after layer; the caller changes a layer of the second before it
asks for the next. Fitting to the float outputs on the inputs that there will be: Nagel et al., "Up or Down?", 2020, section 3.2
(asymmetric reconstruction); Li et al., "GPTAQ", 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import cost, graph
from edgezip.errors import CalibrationError
from edgezip.passes.gather_hessians import ROWS, SEED, Inputs
from edgezip.passes.walk_graph import Walk

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
# The spread of an input below this share of its power is what rounding left of a constant (float32 keeps 1e-14 of a square): the
# covariance is then noise of either sign, and a fit to it gave weights of 1e9 that the bias cancelled (2026-11-24).
CONSTANT = 1e-12
HELD_BYTES = 1024 * 2**20  # of activations of both networks: fewer samples are taken where they are large


@dataclass(slots=True)
class Wanted:
    """Beside the inputs x of the changed network: what the layer gives in the float network, y, without its bias.

    ``cross`` (groups, outputs, K) = E[y x^T]; ``given`` (groups, outputs) = E[y]; ``power`` = E|y|^2 over all outputs.
    ``halves``: the same from the first samples and from the last (neighbours are often alike), for choices that shun chance.
    """

    inputs: Inputs
    cross: Array
    given: Array
    power: float
    halves: tuple[Wanted, Wanted] | None = None

    @classmethod
    def of(cls, inputs: Inputs, weights: Array) -> Wanted:
        """For inputs that nothing before has changed: y is what ``weights`` (groups, outputs, K) give."""
        given = np.einsum("gok,gk->go", weights, inputs.mean)
        return cls(inputs, weights @ inputs.hessian, given, inputs.output_error(weights))

    @classmethod
    def joined(cls, first: Wanted, second: Wanted) -> Wanted:
        """Of the samples of both."""
        rows = first.inputs.rows + second.inputs.rows
        a, b = first.inputs.rows / rows, second.inputs.rows / rows
        inputs = Inputs(
            a * first.inputs.hessian + b * second.inputs.hessian,
            a * first.inputs.mean + b * second.inputs.mean,
            np.maximum(first.inputs.largest, second.inputs.largest),
            rows,
        )
        cross, given = a * first.cross + b * second.cross, a * first.given + b * second.given
        return cls(inputs, cross, given, a * first.power + b * second.power, (first, second))

    def only(self, chosen: Array) -> Wanted:
        """For these outputs of the first group alone."""
        inputs = Inputs(self.inputs.hessian[:1], self.inputs.mean[:1], self.inputs.largest[:1], self.inputs.rows)
        return Wanted(inputs, self.cross[:1, chosen], self.given[:1, chosen], np.nan)

    def fit(self, weights: Array, hold: float, *, centred: bool) -> Array:
        """Weights (groups, outputs, K) that give y best from x, held to ``weights`` by ``hold`` times the moments' diagonal.

        ``centred``: a bias takes up the mean, moments are those about it.
        """
        moments = self.inputs.covariance if centred else self.inputs.hessian
        cross = self.cross - self.given[:, :, None] * self.inputs.mean[:, None, :] if centred else self.cross
        pull = np.swapaxes(cross - weights @ moments, 1, 2)
        return np.asarray(weights + np.swapaxes(np.linalg.solve(self.damped(hold, centred=centred), pull), 1, 2))

    def damped(self, damping: float, *, centred: bool) -> Array:
        """E[x x^T] with ``damping`` times its diagonal added; inputs never met, or always the same, leave no singular matrix."""
        moments = (self.inputs.covariance if centred else self.inputs.hessian).copy()
        diagonal = np.einsum("gkk->gk", moments)
        rounding = CONSTANT * np.einsum("gkk->gk", self.inputs.hessian)
        diagonal += damping * diagonal + 1e-9 * diagonal.mean(axis=1, keepdims=True) + rounding + 1e-30
        return moments

    def shift(self, weights: Array) -> Array:
        """(groups * outputs,): what is to be added to what ``weights`` (groups, outputs, K) give for the mean of y."""
        return np.asarray(self.given - np.einsum("gok,gk->go", weights, self.inputs.mean)).reshape(-1)

    def output_error(self, weights: Array, *, centred: bool) -> float:
        """E|y - W x|^2 over all outputs, with the bias that takes up the mean if ``centred``."""
        return max(self.power + self.excess(weights, centred=centred), 0.0)

    def excess(self, weights: Array, *, centred: bool) -> float:
        """The same less ``power``: what tells two sets of weights apart."""
        error = self.inputs.output_error(weights) - 2 * float(np.einsum("gok,gok->", weights, self.cross))
        return error - float((self.shift(weights) ** 2).sum()) if centred else error


def follow_inputs(
    reference: Model,
    changed: Model,
    products: Sequence[Product],
    feeds: Callable[[], Iterable[Mapping[str, Array]]],
    *,
    samples: int,
    rows: int = ROWS,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[Product, Wanted]]:
    """Each of ``products`` (of ``reference``) with what it meets in ``changed`` as that is when it is asked for.

    ``changed`` has nodes and values of the same names. About ``rows`` patches a layer are drawn, from as many samples as keep the
    activations held below HELD_BYTES. Raises CalibrationError: no samples, or values that are not finite.
    """
    taken = _taken(reference, feeds, samples)
    there = {node.name: node for node in graph.nodes(reference)}
    sources = [_named(there[product.name].inputs[0]) for product in products]
    made = [_named(there[product.name].outputs[0]) for product in products]
    exact, walk = Walk(reference, taken, made), Walk(changed, taken, sources)
    each = -(-rows // len(taken))
    for number, (product, source, output) in enumerate(zip(products, sources, made, strict=True)):
        wanted = exact.values(output)
        yield product, _moments(product, walk.values(source), wanted, each, source)
        if progress is not None:
            progress(number + 1)


def _named(value: Any) -> str:
    assert value is not None
    return value.name or ""


def _taken(model: Model, feeds: Callable[[], Iterable[Mapping[str, Array]]], samples: int) -> list[Mapping[str, Array]]:
    """As many of the samples as fit into HELD_BYTES, evenly from all."""
    if samples < 1:
        raise CalibrationError("no calibration samples", hint="give some tens of typical inputs")
    count = int(np.clip(HELD_BYTES // max(2 * cost.peak_activation_bytes(model), 1), 1, samples))
    chosen = set(np.linspace(0, samples - 1, count).astype(int).tolist())
    return [feed for number, feed in enumerate(islice(feeds(), samples)) if number in chosen]


def _moments(product: Product, x: list[Array], y: list[Array], rows: int, source: str) -> Wanted:
    """Means over the patches of all samples."""
    if len(x) < 2:
        return _means(product, x, y, rows, source)
    middle = len(x) // 2
    first, second = (_means(product, x[part], y[part], rows, source) for part in (slice(middle), slice(middle, None)))
    return Wanted.joined(first, second)


def _means(product: Product, x: list[Array], y: list[Array], rows: int, source: str) -> Wanted:
    inputs = Inputs.none(product)
    cross = np.zeros((product.groups, product.outputs, product.columns))
    given, power = np.zeros((product.groups, product.outputs)), 0.0
    bias = product.added() if product.node.op_type != "MatMul" else None
    for number, (seen, gave) in enumerate(zip(x, y, strict=True)):
        if not (np.isfinite(seen).all() and np.isfinite(gave).all()):
            raise CalibrationError("not finite", where=f"tensor '{source}', sample {number}", hint="leave that sample out")
        inner = product.inputs_seen(seen, rows, np.random.default_rng((SEED, number)))
        outer = product.outputs_seen(gave, rows, np.random.default_rng((SEED, number)))
        if bias is not None:
            outer = outer - bias.reshape(product.groups, 1, product.outputs)
        inputs.add(inner)
        cross += np.matmul(np.swapaxes(outer, 1, 2), inner)
        given += outer.sum(axis=1)
        power += float((outer**2).sum())
    n = inputs.rows
    return Wanted(inputs.averaged(), cross / n, given / n, power / n)
