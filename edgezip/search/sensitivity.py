"""How much the model's answer suffers when one layer alone is compressed: the ranking that mixed widths and ``keep`` start from.

Each layer in turn becomes what it is in a compressed network, all others stay; the outputs are compared with those of the
untouched model by the Kullback-Leibler divergence of their softmax (nats, mean over rows of the last axis) and by SQNR. The
samples are taken as two halves: a ranking that differs between them says more of the samples than of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import CalibrationError
from edgezip.passes.measure_sqnr import decibels
from edgezip.passes.products import find_products
from edgezip.passes.quantize_weights import quantize_weights
from edgezip.search.swap_layer import swapped

if TYPE_CHECKING:
    from edgezip.graph import Model, Node
    from edgezip.passes.weight_grid import Form

Array = np.ndarray[Any, Any]
STABLE = 0.8  # rank correlation of the two halves from which on the ranking is called stable


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """One layer: parameters, divergence (nats) and SQNR (dB) of the outputs, and the divergence on either half of the samples."""

    name: str
    op: str
    parameters: int
    divergence: float
    sqnr_db: float
    halves: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Layers, the most sensitive first, how well the halves agree on their order (Spearman's rank correlation), and the names
    of layers that could not be tried alone."""

    layers: tuple[LayerSensitivity, ...]
    agreement: float
    samples: int
    left_out: tuple[str, ...] = ()

    @property
    def is_stable(self) -> bool:
        """Whether another half of the data would have told the same."""
        return self.agreement >= STABLE


def measure_sensitivity(
    model: Model, samples: Sequence[Mapping[str, Array]], form: Form, progress: Callable[[int, int], None] | None = None
) -> Sensitivity:
    """The ranking of all products of ``model`` for weights in ``form``, rounded to nearest; see ``rank_layers``."""
    products = find_products(model)
    small, _ = quantize_weights(model, [(product, None) for product in products], form, method="nearest")
    return rank_layers(model, small, [product.name for product in products], samples, progress)


def rank_layers(
    model: Model,
    small: Model,
    names: Sequence[str],
    samples: Sequence[Mapping[str, Array]],
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """The ranking of the layers ``names`` as ``small``, the compressed ``model``, has them: each alone in ``model``.

    Layers whose inputs or results have other shapes there cannot be tried alone: ``left_out``. ``progress`` is told how many
    layers are done, and of how many. Raises CalibrationError: fewer than two samples.
    """
    if len(samples) < 2:
        raise CalibrationError("the check needs two halves", expected="at least 2 samples", got=str(len(samples)))
    exact = [_joined(results) for results in graph.run_many(model, iter(samples))]
    nodes = {node.name or "": node for node in graph.nodes(model)}
    rows, left_out = [], []
    for number, name in enumerate(names):
        changed = swapped(model, small, name)
        if changed is None:
            left_out.append(name)
        else:
            rows.append(_row(nodes[name], exact, [_joined(results) for results in graph.run_many(changed, iter(samples))]))
        if progress is not None:
            progress(number + 1, len(names))
    agreement = _rank_correlation([row.halves[0] for row in rows], [row.halves[1] for row in rows])
    ranked = tuple(sorted(rows, key=lambda row: (-row.divergence, row.sqnr_db, row.name)))
    return Sensitivity(ranked, agreement, len(samples), tuple(left_out))


def _row(node: Node, exact: Sequence[Mapping[str, Array]], made: Sequence[Mapping[str, Array]]) -> LayerSensitivity:
    pairs = list(zip(exact, made, strict=True))
    each = [_divergence(wanted, got) for wanted, got in pairs]
    noise = sum(float(((wanted[name] - got[name]) ** 2).sum()) for wanted, got in pairs for name in wanted)
    signal = sum(float((wanted[name] ** 2).sum()) for wanted, _ in pairs for name in wanted)
    halves = float(np.mean(each[::2])), float(np.mean(each[1::2]))
    weights = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    size = 0 if weights is None else weights.size
    return LayerSensitivity(node.name or "", node.op_type, size, float(np.mean(each)), decibels(signal, noise), halves)


def _joined(results: Mapping[str, Array]) -> dict[str, Array]:
    """Float outputs as float64."""
    return {name: array.astype(np.float64) for name, array in results.items() if array.dtype.kind == "f"}


def _divergence(exact: Mapping[str, Array], made: Mapping[str, Array]) -> float:
    """Mean over all rows of all outputs."""
    found = [_row_divergence(exact[name], made[name]) for name in exact if exact[name].size]
    return float(np.mean(np.concatenate(found))) if found else 0.0


def _row_divergence(exact: Array, made: Array) -> Array:
    """KL(p || q) of the softmax of each row of the last axis; outputs that are shares already are taken as they are."""
    p, q = (_log_shares(array.reshape(-1, array.shape[-1] if array.ndim else 1)) for array in (exact, made))
    return np.asarray(np.maximum((np.exp(p) * (p - q)).sum(axis=1), 0.0))


def _log_shares(rows: Array) -> Array:
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1.0, atol=1e-3):
        return np.asarray(np.log(np.maximum(rows, 1e-12)))
    shifted = rows - rows.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's; 1 for fewer than two layers."""
    if len(first) < 2:
        return 1.0
    ranks = [
        np.argsort(np.argsort(np.asarray(values), kind="stable"), kind="stable").astype(np.float64) for values in (first, second)
    ]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
