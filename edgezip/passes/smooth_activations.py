"""Moves the strong channels of activations into the weights that read them, or the other way round, before quantisation.

``smooth``: int8 activations; s_j = max|x_j|^a / max|w_j|^(1-a) (Xiao et al., "SmoothQuant", 2023, equation 4). ``awq``: weights
of few bits; s_j = rms(x_j)^a, so that weights which meet strong inputs are rounded more finely (Lin et al., "AWQ", 2024, equation
4). The exponent of each link is the one of least output error, as the form to come would leave it; 0 (nothing moves) is among
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import UsageError
from edgezip.kernels import second_order
from edgezip.passes.channel_links import apply_scale, find_links, largest_input, reach_read
from edgezip.passes.layer_change import LayerChange
from edgezip.passes.weight_grid import Form, grid_of

if TYPE_CHECKING:
    from edgezip.graph import Model
    from edgezip.passes.channel_links import Link
    from edgezip.passes.gather_hessians import Inputs
    from edgezip.passes.products import Product

Array = np.ndarray[Any, Any]
METHODS = ("smooth", "awq")
EXPONENTS = np.linspace(0.0, 1.0, 21)
LIMITS = (1e-2, 1e2)
TRIED_OUTPUTS = 64  # of a layer, on which the exponent for weights of few bits is chosen
STEPS = 127  # of a symmetric int8 range on each side


def smooth_activations(
    model: Model,
    layers: Iterable[tuple[Product, Inputs]],
    *,
    method: str = "smooth",
    form: Form | None = None,
    through_relu6: bool = True,
) -> tuple[Model, list[LayerChange]]:
    """``model`` with channels scaled, and a row for each place it was done; the original is not touched.

    ``form``: of the weights to come, for ``awq`` (default int4 in blocks of 32). ``through_relu6``: for ``awq``, ReLU6 on the way
    becomes ReLU and a cap for each channel (before int8 activations that is one more rounding, so not for ``smooth``). What
    ``layers`` gives is let go when the links that read it are done: beside a wave of ``gather_hessians``, the moments of one
    link's readers are held. Raises UsageError.
    """
    if method not in METHODS:
        raise UsageError("no such method", where="smooth_activations: method", expected=", ".join(METHODS), got=method)
    smooth = graph.clone(model)
    waiting = find_links(smooth, through_caps=through_relu6 and method == "awq")
    seen: dict[str, Inputs] = {}
    rows = []
    for product, inputs in layers:
        seen[product.name] = inputs
        ready = [link for link in waiting if all(reader.name in seen for reader in link.consumers)]
        for link in ready:
            scale, exponent = _best(link, seen, method, form or Form())
            if exponent:
                apply_scale(smooth, link, scale)
            rows.append(_row(link, scale, exponent))
        waiting = [link for link in waiting if not any(link is done for done in ready)]
        needed = {reader.name for link in waiting for reader in link.consumers}
        seen = {name: held for name, held in seen.items() if name in needed}
    return smooth, rows


def _best(link: Link, seen: dict[str, Inputs], method: str, form: Form) -> tuple[Array, float]:
    """The scale (channels,) that activations are divided by, and its exponent."""
    if method == "awq" and all(_has_rows_of_its_own(product, form) for product in link.consumers):
        return np.ones(link.channels), 0.0
    strength = _strength(link, seen, method)
    read = reach_read(link)
    alive = (strength > 0) & (read > 0)
    error_of: Callable[[Array], float] = (
        (lambda scale: _int8_error(link, seen, scale))
        if method == "smooth"
        else (lambda scale: _weight_error(link, seen, scale, form))
    )
    best, least, chosen = np.ones(link.channels), np.inf, 0.0
    for exponent in EXPONENTS:
        base = np.where(alive, strength, 1.0) ** exponent
        if method == "smooth" and exponent:
            base = base / np.where(alive, read, 1.0) ** (1 - exponent)
        scale = np.where(alive, base / np.sqrt(base[alive].max() * base[alive].min()) if alive.any() else 1.0, 1.0)
        scale = np.clip(scale, *LIMITS)
        error = error_of(scale)
        if error < least * (1 - 1e-9):
            best, least, chosen = scale, error, float(exponent)
    return best, chosen


def _strength(link: Link, seen: dict[str, Inputs], method: str) -> Array:
    """(channels,): max |x| or root mean square of each channel, over all readers (they read the same values)."""
    per = []
    for product in link.consumers:
        inputs = seen[product.name]
        columns = inputs.largest if method == "smooth" else np.sqrt(np.einsum("gkk->gk", inputs.hessian))
        per.append(largest_input(product, columns))
    return np.asarray(np.max(per, axis=0))


def _columns(product: Product, scale: Array) -> Array:
    """A factor for each channel as one for each column: (groups, 1, columns)."""
    by_group = scale.reshape(product.groups, 1, 1, -1)
    return np.broadcast_to(by_group, (product.groups, 1, product.window, by_group.shape[-1])).reshape(product.groups, 1, -1)


def _int8_error(link: Link, seen: dict[str, Inputs], scale: Array) -> float:
    """Expected output error of rounding x / s to int8 for the tensor and w s to int8 for each output, both uniform."""
    total = 0.0
    for product in link.consumers:
        inputs, factor = seen[product.name], _columns(product, scale)
        weights = product.weights() * factor
        step = float((inputs.largest / factor[:, 0]).max()) / STEPS
        fine = np.abs(weights).max(axis=-1, keepdims=True) / STEPS
        energy = np.einsum("gkk->gk", inputs.hessian) / factor[:, 0] ** 2
        total += step**2 / 12 * float((weights**2).sum()) + float(
            (fine[..., 0] ** 2 / 12 * energy.sum(axis=-1, keepdims=True)).sum()
        )
    return total


def _weight_error(link: Link, seen: dict[str, Inputs], scale: Array, form: Form) -> float:
    """Output error of rounding w s to the nearest of its grid, on some outputs of each reader."""
    total = 0.0
    for product in link.consumers:
        inputs, factor = seen[product.name], _columns(product, scale)
        tried = np.unique(np.linspace(0, product.outputs - 1, TRIED_OUTPUTS).astype(int))
        for g, rows in enumerate(product.weights()[:, tried] * factor):
            moved = inputs.hessian[g] / np.outer(factor[g, 0], factor[g, 0])
            grid = grid_of(rows, np.diag(moved), product, form, moved[None])
            total += second_order.output_error(grid.rounded(rows) - rows, moved)
    return total


def _has_rows_of_its_own(product: Product, form: Form) -> bool:
    """Depthwise: a channel's weights share their scales with no other channel's, so a factor changes nothing."""
    return product.columns == product.window and form.per != "tensor"


def _row(link: Link, scale: Array, exponent: float) -> LayerChange:
    form = f"channels divided by {scale.min():.3g} to {scale.max():.3g}, exponent {exponent:.2f}"
    node = link.producer.node if link.producer is not None else link.norm
    assert node is not None
    held = graph.constant(node.inputs[1])
    size = 0 if held is None else held.nbytes
    reason = "" if exponent else "no exponent lowers the error"
    return LayerChange(link.name, node.op_type, form if exponent else "float32", 32, 0.0, size, size, reason=reason)
