"""How weights of few bits are stored, and their grid: scales of least squared error among shrunken ranges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from edgezip.errors import UsageError
from edgezip.kernels.second_order import Grid

if TYPE_CHECKING:
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
BLOCKS = (32, 64, 128)
SCALES = ("mse", "minmax", "output")
SHRINKS = np.linspace(1.0, 0.5, 26)


@dataclass(frozen=True, slots=True)
class Form:
    """How weights are stored. ``per``: "tensor", "channel", or the number of input channels that share a scale. ``packed``: as
    int2 or int4 where they fit; else as int8, for runtimes that do not know those. ``scales``: "mse", the scale of least squared
    error; "output", the one of least error of what the weights that share it give; or "minmax", the largest weight at the largest
    code."""

    bits: int = 4
    per: str | int = 32
    symmetric: bool = True
    packed: bool = True
    scales: str = "mse"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise UsageError("weights have 2 to 8 bits", where="quantize_weights: bits", got=str(self.bits))
        if self.per not in ("tensor", "channel", *BLOCKS):
            blocks = ", ".join(map(str, BLOCKS))
            raise UsageError(
                "no such sharing", where="quantize_weights: per", expected=f"tensor, channel, {blocks}", got=str(self.per)
            )
        if self.scales not in SCALES:
            raise UsageError("no such rule", where="quantize_weights: scales", expected=", ".join(SCALES), got=self.scales)

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
    def width(self) -> int:
        """Bits that a weight takes up in the file: of the narrowest type that ONNX has for it, or 8 if not ``packed``."""
        return next(width for width in (2, 4, 8) if width >= self.bits) if self.packed else 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the file stores."""
        types = {2: (ml_dtypes.int2, ml_dtypes.uint2), 4: (ml_dtypes.int4, ml_dtypes.uint4), 8: (np.int8, np.uint8)}
        held: np.dtype[Any] = np.dtype(types[self.width][0 if self.symmetric else 1])
        return held

    @property
    def text(self) -> str:
        """For the report."""
        shared = {"tensor": "per tensor", "channel": "per channel"}.get(str(self.per), f"blocks of {self.per}")
        return f"int{self.bits} {shared}{'' if self.symmetric else ', asymmetric'}"


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


def grid_of(rows: Array, strength: Array, product: Product, form: Form, moments: Array | None = None) -> Grid:
    """The scale (and zero point) of least weighted squared error of each set, or of least output error (``scales``: output).

    ``rows`` (groups * outputs, K) of all groups or of one; ``strength`` for each of them or for all; ``moments`` (groups, K, K)
    of those groups, E[x x^T], for the output error.
    """
    weights = _shared(rows, product, form)
    error_of = (
        _output_error(moments, len(rows), product, form)
        if form.scales == "output" and moments is not None
        else _weight_error(strength, rows.shape, product, form)
    )
    top, bottom = np.maximum(weights.max(axis=-1), 0), np.minimum(weights.min(axis=-1), 0)
    best_scale = np.ones(top.shape)
    best_zero, least = np.zeros(top.shape), np.full(top.shape, np.inf)
    for shrink in (1.0,) if form.scales == "minmax" else SHRINKS:
        scale, zero = _parameters(bottom * shrink, top * shrink, form)
        codes = np.clip(np.rint(weights / scale[..., None]) + zero[..., None], form.low, form.high)
        error = error_of((codes - zero[..., None]) * scale[..., None] - weights)
        better = error < least
        best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero, best_zero)
        least = np.where(better, error, least)
    return Grid(_spread(best_scale, rows, product, form), _spread(best_zero, rows, product, form), form.low, form.high)


def _weight_error(strength: Array, shape: tuple[int, ...], product: Product, form: Form) -> Callable[[Array], Array]:
    """Of changed weights in the shape of ``_shared``: the squared change, weighted."""
    counts = _shared(np.broadcast_to(strength, shape), product, form) + 1e-12
    return lambda change: np.asarray((counts * change**2).sum(axis=-1))


def _output_error(moments: Array, rows: int, product: Product, form: Form) -> Callable[[Array], Array]:
    """Of changed weights in the shape of ``_shared``: E (d x)^2 over the inputs of each set, as AWQ searches its clips."""
    groups, columns = moments.shape[:2]
    outputs = rows // groups
    if not isinstance(form.per, int):

        def whole(change: Array) -> Array:
            split = change.reshape(groups, outputs, columns)
            error = np.asarray((np.matmul(split, moments) * split).sum(axis=-1).reshape(-1))
            return np.asarray(error.sum(keepdims=True)) if form.per == "tensor" else error

        return whole
    size, channels = form.per, columns // product.window
    blocks = -(-channels // size)
    padded = np.zeros((groups, product.window, blocks * size, blocks * size))
    for position in range(product.window):
        part = slice(position * channels, (position + 1) * channels)
        padded[:, position, :channels, :channels] = moments[:, part, part]
    split = padded.reshape(groups, product.window, blocks, size, blocks, size)
    own = np.ascontiguousarray(np.einsum("gwbibj->gwbij", split))

    def by_block(change: Array) -> Array:
        each = change.reshape(groups, outputs, *change.shape[1:]).transpose(0, 2, 3, 1, 4)
        error = (np.matmul(each, own) * each).sum(axis=-1)  # groups, window, blocks, outputs
        return np.asarray(error.transpose(0, 3, 1, 2).reshape(change.shape[:-1]))

    return by_block


def _parameters(bottom: Array, top: Array, form: Form) -> tuple[Array, Array]:
    """float32 scales, as the file will hold them, and whole zero points."""
    if form.symmetric:
        reach = np.maximum(top / form.high, bottom / form.low)
        return _positive(reach), np.zeros(reach.shape)
    scale = _positive((top - bottom) / form.high)
    return scale, np.clip(np.rint(-bottom / scale), 0, form.high)


def _positive(scale: Array) -> Array:
    return np.where(scale > 0, scale, 1.0).astype(np.float32).astype(np.float64)
