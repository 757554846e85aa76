"""Weights of 2 to 8 bits with float activations: a scale for the tensor, for each output, or for each block of input channels.

The result is DequantizeLinear with weights of type (u)int2, (u)int4 or (u)int8, which any runtime of that operator set reads.
Methods: ``nearest``; ``gptq`` (error feedback in the order of the inputs' strength, on scales that stay, then descent along
columns until nothing moves); ``adaround`` (learned up or down, then the same descent); ``awq`` (to nearest, each scale the one of
least error of what its weights give, as Lin et al., "AWQ", 2024, search their clips; ``smooth`` scales the channels before).
With all but ``nearest`` the bias takes up the mean. ``gptq`` and ``adaround`` fit to what the float layer gave, on inputs as the
layers before leave them; ``awq``, which fits nothing, looks at those of the float network: what it cannot answer for it only
learns to live with (EfficientNet-Lite0: 0 dB at the output instead of 7). Scales are else the ones of least squared error among
shrunken ranges, inputs that are strong counting more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.kernels import adaround, second_order
from edgezip.kernels.second_order import Grid
from edgezip.passes.follow_inputs import Wanted
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.place_qdq import matches
from edgezip.passes.products import find_products, shift_bias
from edgezip.passes.weight_grid import Form, grid_of

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
METHODS = ("nearest", "gptq", "adaround", "awq")
ITERATIONS_WORK = 1e11  # multiplications that learning the rounding of a layer may cost; fewer iterations for larger layers
HOLDS, DAMPINGS = (0.01, 1.0, 100.0), (0.01, 0.1, 1.0, 10.0)  # of the diagonal of the moments
WELL_KNOWN = 50  # patches a column: there the least damping serves
TRIED_OUTPUTS = 24
BITS_KEY = "edgezip.bits"


class Kept(Protocol):
    """Where finished layers of a run that was stopped are found again: arrays by the number of the layer."""

    def read(self, number: int) -> Mapping[str, Array] | None:
        """What ``write`` was given, or None."""
        ...

    def write(self, number: int, arrays: Mapping[str, Array]) -> None:
        """Keep the arrays of a layer."""
        ...


def quantize_weights(
    model: Model,
    layers: Iterable[tuple[Product, Inputs | Wanted | None]],
    wanted: Form,
    *,
    method: str = "gptq",
    keep: Sequence[str] = (),
    forms: Mapping[str, Form] | None = None,
    shadow: Model | None = None,
    kept: Kept | None = None,
) -> tuple[Model, list[LayerChange]]:
    """``model`` with the weights of ``layers`` in the ``wanted`` form, and a row for each; the original is not touched.

    ``layers``: products of ``model`` with what they meet (None with ``nearest``). ``forms``: other forms for layers whose name or
    operator fits a pattern, the first that fits. ``shadow``: a float twin of ``model`` that gets the rounded values layer by
    layer, for ``follow_inputs``. ``kept``: finished layers are written there and, if they are there already, not made again.
    Raises UsageError.
    """
    if method not in METHODS:
        raise UsageError("no such method", where="quantize_weights: method", expected=", ".join(METHODS), got=method)
    _check_patterns(model, forms or {})
    small = graph.clone(model)
    twins = [(each, {p.name: p for p in find_products(each)}) for each in (small, shadow) if each is not None]
    rows = []
    for number, (product, seen) in enumerate(layers):
        held = product.weights()
        form = _form_of(product, next((f for pattern, f in (forms or {}).items() if matches(product.node, (pattern,))), wanted))
        aim = Wanted.of(seen, held) if seen is not None and not isinstance(seen, Wanted) else seen
        reason = _reason(product, form, keep)
        if reason:
            rows.append(_row(product, held, held, aim, form, reason))
            continue
        if aim is None and (method != "nearest" or form.scales == "output"):
            raise _no_data(method, form)
        codes, grids = _found(kept, number, product, form) or _quantize(held, aim, product, form, method)
        if kept is not None:
            kept.write(number, _compact(codes, grids, product, form))
        made = np.stack([grid.values(code) for code, grid in zip(codes, grids, strict=True)])
        shift = aim.shift(made) if aim is not None and method != "nearest" and product.takes_bias else None
        for each, there in twins:
            twin = there[product.name]
            if each is small:
                _store(small, twin, form, codes, grids)
            else:
                graph.replace_weight(each, twin.weight_name, twin.array_of(made))
            if shift is not None:
                shift_bias(each, twin, shift)
        rows.append(_row(product, held, made, aim, form, "", centred=shift is not None))
    return small, rows


def _compact(codes: list[Array], grids: list[Grid], product: Product, form: Form) -> dict[str, Array]:
    """One number for each weight, one scale and zero point for each set that shares them."""
    arrays = {"codes": np.stack(codes).astype(np.int16)}
    for name, sides in (("scale", [grid.scale for grid in grids]), ("zero_point", [grid.zero_point for grid in grids])):
        spread = np.stack([np.broadcast_to(side, codes[0].shape) for side in sides])
        arrays[name] = _per_block(spread, product, form.per) if isinstance(form.per, int) else spread[..., :1].copy()
    return arrays


def _found(kept: Kept | None, number: int, product: Product, form: Form) -> tuple[list[Array], list[Grid]] | None:
    """Codes and grids as ``_compact`` left them."""
    arrays = None if kept is None else kept.read(number)
    if arrays is None:
        return None
    shape = (product.groups, product.outputs, product.columns)
    sides = []
    for name in ("scale", "zero_point"):
        side = arrays[name]
        if isinstance(form.per, int):
            channels = product.columns // product.window
            blocks = side.reshape(product.groups, product.outputs, product.window, -1)
            side = np.repeat(blocks, form.per, axis=-1)[..., :channels].reshape(shape)
        sides.append(np.broadcast_to(side, shape))
    grids = [Grid(scale, zero, form.low, form.high) for scale, zero in zip(*sides, strict=True)]
    return list(arrays["codes"].astype(np.int64)), grids


def _no_data(method: str, form: Form) -> UsageError:
    """Of something that looks at inputs."""
    if method == "nearest":
        asks, hint = f"scales: {form.scales}", "give --calib, or take scales: mse"
    else:
        asks, hint = f"'{method}'", "give --calib, or take nearest"
    return UsageError(f"{asks} needs calibration data", where="quantize_weights", hint=hint)


def _check_patterns(model: Model, forms: Mapping[str, Form]) -> None:
    """A pattern that fits no layer is a typing error."""
    layers = [product.node for product in find_products(model)]
    idle = [pattern for pattern in forms if not any(matches(node, (pattern,)) for node in layers)]
    if idle:
        raise UsageError(
            "no layer with weights fits",
            where="quantize_weights: layers",
            expected="names or operators of nodes, or patterns of them",
            got=", ".join(idle),
            hint="see the names with `edgezip inspect MODEL`",
        )


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


def _quantize(held: Array, aim: Wanted | None, product: Product, form: Form, method: str) -> tuple[list[Array], list[Grid]]:
    """Codes (outputs, columns) and grid of each group. One scale for the tensor is one for all groups."""
    target, moments = held, None if aim is None else aim.inputs.hessian
    if aim is not None and method == "awq":
        form, moments = replace(form, scales="output"), aim.damped(0.0, centred=product.takes_bias)
    elif aim is not None and method != "nearest":
        hold, damping = _dampings(held, aim, product, form)
        target, moments = aim.fit(held, hold, centred=product.takes_bias), aim.damped(damping, centred=product.takes_bias)
    grids = _grids(target, moments, product, form)
    if method in ("nearest", "awq") or moments is None:
        return [grid.codes(rows) for grid, rows in zip(grids, target, strict=True)], grids
    first = _learned(target, moments, grids) if method == "adaround" else None
    codes = []
    for g, grid in enumerate(grids):
        start = second_order.gptq(target[g], moments[g], grid, damping=0.0) if first is None else first[g]
        codes.append(second_order.descend(target[g], moments[g], grid, start))
    return codes, grids


def _grids(target: Array, moments: Array | None, product: Product, form: Form) -> list[Grid]:
    """Of each group; made for all at once, since a depthwise layer has a thousand of one row."""
    groups, outputs, columns = target.shape
    strength = np.ones((groups, columns)) if moments is None else np.einsum("gkk->gk", moments)
    whole = grid_of(target.reshape(-1, columns), np.repeat(strength, outputs, axis=0), product, form, moments)
    sides = [np.broadcast_to(held, (groups * outputs, columns)) for held in (whole.scale, whole.zero_point)]
    parts = [slice(g * outputs, (g + 1) * outputs) for g in range(groups)]
    return [replace(whole, scale=sides[0][part], zero_point=sides[1][part]) for part in parts]


def _dampings(held: Array, aim: Wanted, product: Product, form: Form) -> tuple[float, float]:
    """Of the fit and of the rounding: those of least error on samples that they were not made for, tried on some outputs.

    Of 20 pictures the last layers of EfficientNet-Lite0 know nothing in most directions: rounded for what little there is, they
    gave 29 dB there and 8 dB on other pictures (2026-11-24).
    """
    if aim.halves is None or aim.inputs.rows >= WELL_KNOWN * product.columns:
        return HOLDS[0], DAMPINGS[0]
    chosen = np.unique(np.linspace(0, product.outputs - 1, TRIED_OUTPUTS).astype(int))
    rows, centred = held[:1, chosen], product.takes_bias
    halves = [half.only(chosen) for half in aim.halves]
    turns = (halves, halves[::-1])
    fits = [[half.fit(rows, hold, centred=centred) for half, _ in turns] for hold in HOLDS]
    errors = [sum(turn[1].excess(fit, centred=centred) for turn, fit in zip(turns, each, strict=True)) for each in fits]
    best = int(np.argmin(errors))
    tried = replace(form, per="channel") if form.per == "tensor" else form

    def rounded(half: Wanted, fit: Array, damping: float) -> Array:
        moments = half.damped(damping, centred=centred)
        grid = _grids(fit, moments, product, tried)[0]
        return grid.values(second_order.gptq(fit[0], moments[0], grid, damping=0.0))[None]

    errors = [
        sum(
            judge.excess(rounded(half, fit, damping), centred=centred)
            for (half, judge), fit in zip(turns, fits[best], strict=True)
        )
        for damping in DAMPINGS
    ]
    return HOLDS[best], DAMPINGS[int(np.argmin(errors))]


def _learned(target: Array, moments: Array, grids: list[Grid]) -> Array:
    """Codes of all groups, their rounding learned together."""
    scale, zero = (
        np.stack([np.broadcast_to(np.atleast_2d(side), target.shape[1:]) for side in sides])
        for sides in ([grid.scale for grid in grids], [grid.zero_point for grid in grids])
    )
    work = target.size * target.shape[2]
    iterations = int(np.clip(ITERATIONS_WORK / work, 200, adaround.ITERATIONS))
    return adaround.adaround_groups(target, moments, scale, zero, (grids[0].low, grids[0].high), iterations)


def _store(model: Model, product: Product, form: Form, codes: list[Array], grids: list[Grid]) -> None:
    """Replace the twin's weight by integers behind a DequantizeLinear."""
    stored = product.array_of(np.stack(codes).astype(np.int16)).astype(form.dtype)
    scale, zero = (np.stack(side) for side in ([grid.scale for grid in grids], [grid.zero_point for grid in grids]))
    axis: int | None = None
    if form.per == "tensor":
        scale, zero = scale.reshape(-1)[0], zero.reshape(-1)[0]
    elif form.per == "channel":
        axis, scale, zero = product.output_axis, scale[..., 0].reshape(-1), zero[..., 0].reshape(-1)
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


def _row(
    product: Product, before: Array, after: Array, aim: Wanted | None, form: Form, reason: str, *, centred: bool = False
) -> LayerChange:
    signal, error = (None, None) if aim is None else (aim.power, aim.output_error(after, centred=centred))
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
    wide = 8 // form.width  # weights in a byte
    return -(-weights // wide) + 4 * sets + -(-sets // wide)
