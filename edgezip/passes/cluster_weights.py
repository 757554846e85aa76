"""Weights that share a few values: a table of int8 entries for each layer, a scale for each output, and an index for each weight.

In ONNX: Cast(indices) -> Gather(table) -> DequantizeLinear, which any runtime folds; the file holds one byte an index before
entropy coding. Tables: ``kmeans`` (the exact optimum, weights with strong inputs counting more), ``powers`` of two, ``nf4``, or
the user's own. Zeros of a pruned layer stay zeros. Han et al., "Deep Compression", 2016, section 3, with exact centres.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.kernels import codebook, second_order
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.place_qdq import matches
from edgezip.passes.products import find_products

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
TABLES = ("kmeans", "powers", "nf4")
REACH = 127
PRUNED = 0.3  # of the weights are zero: the layer is a pruned one, its zeros are kept


@dataclass(frozen=True, slots=True)
class Codebook:
    """``table``: a name of TABLES, or the user's int8 entries. ``count``: entries of kmeans and powers."""

    table: str | tuple[int, ...] = "kmeans"
    count: int = 16

    def __post_init__(self) -> None:
        if isinstance(self.table, str) and self.table not in TABLES:
            raise UsageError("no such table", where="cluster_weights: table", expected=", ".join(TABLES), got=self.table)
        if not isinstance(self.table, str) and not (self.table and all(-REACH <= entry <= REACH for entry in self.table)):
            raise UsageError("entries are whole numbers from -127 to 127", where="cluster_weights: table", got=str(self.table))
        if not 2 <= self.count <= 256:
            raise UsageError("a codebook has 2 to 256 entries", where="cluster_weights: count", got=str(self.count))

    @property
    def text(self) -> str:
        """For the report."""
        if not isinstance(self.table, str):
            return f"codebook of {len(set(self.table))} given entries"
        return {"kmeans": f"codebook of {self.count}", "powers": f"powers of two, {self.count}", "nf4": "NF4"}[self.table]


def cluster_weights(
    model: Model, layers: Iterable[tuple[Product, Inputs | None]], book: Codebook, *, keep: Sequence[str] = ()
) -> tuple[Model, list[LayerChange]]:
    """``model`` with the weights of ``layers`` on codebooks, and a row for each layer; the original is not touched.

    With inputs (calibration data) assignments answer for each other (error feedback); without, each takes its nearest entry.
    """
    small = graph.clone(model)
    there = {product.name: product for product in find_products(small)}
    rows = []
    for product, inputs in layers:
        held = product.weights()
        reason = _reason(product, keep)
        if reason:
            rows.append(_row(product, held, held, inputs, "float32", 32, held.size * 4, reason))
            continue
        scale = _scales(held)
        centres = _centres(held / scale, None if inputs is None else np.einsum("gkk->gk", inputs.hessian), scale, book)
        tables = [codebook.Table(centres, scale[g]) for g in range(len(held))]
        codes = np.stack([_assigned(held[g], None if inputs is None else inputs.hessian[g], tables[g]) for g in range(len(held))])
        _store(small, there[product.name], centres, codes, scale)
        made = np.stack([table.values(code) for table, code in zip(tables, codes, strict=True)])
        bits = max(int(np.ceil(np.log2(len(centres)))), 1)
        size = codes.size + len(centres) + 5 * scale.size
        rows.append(_row(product, held, made, inputs, book.text, bits, size, ""))
    return small, rows


def _reason(product: Product, keep: Sequence[str]) -> str:
    if matches(product.node, keep):
        return "kept by request"
    if product.node.op_type == "ConvTranspose" and product.groups > 1:
        return "ONNX has no scale for each output of a grouped ConvTranspose"
    return ""


def _scales(held: Array) -> Array:
    """(groups, outputs, 1) float32 values: the largest weight of an output is 127."""
    top = np.abs(held).max(axis=-1, keepdims=True)
    return np.where(top > 0, top / REACH, 1.0).astype(np.float32).astype(np.float64)


def _centres(scaled: Array, strength: Array | None, scale: Array, book: Codebook) -> Array:
    """The int8 table of the layer; weights count by what they add to the outputs' error."""
    if not isinstance(book.table, str):
        return np.asarray(np.unique(np.array(book.table, np.int8)))
    if book.table == "nf4":
        return codebook.NF4
    if book.table == "powers":
        return codebook.powers_of_two(book.count)
    importance = np.broadcast_to(scale**2 * (1.0 if strength is None else strength[:, None, :]), scaled.shape)
    zero = scaled == 0
    if zero.mean() < PRUNED:
        return codebook.kmeans_s8(np.rint(scaled), book.count, importance)
    kept = (
        codebook.kmeans_s8(np.rint(scaled[~zero]), book.count - 1, importance[~zero]) if not zero.all() else np.zeros(0, np.int8)
    )
    return np.unique(np.append(kept, np.int8(0)))


def _assigned(rows: Array, hessian: Array | None, table: codebook.Table) -> Array:
    zero = rows == 0
    keeps_zeros = zero.mean() >= PRUNED and 0 in table.centres
    if hessian is None or keeps_zeros:  # feedback would fill the holes of a pruned layer
        codes = table.codes(rows)
        return np.where(zero, int(np.searchsorted(table.centres, 0)), codes) if keeps_zeros else codes
    return second_order.descend(rows, hessian, table, second_order.gptq(rows, hessian, table)).astype(np.int64)


def _store(model: Model, product: Product, centres: Array, codes: Array, scale: Array) -> None:
    """Cast -> Gather -> DequantizeLinear in the weight's place."""
    base, node = product.weight_name, product.node
    like = product.weight
    indices = graph.add_initializer(model, graph.unique_name(model, f"{base}_indices"), product.array_of(codes).astype(np.uint8))
    table = graph.add_initializer(model, graph.unique_name(model, f"{base}_codebook"), centres.astype(np.int8))
    steps = graph.add_initializer(model, graph.unique_name(model, f"{base}_scale"), scale.reshape(-1).astype(np.float32))
    zeros = graph.add_initializer(model, graph.unique_name(model, f"{base}_zero_point"), np.zeros(scale.size, np.int8))
    graph.raise_opset(model, 13)
    whole = graph.new_node(model, "Cast", [indices], f"{base}_index", attrs={"to": 6}, before=node, like=like)
    graph.set_type(whole, np.int32, graph.shape(like))
    shared = graph.new_node(model, "Gather", [table, whole], f"{base}_shared", attrs={"axis": 0}, before=node, like=like)
    graph.set_type(shared, np.int8, graph.shape(like))
    made = graph.new_node(
        model,
        "DequantizeLinear",
        [shared, steps, zeros],
        f"{base}_dequantized",
        attrs={"axis": product.output_axis},
        before=node,
        like=like,
    )
    node.replace_input_with(1, made)
    if not like.uses() and not like.is_graph_output():
        model.graph.initializers.pop(base)


def _row(
    product: Product, before: Array, after: Array, inputs: Inputs | None, form: str, bits: int, stored: int, reason: str
) -> LayerChange:
    signal, error = (None, None) if inputs is None else (inputs.output_error(before), inputs.output_error(after - before))
    sparsity = float((after == 0).mean())
    return LayerChange(product.name, product.node.op_type, form, bits, sparsity, before.size * 4, stored, signal, error, reason)
