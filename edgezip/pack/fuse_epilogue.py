"""What follows a float32 product, in its own step: clip, function, factor and shift, residual add, clip of the sum.

The order of ez_conv_params: a step that has the later one no longer takes the earlier one. No bit changes for finite numbers (a
product or a sum of the runtime holds its result inside a range and thereby turns NaN into its lower end, a function does not).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgezip.pack.absorb import describe, kill, producers_of, redirect, with_input
from edgezip.pack.builder import Builder, elements
from edgezip.pack.fuse_float import UNCLIPPED
from edgezip.pack.uses import writers
from edgezip.program import Binary, DType, Op, Place, Step, Unary

RESIDUAL = 4


def _is_product(builder: Builder, step: Step) -> bool:
    return step.op in (Op.CONV, Op.DEPTHWISE) and builder.tensors[step.outputs[0]].dtype is DType.F32


def _has_sum(step: Step) -> bool:
    return len(step.inputs) > RESIDUAL and step.inputs[RESIDUAL] >= 0


def _is_open(step: Step) -> bool:
    """A product or a sum whose last clamp holds nothing back yet."""
    names = ("sum_lo", "sum_hi") if step.op is not Op.BINARY and _has_sum(step) else ("float_lo", "float_hi")
    return bool(step.params[names[0]] == -math.inf and step.params[names[1]] == math.inf)


def _is_bare(step: Step) -> bool:
    """Nothing stands behind the first clamp."""
    return not step.params.get("act") and not step.params.get("affine") and not _has_sum(step)


def _take(builder: Builder, index: int, made_by: list[int], params: dict[str, float]) -> bool:
    """Lets the products compute step ``index`` too."""
    for i in made_by:
        describe(builder, i, index)
        builder.steps[i].params |= params
        redirect(builder, builder.steps[i], builder.steps[index].outputs[0])
    if made_by:
        kill(builder, index)
    return bool(made_by)


def _clip(builder: Builder, index: int, step: Step) -> bool:
    """A clip behind a product, behind its residual add, or behind a sum of two tensors."""
    if step.op is not Op.UNARY or step.params["kind"] != Unary.CLIP:
        return False

    def fits(s: Step) -> bool:
        arithmetic = s.op is Op.BINARY and builder.tensors[s.outputs[0]].dtype is DType.F32
        return (arithmetic or (_is_product(builder, s) and (_is_bare(s) or _has_sum(s)))) and _is_open(s)

    made_by = producers_of(builder, index, step.inputs[0], fits)
    low, high = step.params["alpha"], step.params["beta"]
    has_sum = any(builder.steps[i].op is not Op.BINARY and _has_sum(builder.steps[i]) for i in made_by)
    names = ("sum_lo", "sum_hi") if has_sum else ("float_lo", "float_hi")
    return _take(builder, index, made_by, {names[0]: low, names[1]: high})


def _function(builder: Builder, index: int, step: Step) -> bool:
    """Any function of one float tensor."""
    if step.op is not Op.UNARY or step.params["kind"] in (Unary.CLIP, Unary.NOT):
        return False
    made_by = producers_of(builder, index, step.inputs[0], lambda s: _is_product(builder, s) and _is_bare(s))
    p = step.params
    return _take(builder, index, made_by, {"act": p["kind"], "act_alpha": p["alpha"], "act_beta": p["beta"]})


def _scalar(builder: Builder, tensor: int) -> float | None:
    raw = builder.constant_bytes.get(tensor)
    return float(np.frombuffer(raw, np.float32)[0]) if raw is not None and len(raw) == 4 else None


def _scaled(builder: Builder, index: int, step: Step) -> bool:
    """A factor, or behind it (or alone) a summand, that is one number for all."""
    p = step.params
    if step.op is not Op.BINARY or p["kind"] not in (Binary.MUL, Binary.ADD):
        return False
    if builder.tensors[step.outputs[0]].dtype is not DType.F32 or any(p[name] != value for name, value in UNCLIPPED.items()):
        return False
    is_factor = p["kind"] == Binary.MUL
    for own, other in ((0, 1), (1, 0)):
        number = _scalar(builder, step.inputs[other])
        if number is None or not math.isfinite(number) or p[("stride_a", "stride_b")[own]] != p["stride_y"]:
            continue

        def fits(s: Step) -> bool:
            no_shift = not s.params.get("affine") or (not is_factor and s.params["shift"] == 0)
            return _is_product(builder, s) and not _has_sum(s) and no_shift

        made_by = producers_of(builder, index, step.inputs[own], fits)
        if not made_by:
            continue
        factor = {builder.steps[i].params.get("factor", 1.0) if builder.steps[i].params.get("affine") else 1.0 for i in made_by}
        if len(factor) == 1:
            numbers = {"factor": number, "shift": -0.0} if is_factor else {"factor": factor.pop(), "shift": number}
            return _take(builder, index, made_by, {"affine": 1, **numbers})
    return False


def _residual(builder: Builder, index: int, step: Step) -> bool:
    """The sum with a tensor that was ready before the product."""
    p = step.params
    if step.op is not Op.BINARY or p["kind"] != Binary.ADD or builder.tensors[step.outputs[0]].dtype is not DType.F32:
        return False
    if not (p["stride_a"] == p["stride_b"] == p["stride_y"] == (1,)):
        return False
    candidates = []
    for own, other in ((0, 1), (1, 0)):
        made_by = producers_of(builder, index, step.inputs[own], lambda s: _is_product(builder, s) and not _has_sum(s))
        ready = max(writers(builder, step.inputs[other]), default=-1)
        if len(made_by) == 1 and ready < made_by[0] and _fits(builder, step, own, other):
            candidates.append((made_by[0], other))
    if not candidates:
        return False
    place, other = max(candidates)
    product = builder.steps[place]
    with_input(product, RESIDUAL, builder.view(step.inputs[other], builder.tensors[product.outputs[0]].dims))
    return _take(builder, index, [place], {"sum_lo": p["float_lo"], "sum_hi": p["float_hi"]})


def _fits(builder: Builder, step: Step, own: int, other: int) -> bool:
    a, b = builder.tensors[step.inputs[own]], builder.tensors[step.inputs[other]]
    contiguous = b.row_stride == (b.dims[-1] if b.dims else 1)
    # a view of a constant would not know where the constant lies in the end
    return contiguous and elements(a.dims) == elements(b.dims) and b.place not in (Place.OUTPUT, Place.WEIGHTS)


RULES: tuple[Callable[[Builder, int, Step], bool], ...] = (_clip, _function, _scaled, _residual)
