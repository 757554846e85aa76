"""Removes weights, one by one or in the blocks that our kernels skip, and lets the others answer for them.

Methods: ``magnitude`` (no data), ``wanda`` (|w| times the norm of its input; Sun et al., 2023), ``obs`` (the best mask found and
an update of the kept weights; SparseGPT, Frantar and Alistarh, 2023). Where a layer has a bias, or can take one, the latter two
look at the inputs' covariance and the bias takes up the shift of the mean, so a constant part of the inputs costs nothing (as in
An et al., "Fluctuation-based adaptive structured pruning", 2024, for channels).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.kernels import second_order, sparse_masks
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.place_qdq import matches
from edgezip.passes.products import find_products, shift_bias

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
METHODS = ("magnitude", "wanda", "obs")
BLOCKS = {"4x16": (4, 16), "4x32": (4, 32), "8x16": (8, 16)}  # columns x outputs
MASK_COLUMNS = 32  # masks of ``obs`` are chosen for so many columns at a time (128 lost 1 to 10 % on layers of 256 columns)
EXACT_WORK = 2e11  # multiplications that the exact refit of a layer may cost
LEAST_DENSITY = 0.1  # of a layer in a global ranking: a layer without weights is the end of the network
PATTERN_KEY = "edgezip.pattern"


@dataclass(frozen=True, slots=True)
class Pattern:
    """``1x1`` (single weights), ``N:M`` (N of each M neighbours kept), or a block of columns x outputs."""

    name: str

    def __post_init__(self) -> None:
        if self.name != "1x1" and self.name not in BLOCKS and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", self.name):
            raise UsageError("no such pattern", where="prune", expected=f"1x1, N:M, {', '.join(BLOCKS)}", got=self.name)
        if self.n_of_m and not self.n_of_m[0] < self.n_of_m[1]:
            raise UsageError("N:M keeps N of M, so N is less than M", where="prune", got=self.name)

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """(N, M) of that kind of pattern."""
        n, _, m = self.name.partition(":")
        return (int(n), int(m)) if m else None

    def fits(self, product: Product) -> str:
        """Why the layer cannot have it; empty when it can."""
        if self.name in BLOCKS and product.is_depthwise:
            return "depthwise: no kernel skips blocks of it"
        if self.name in BLOCKS and product.outputs < BLOCKS[self.name][1]:
            return f"{product.outputs} outputs are fewer than a block of {self.name}"
        return ""

    def mask(self, saliency: Array, density: float, span: int, *, per_row: bool = False) -> Array:
        """What stays of (outputs, columns); ``columns`` is a whole number of spans, or a part of one."""
        if self.n_of_m:
            return sparse_masks.n_of_m(saliency, *self.n_of_m)
        if self.name in BLOCKS:
            columns, outputs = BLOCKS[self.name]
            width = min(span, saliency.shape[1])
            groups = sparse_masks.column_groups(width, saliency.shape[1] // width, columns)
            return sparse_masks.blocks(saliency, density, groups, outputs)
        return sparse_masks.by_row(saliency, density) if per_row else sparse_masks.unstructured(saliency, density)

    def step(self, product: Product) -> int:
        """Columns for which ``obs`` chooses at a time: groups of the pattern must not be cut."""
        unit = self.n_of_m[1] if self.n_of_m else BLOCKS[self.name][0] if self.name in BLOCKS else 1
        width = max(MASK_COLUMNS // unit, 1) * unit
        whole = product.span == product.columns or product.span % width == 0
        return width if self.name not in BLOCKS or whole else product.columns


def prune_weights(
    model: Model,
    layers: Iterable[tuple[Product, Inputs | None]],
    pattern: Pattern,
    sparsity: float,
    *,
    method: str = "obs",
    everywhere: bool = False,
    keep: Sequence[str] = (),
) -> tuple[Model, list[LayerChange]]:
    """``model`` with ``sparsity`` of the weights of each layer gone, and a row for each layer; the original is not touched.

    ``layers``: the products of ``model`` with their inputs (None with ``magnitude``). ``everywhere``: one ranking over all layers
    (``magnitude`` of single weights only). ``keep``: names or operators, or patterns of them, that stay. Raises UsageError.
    """
    _check(pattern, sparsity, method, everywhere)
    pruned = graph.clone(model)
    there = {product.name: product for product in find_products(pruned)}
    densities = _global_densities(list(there.values()), sparsity, keep) if everywhere else {}
    report = []
    for product, inputs in layers:
        reason = _reason(product, pattern, keep)
        if reason:
            report.append(_untouched(product, reason))
            continue
        density = densities.get(product.name, 1 - sparsity)
        held = product.weights()
        moments = _moments(product, inputs, method)
        made = np.stack([_prune_rows(*group, product, pattern, density, method) for group in zip(held, moments, strict=True)])
        if not made.any() and held.any():
            raise UsageError(
                f"nothing would be left of a layer of {held.size} weights",
                where=f"prune: node '{product.name}' ({product.node.op_type}), pattern {pattern.name}",
                got=f"sparsity {1 - density:.4g}",
                hint=f"ask for less, or keep it: keep: ['{product.name}'] (--keep {product.name})",
            )
        twin = there[product.name]
        graph.replace_weight(pruned, twin.weight_name, twin.array_of(made))
        graph.set_metadata(twin.node, PATTERN_KEY, pattern.name)
        if inputs is not None and method != "magnitude" and twin.takes_bias:
            shift_bias(pruned, twin, np.einsum("gok,gk->go", held - made, inputs.mean).reshape(-1))
        report.append(_row(product, held, made, inputs, pattern, centred=method != "magnitude"))
    return pruned, report


def _check(pattern: Pattern, sparsity: float, method: str, everywhere: bool) -> None:
    if not 0 < sparsity < 1:
        raise UsageError("a share between 0 and 1", where="prune: sparsity", got=str(sparsity))
    if method not in METHODS:
        raise UsageError("no such method", where="prune: method", expected=", ".join(METHODS), got=method)
    if everywhere and (method != "magnitude" or pattern.name != "1x1"):
        raise UsageError("one ranking over all layers is for single weights by magnitude", where="prune: everywhere")
    if pattern.n_of_m and not np.isclose(1 - pattern.n_of_m[0] / pattern.n_of_m[1], sparsity):
        share = 1 - pattern.n_of_m[0] / pattern.n_of_m[1]
        raise UsageError(f"{pattern.name} removes {share:.4g}", where="prune: sparsity", got=str(sparsity))


def _reason(product: Product, pattern: Pattern, keep: Sequence[str]) -> str:
    if matches(product.node, keep):
        return "kept by request"
    return pattern.fits(product)


def _moments(product: Product, inputs: Inputs | None, method: str) -> Iterable[Array | None]:
    """Of each group: the second moment of its inputs, about the mean where the bias takes that up."""
    if method == "magnitude":
        return [None] * product.groups
    if inputs is None:
        raise UsageError(f"'{method}' needs calibration data", where="prune", hint="give --calib, or take magnitude")
    return inputs.covariance if product.takes_bias else inputs.hessian


def _prune_rows(rows: Array, hessian: Array | None, product: Product, pattern: Pattern, density: float, method: str) -> Array:
    """(outputs, columns) of one group, pruned. ``hessian``: the moment by which errors count, None with magnitude."""
    if hessian is None:
        return rows * pattern.mask(rows**2, density, product.span)
    simple = pattern.mask(rows**2 * np.diag(hessian), density, product.span, per_row=pattern.name == "1x1")
    if method == "wanda":
        return rows * simple
    width = pattern.step(product)
    adaptive = second_order.obs_prune(rows, hessian, lambda block, first: pattern.mask(block, density, product.span), width=width)
    fixed = second_order.obs_prune(rows, hessian, lambda block, first: simple[:, first : first + block.shape[1]])
    candidates = [adaptive, fixed, rows * simple]
    if _exact_work(rows, density) <= EXACT_WORK:
        candidates += [second_order.refit(rows, hessian, made != 0) for made in (adaptive, fixed)]
    return min(candidates, key=lambda made: second_order.output_error(made - rows, hessian))


def _exact_work(rows: Array, density: float) -> float:
    return float(len(rows) * (density * rows.shape[1]) ** 3 / 3)


def _global_densities(products: Sequence[Product], sparsity: float, keep: Sequence[str]) -> dict[str, float]:
    """Density of each layer when all weights compete by magnitude."""
    pattern = Pattern("1x1")
    taken = [p for p in products if not _reason(p, pattern, keep)]
    sizes = {p.name: np.abs(p.weights()).reshape(-1) for p in taken}
    if not sizes:
        return {}
    bound = np.quantile(np.concatenate(list(sizes.values())), sparsity)
    return {name: max(float((size > bound).mean()), LEAST_DENSITY) for name, size in sizes.items()}


def _row(product: Product, before: Array, after: Array, inputs: Inputs | None, pattern: Pattern, *, centred: bool) -> LayerChange:
    centred = centred and product.takes_bias
    return LayerChange(
        product.name,
        product.node.op_type,
        f"float32, pruned {pattern.name}",
        32,
        float((after == 0).mean()),
        before.size * 4,
        before.size * 4,
        None if inputs is None else inputs.output_error(before),
        None if inputs is None else inputs.output_error(after - before, centred=centred),
    )


def _untouched(product: Product, reason: str) -> LayerChange:
    held = product.weights()
    return LayerChange(
        product.name, product.node.op_type, "float32", 32, float((held == 0).mean()), held.size * 4, held.size * 4, reason=reason
    )
