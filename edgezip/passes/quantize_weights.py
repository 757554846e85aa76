"""Weights of 2 to 8 bits with float activations: a scale for the tensor, for each output, or for each block of input channels.

The result is DequantizeLinear with weights of type int4/uint4 (up to 4 bits) or int8/uint8, which any runtime reads. Methods:
``nearest``; ``gptq`` (error feedback, then descent along columns until nothing moves); ``adaround`` (learned up or down). Scales
are the ones of least squared error among shrunken ranges, inputs that are strong counting more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.kernels import adaround, second_order
from edgezip.kernels.second_order import Grid
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.products import find_products

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
METHODS = ("nearest", "gptq", "adaround")
BLOCKS = (32, 64, 128)
SHRINKS = np.linspace(1.0, 0.5, 26)
ITERATIONS_WORK = 4e11  # multiplications that learning the rounding of a layer may cost; fewer iterations for larger layers
BITS_KEY = "edgezip.bits"


@dataclass(frozen=True, slots=True)
class Form:
    """How weights are stored. ``per``: "tensor", "channel", or the number of input channels that share a scale."""

    bits: int = 4
    per: str | int = 32
    symmetric: bool = True

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise UsageError("weights have 2 to 8 bits", where="quantize_weights: bits", got=str(self.bits))
        if self.per not in ("tensor", "channel", *BLOCKS):
            blocks = ", ".join(map(str, BLOCKS))
            raise UsageError(
                "no such sharing", where="quantize_weights: per", expected=f"tensor, channel, {blocks}", got=str(self.per)
            )

    @property
    def low(self) -> int:
        """The least code; symmetric int8 leaves -128 out (EZ-N1 rule 1)."""
        if not self.symmetric:
            return 0
        return -127 if self.bits == 8 else -(2 ** (self.bits - 1))

    @property
    def high(self) -> int:
        """The greatest code."""
        return (1 << (self.bits - 1 if self.symmetric else self.bits)) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the file stores."""
        if self.bits > 4:
            return np.dtype(np.int8 if self.symmetric else np.uint8)
        narrow: np.dtype[Any] = np.dtype(ml_dtypes.int4 if self.symmetric else ml_dtypes.uint4)
        return narrow

    @property
    def text(self) -> str:
        """For the report."""
        shared = {"tensor": "per tensor", "channel": "per channel"}.get(str(self.per), f"blocks of {self.per}")
        return f"int{self.bits} {shared}{'' if self.symmetric else ', asymmetric'}"


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
    if any(fnmatchcase(text, wanted) for wanted in keep for text in (product.name, product.node.op_type)):
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
    whole = _grid(rows, strength, product, form)
    return [(_rounded(held[g], None if hessians is None else hessians[g], whole, method), whole) for g in range(len(held))]


def _quantize_rows(rows: Array, hessian: Array | None, product: Product, form: Form, method: str) -> tuple[Array, Grid]:
    """Codes (outputs, columns) of one group, and the grid they lie on."""
    strength = np.ones(rows.shape[1]) if hessian is None else np.diag(hessian)
    grid = _grid(rows, strength, product, form)
    return _rounded(rows, hessian, grid, method), grid


def _rounded(rows: Array, hessian: Array | None, grid: Grid, method: str) -> Array:
    if method == "nearest" or hessian is None:
        return grid.codes(rows)
    if method == "adaround":
        work = rows.shape[0] * rows.shape[1] ** 2
        return adaround.adaround(rows, hessian, grid, iterations=int(np.clip(ITERATIONS_WORK / work, 200, 1000)))
    return second_order.descend(rows, hessian, grid, second_order.gptq(rows, hessian, grid))


def _shared(rows: Array, product: Product, form: Form) -> Array:
    """Weights that share a scale along the last axis; what fills the last block up is 0."""
    if form.per == "tensor":
        return rows.reshape(1, -1)
    if form.per == "channel":
        return rows
    size = int(form.per)
    channels = product.columns // product.window
    split = rows.reshape(len(rows), product.window, channels)
    blocks = -(-channels // size)
    padded = np.pad(split, ((0, 0), (0, 0), (0, blocks * size - channels)))
    return padded.reshape(len(rows), product.window, blocks, size)


def _spread(parameter: Array, rows: Array, product: Product, form: Form) -> Array:
    """A number for each set of sharing weights as one for each weight (or what broadcasts to it)."""
    if form.per in ("tensor", "channel"):
        return parameter[:, None]
    channels = product.columns // product.window
    return np.repeat(parameter, int(form.per), axis=-1)[..., :channels].reshape(rows.shape)


def _grid(rows: Array, strength: Array, product: Product, form: Form) -> Grid:
    """The scale (and zero point) of least weighted squared error of each set."""
    weights = _shared(rows, product, form)
    counts = _shared(np.broadcast_to(strength, rows.shape), product, form) + 1e-12
    top, bottom = np.maximum(weights.max(axis=-1), 0), np.minimum(weights.min(axis=-1), 0)
    best_scale = np.ones(top.shape)
    best_zero, least = np.zeros(top.shape), np.full(top.shape, np.inf)
    for shrink in SHRINKS:
        scale, zero = _parameters(bottom * shrink, top * shrink, form)
        codes = np.clip(np.rint(weights / scale[..., None]) + zero[..., None], form.low, form.high)
        error = (counts * ((codes - zero[..., None]) * scale[..., None] - weights) ** 2).sum(axis=-1)
        better = error < least
        best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero, best_zero)
        least = np.where(better, error, least)
    return Grid(_spread(best_scale, rows, product, form), _spread(best_zero, rows, product, form), form.low, form.high)


def _parameters(bottom: Array, top: Array, form: Form) -> tuple[Array, Array]:
    """float32 scales, as the file will hold them, and whole zero points."""
    if form.symmetric:
        reach = np.maximum(top / form.high, bottom / form.low)
        return _positive(reach), np.zeros(reach.shape)
    scale = _positive((top - bottom) / form.high)
    return scale, np.clip(np.rint(-bottom / scale), 0, form.high)


def _positive(scale: Array) -> Array:
    return np.where(scale > 0, scale, 1.0).astype(np.float32).astype(np.float64)


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
    error = signal = None
    if inputs is not None:
        signal = sum(second_order.output_error(part, inputs.hessian[g]) for g, part in enumerate(before))
        error = sum(second_order.output_error(part, inputs.hessian[g]) for g, part in enumerate(after - before))
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
