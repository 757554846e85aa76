"""What the cost model says of a program's steps, to stand beside what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgezip.cost import LayerCost
    from edgezip.program import Program, Step
    from edgezip.target import Target


def step_times(program: Program, target: Target, threads: int = 1) -> list[float]:
    """Predicted microseconds of each step on ``threads`` threads of ``target``."""
    from edgezip import cost

    return [round(cost.predict_us(_cost_of(program, step), target, threads), 3) for step in program.steps]


def _is_square(step: Step) -> bool:
    p = step.params
    shape = [p[key] for key in ("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "groups")]
    return shape == [3, 3, 1, 1, 1, 1, 1]


def _cost_of(program: Program, step: Step) -> LayerCost:
    from edgezip.cost import FIRST_CHANNELS, LayerCost
    from edgezip.measure import step_cost
    from edgezip.program import DType, Op, Place

    used = {index for index in (*step.inputs, *step.outputs) if index >= 0}
    size = {i: math.prod(program.tensors[i].dims) * program.tensors[i].dtype.numpy.itemsize for i in used}
    weights = sum(size[i] for i in used if program.tensors[i].place is Place.WEIGHTS)
    data = program.tensors[step.inputs[0]]
    return LayerCost(
        name=step.name,
        op=step.op.name,
        form="int8" if data.dtype is DType.S8 or step.op in (Op.LINEAR, Op.CODES) else data.dtype.numpy.name,
        output_shape=program.tensors[step.outputs[0]].dims,
        macs=step_cost.macs(program, step),
        params=0,
        weight_bytes=weights,
        activation_bytes=sum(size.values()) - weights,
        is_depthwise=step.op is Op.DEPTHWISE,
        is_square=step.op is Op.CONV and _is_square(step),
        is_first=step.op is Op.CONV and data.dims[-1] <= FIRST_CHANNELS,
    )
