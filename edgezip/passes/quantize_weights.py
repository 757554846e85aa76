"""Weights of 2 to 8 bits with float activations: a scale for the tensor, for each output, or for each block of input channels.

The result is DequantizeLinear with weights of type int4/uint4 (up to 4 bits) or int8/uint8, which any runtime reads. Methods:
``nearest``; ``gptq`` (error feedback, then descent along columns until nothing moves); ``adaround`` (learned up or down). Scales
are the ones of least squared error among shrunken ranges, inputs that are strong counting more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.kernels import adaround, second_order
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.place_qdq import matches
from edgezip.passes.products import find_products
from edgezip.passes.weight_grid import Form, grid_of

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.kernels.second_order import Grid
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
METHODS = ("nearest", "gptq", "adaround")
ITERATIONS_WORK = 4e11  # multiplications that learning the rounding of a layer may cost; fewer iterations for larger layers
BITS_KEY = "edgezip.bits"


def quantize_weights(
    model: Model,
    layers: Iterable[tuple[Product, Inputs | None]],
    wanted: Form,
    *,
    method: str = "gptq",
    keep: Sequence[str] = (),
) -> tuple[Model, list[LayerChange]]:
    """``model`` with the weights of ``layers`` in the ``wanted`` form, and a row for each; the original is not touched.

    ``layers``: products of ``model`` with their inputs (None with ``nearest``). Raises UsageError.
    """
    if method not in METHODS:
        raise UsageError("no such method", where="quantize_weights: method", expected=", ".join(METHODS), got=method)
    small = graph.clone(model)
    there = {product.name: product for product in find_products(small)}
    rows = []
    for product, inputs in layers:
        held, form = product.weights(), _form_of(product, wanted)
        reason = _reason(product, form, keep)
        if reason:
            rows.append(_row(product, held, held, inputs, form, reason))
            continue
        if method != "nearest" and inputs is None:
            raise UsageError(f"'{method}' needs calibration data", where="quantize_weights", hint="give --calib, or take nearest")
        groups = _quantize_groups(held, None if inputs is None else inputs.hessian, product, form, method)
        _store(small, there[product.name], form, [codes for codes, _ in groups], [grid for _, grid in groups])
        made = np.stack([grid.values(codes) for codes, grid in groups])
        rows.append(_row(product, held, made, inputs, form, ""))
    return small, rows


def _form_of(product: Product, wanted: Form) -> Form:
    """Blocks longer than the channels there are would be scales without weights: then each output has one scale."""
    blocked = isinstance(wanted.per, int) and product.columns // product.window < wanted.per
    return replace(wanted, per="channel") if blocked else wanted


def _reason(product: Product, form: Form, keep: Sequence[str]) -> str:
    """Why the layer stays as it is, or nothing."""
    if matches(product.node, keep):
        return "kept by request"
    grouped = product.node.op_type == "ConvTranspose" and product.groups > 1
    if grouped and form.per == "channel":
        return "ONNX has no scale for each output of a grouped ConvTranspose; blocks or the tensor have"
    if grouped and isinstance(form.per, int) and (product.columns // product.window) % form.per:
        return f"blocks of {form.per} input channels reach over its groups"
    return ""


def _quantize_groups(held: Array, hessians: Array | None, product: Product, form: Form, method: str) -> list[tuple[Array, Grid]]:
    """Codes and grid of each group. One scale for the tensor is one for all groups: those are looked at as one matrix."""
    if form.per != "tensor" or len(held) == 1:
        return [
            _quantize_rows(held[g], None if hessians is None else hessians[g], product, form, method) for g in range(len(held))
        ]
    rows = held.reshape(-1, held.shape[2])
    strength = np.ones(rows.shape) if hessians is None else np.repeat(np.einsum("gkk->gk", hessians), held.shape[1], axis=0)
    whole = grid_of(rows, strength, product, form)
    return [(_rounded(held[g], None if hessians is None else hessians[g], whole, method), whole) for g in range(len(held))]


def _quantize_rows(rows: Array, hessian: Array | None, product: Product, form: Form, method: str) -> tuple[Array, Grid]:
    """Codes (outputs, columns) of one group, and the grid they lie on."""
    strength = np.ones(rows.shape[1]) if hessian is None else np.diag(hessian)
    grid = grid_of(rows, strength, product, form)
    return _rounded(rows, hessian, grid, method), grid


def _rounded(rows: Array, hessian: Array | None, grid: Grid, method: str) -> Array:
    if method == "nearest" or hessian is None:
        return grid.codes(rows)
    if method == "adaround":
        work = rows.shape[0] * rows.shape[1] ** 2
        return adaround.adaround(rows, hessian, grid, iterations=int(np.clip(ITERATIONS_WORK / work, 200, 1000)))
    return second_order.descend(rows, hessian, grid, second_order.gptq(rows, hessian, grid))


def _store(model: Model, product: Product, form: Form, codes: list[Array], grids: list[Grid]) -> None:
    """Replace the twin's weight by integers behind a DequantizeLinear."""
    stored = product.array_of(np.stack(codes).astype(np.int16)).astype(form.dtype)
    scale, zero = (np.stack(side) for side in ([grid.scale for grid in grids], [grid.zero_point for grid in grids]))
    axis: int | None = None
    if form.per == "tensor":
        scale, zero = scale.reshape(-1)[0], zero.reshape(-1)[0]
    elif form.per == "channel":
        axis, scale, zero = product.output_axis, scale.reshape(-1), zero.reshape(-1)
    else:
        axis = 1 - product.output_axis
        scale, zero = (product.array_of(_per_block(side, product, int(form.per))) for side in (scale, zero))
    parameters = np.asarray(scale, np.float32), np.asarray(zero).astype(form.dtype)
    graph.set_metadata(product.node, BITS_KEY, str(form.bits))
    block = form.per if isinstance(form.per, int) else 0
    graph.quantize_weight(model, product.weight, stored, *parameters, axis=axis, block=block, uses=[(product.node, 1)])


def _per_block(spread: Array, product: Product, block: int) -> Array:
    """(groups, outputs, window * blocks): one entry of each block of (groups, outputs, columns)."""
    channels = product.columns // product.window
    split = spread.reshape(product.groups, product.outputs, product.window, channels)
    return np.ascontiguousarray(split[..., ::block]).reshape(product.groups, product.outputs, -1)


def _row(product: Product, before: Array, after: Array, inputs: Inputs | None, form: Form, reason: str) -> LayerChange:
    signal, error = (None, None) if inputs is None else (inputs.output_error(before), inputs.output_error(after - before))
    dense = before.size * 4
    return LayerChange(
        product.name,
        product.node.op_type,
        "float32" if reason else form.text,
        32 if reason else form.bits,
        float((after == 0).mean()),
        dense,
        dense if reason else _stored_bytes(product, form),
        signal,
        error,
        reason,
    )


def _stored_bytes(product: Product, form: Form) -> int:
    """Of the ONNX file: the codes, float32 scales and zero points."""
    weights = product.groups * product.outputs * product.columns
    outputs = product.groups * product.outputs
    sets = 1 if form.per == "tensor" else outputs
    if isinstance(form.per, int):
        sets = outputs * product.window * -(-(product.columns // product.window) // form.per)
    wide = 2 if form.bits <= 4 else 1  # weights in a byte
    return -(-weights // wide) + 4 * sets + -(-sets // wide)
