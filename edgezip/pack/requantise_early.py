"""A tensor that is enlarged and then brought to another scale is brought there first: fewer elements, the same bytes.

What is left behind is a plain copy, which may go straight into its part of a concat (``fuse._copy_in_place``).
"""

from __future__ import annotations

import math

from edgezip.pack.builder import Builder, elements
from edgezip.pack.uses import is_whole, readers, writers
from edgezip.program import Convert, Op, Step


def run(builder: Builder) -> None:
    """Swap each enlarging copy with the requantising copy behind it."""
    for index, step in enumerate(builder.steps):
        maker = _enlargement(builder, index, step)
        if maker is not None:
            _swap(builder, maker, index)


def _enlargement(builder: Builder, index: int, step: Step) -> int | None:
    """The plain copy, from fewer elements, that makes for this step alone what the step requantises as a whole."""
    source = step.inputs[0] if step.inputs else -1
    if step.op is not Op.COPY or step.params["convert"] != Convert.REQUANTIZE or step.params["x_offset"] or source < 0:
        return None
    if builder.buffer_of[source] < 0 or readers(builder, source) != [index] or not is_whole(builder, source):
        return None
    made_by = writers(builder, source)
    if len(made_by) != 1 or made_by[0] > index:
        return None
    maker = builder.steps[made_by[0]]
    p = maker.params
    if maker.op is not Op.COPY or p["convert"] != Convert.NONE or p.get("fill") or p["x_offset"] or p["y_offset"]:
        return None
    x = builder.tensors[maker.inputs[0]]
    back_to_back = x.row_stride == (x.dims[-1] if x.dims else 1)
    whole = math.prod(step.params["dims"]) == math.prod(p["dims"]) == elements(builder.tensors[source].dims)
    return made_by[0] if whole and back_to_back and elements(x.dims) < elements(builder.tensors[source].dims) else None


def _swap(builder: Builder, maker: int, index: int) -> None:
    """Requantise the small tensor where it was enlarged, then enlarge what came of it; the second copy stays plain."""
    enlarge, requantise = builder.steps[maker], builder.steps[index]
    small, big, y = (builder.tensors[t] for t in (enlarge.inputs[0], enlarge.outputs[0], requantise.outputs[0]))
    brought = builder.arena(f"{small.name}.rescaled", small.dtype, small.dims, y.scale, y.zero_point)
    count = elements(small.dims)
    walk = {"rank": 1, "dims": (count,), "x_stride": (1,), "y_stride": (1,), "x_offset": 0, "y_offset": 0}
    made = builder.arena(big.name, big.dtype, big.dims, y.scale, y.zero_point)
    first = Step(requantise.name, Op.COPY, (enlarge.inputs[0],), (brought,), {**requantise.params, **walk})
    second = Step(enlarge.name, Op.COPY, (brought,), (made,), enlarge.params)
    builder.steps[maker : maker + 1] = [first, second]
    builder.forms.insert(maker, builder.forms[index])
    last = builder.steps[index + 1]
    last.inputs, last.params = (made,), {**last.params, "convert": Convert.NONE, "lo": -128, "hi": 127}
