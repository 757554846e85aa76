"""What the weights of each layer meet: second moments, means and largest values of the inputs, over the calibration samples.

Layers are visited in waves so that no more than a stated number of bytes is held; each wave runs the float model once over the
samples. What was gathered of a wave is handed on before the next begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import CalibrationError
from edgezip.kernels import second_order

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
Feeds = Callable[[], Iterable[Mapping[str, Array]]]  # the samples from the start, each time it is called
ROWS = 20_000  # of patches a layer: enough for windows of some thousand weights (compression.md 4.5 has 10 000 to 50 000)
WAVE_BYTES = 512 * 2**20
SEED = 20_22


@dataclass(slots=True)
class Inputs:
    """Of one layer, float64: ``hessian`` (groups, K, K) = E[x x^T]; ``mean`` and ``largest`` = max |x|, (groups, K); number of
    patches that they come from."""

    hessian: Array
    mean: Array
    largest: Array
    rows: int = 0

    @classmethod
    def none(cls, product: Product) -> Inputs:
        """Before the first sample."""
        groups, k = product.groups, product.columns
        return cls(np.zeros((groups, k, k)), np.zeros((groups, k)), np.zeros((groups, k)))

    def add(self, seen: Array) -> None:
        """Take in patches (groups, n, K)."""
        self.hessian += np.matmul(np.swapaxes(seen, 1, 2), seen)
        self.mean += seen.sum(axis=1)
        self.largest = np.maximum(self.largest, np.abs(seen).max(axis=1))
        self.rows += seen.shape[1]

    @property
    def covariance(self) -> Array:
        """(groups, K, K): the second moment about the mean, for layers whose bias takes up the mean."""
        centred: Array = self.hessian - self.mean[:, :, None] * self.mean[:, None, :]
        return centred

    def output_error(self, change: Array, *, centred: bool = False) -> float:
        """E|D x|^2 over all outputs when the weights change by D (groups, outputs, K); of the weights themselves: the signal.

        ``centred``: the bias takes up the mean.
        """
        moments = self.covariance if centred else self.hessian
        return sum(second_order.output_error(part, moment) for part, moment in zip(change, moments, strict=True))

    def averaged(self) -> Inputs:
        """Sums divided by the number of patches."""
        return Inputs(self.hessian / self.rows, self.mean / self.rows, self.largest, self.rows)


def gather_hessians(
    model: Model,
    products: Sequence[Product],
    feeds: Feeds,
    *,
    samples: int,
    rows: int = ROWS,
    wave_bytes: int = WAVE_BYTES,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[Product, Inputs]]:
    """Each product with its inputs, in waves of at most ``wave_bytes`` of moments (one layer at least).

    ``samples``: how many ``feeds`` gives; about ``rows`` patches a layer are drawn from all of them, evenly and always the same.
    Raises CalibrationError: no samples, or values that are not finite.
    """
    if samples < 1:
        raise CalibrationError("no calibration samples", hint="give some tens of typical inputs")
    done = 0
    for wave in _waves(products, wave_bytes):
        for made in _visit(model, wave, feeds(), -(-rows // samples)):
            done += 1
            if progress is not None:
                progress(done)
            yield made


def _waves(products: Sequence[Product], limit: int) -> Iterator[list[Product]]:
    wave: list[Product] = []
    held = 0
    for product in products:
        size = 8 * product.groups * product.columns**2
        if wave and held + size > limit:
            yield wave
            wave, held = [], 0
        wave.append(product)
        held += size
    if wave:
        yield wave


def _visit(
    model: Model, wave: list[Product], feeds: Iterable[Mapping[str, Array]], rows: int
) -> Iterator[tuple[Product, Inputs]]:
    sources = {product.name: _source(product) for product in wave}
    given = {value.name or "" for value in graph.input_values(model)}
    inner = sorted(set(sources.values()) - given)
    found = {product.name: Inputs.none(product) for product in wave}
    generator = np.random.default_rng(SEED)
    for number, (feed, results) in enumerate(_run(model, feeds, inner)):
        for product in wave:
            name = sources[product.name]
            x = np.asarray(feed[name] if name in given else results[name])
            if not np.isfinite(x).all():
                raise CalibrationError("not finite", where=f"tensor '{name}', sample {number}", hint="leave that sample out")
            found[product.name].add(product.inputs_seen(x, rows, generator))
    for product in wave:
        yield product, found[product.name].averaged()


def _source(product: Product) -> str:
    value = product.node.inputs[0]
    assert value is not None
    return value.name or ""


def _run(
    model: Model, feeds: Iterable[Mapping[str, Array]], names: list[str]
) -> Iterator[tuple[Mapping[str, Array], Mapping[str, Array]]]:
    """Each feed with the results wanted."""
    if not names:
        yield from ((feed, {}) for feed in feeds)
        return
    yield from graph.run_beside(model, feeds, names)
