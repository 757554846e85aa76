"""The constant row that exporters add behind a MatMul becomes the bias of its step.

No bit changes: both add the row to the finished sum, the last operation before the clamp.
"""

from __future__ import annotations

import numpy as np

from edgezip.pack import layouts
from edgezip.pack.absorb import describe, kill, producers_of, redirect
from edgezip.pack.builder import Builder
from edgezip.program import Binary, DType, Op, Step

BIAS = {Op.CONV: 2, Op.LINEAR: 4, Op.CODES: 3}  # input that is added last
UNCLIPPED = (-float("inf"), float("inf"))


def run(builder: Builder) -> None:
    """Fold all that can be; the additions are left without a reader."""
    for index, step in enumerate(builder.steps):
        if step.op is Op.BINARY and step.params["kind"] == Binary.ADD and builder.tensors[step.outputs[0]].dtype is DType.F32:
            _fold(builder, index, step)


def _fold(builder: Builder, index: int, step: Step) -> None:
    for own in (0, 1):
        row = _row(builder, step, own)
        made_by = producers_of(builder, index, step.inputs[own], lambda s: _takes_bias(builder, s)) if row is not None else []
        if row is None or len(made_by) != 1:
            continue
        product = builder.steps[made_by[0]]
        columns = builder.tensors[product.outputs[0]].dims[-1]
        if columns != row.size:
            continue
        bias = builder.constant(f"{step.name}.bias", layouts.pad_outputs(row + np.float32(0)), DType.F32)
        place = BIAS[product.op]
        product.inputs = (*product.inputs[:place], bias, *product.inputs[place + 1 :])
        describe(builder, made_by[0], index)
        redirect(builder, product, step.outputs[0])
        kill(builder, index)
        return


def _row(builder: Builder, step: Step, own: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None:
    """The constant operand, when it repeats along all but the innermost axis of a result that the other one covers."""
    p = step.params
    raw = builder.constant_bytes.get(step.inputs[1 - own])
    data, constant = (p["stride_a"], p["stride_b"]) if own == 0 else (p["stride_b"], p["stride_a"])
    if raw is None or data != p["stride_y"] or (p["float_lo"], p["float_hi"]) != UNCLIPPED:
        return None
    row = np.frombuffer(raw, np.float32)
    last = p["dims"][-1] == row.size and constant[-1] == p["stride_y"][-1] == 1
    return row if last and not any(constant[:-1]) else None


def _takes_bias(builder: Builder, step: Step) -> bool:
    """A float result to whose sums nothing has been added or done yet."""
    if step.op not in BIAS or builder.tensors[step.outputs[0]].dtype is not DType.F32:
        return False
    if step.op is Op.CONV:
        p = step.params
        bare = not p.get("act") and not p.get("affine") and len(step.inputs) <= BIAS[Op.CONV] + 1 and p["groups"] == 1
        if not bare or (p["float_lo"], p["float_hi"]) != UNCLIPPED:
            return False
    return not np.frombuffer(builder.constant_bytes[step.inputs[BIAS[step.op]]], np.float32).any()
