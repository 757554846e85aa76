"""What stands around a normalisation joins its step: the float addition before it, the quantisation behind it.

No bit changes: the step adds, normalises and quantises with the very operations of the parts, row by row.
"""

from __future__ import annotations

from edgezip.pack.builder import Builder, elements
from edgezip.pack.uses import is_contiguous, quantizes_all, readers, writers
from edgezip.program import Binary, DType, Op, Step

IN_F32, IN_S8, SUM = 1, 2, 4  # ez_norm_params.results
MORE = 3


def run(builder: Builder) -> None:
    """Join all that can be; the steps that nobody reads any more are left to ``drop_unread``."""
    for index, step in enumerate(builder.steps):
        if step.op is Op.NORM:
            _join_addition(builder, index, step)
            _join_quantize(builder, index, step)


def _join_addition(builder: Builder, index: int, step: Step) -> None:
    """x + y by an elementwise step; where somebody else reads the sum too, the normalisation writes it."""
    total = step.inputs[0]
    made_by = writers(builder, total)
    if len(step.inputs) > MORE or len(made_by) != 1 or not is_contiguous(builder, total):
        return
    addition = builder.steps[made_by[0]]
    p = addition.params
    plain = addition.op is Op.BINARY and p["kind"] == Binary.ADD and p["stride_a"] == p["stride_b"] == p["stride_y"] == (1,)
    if not plain or (p["float_lo"], p["float_hi"]) != (-float("inf"), float("inf")):
        return
    size = elements(builder.tensors[total].dims)
    operands = [builder.tensors[t] for t in addition.inputs]
    if any(t.dtype is not DType.F32 or elements(t.dims) != size or t.row_stride != t.dims[-1] for t in operands):
        return
    others = [i for i in readers(builder, total) if i != index]
    unchanged = all(max(writers(builder, t), default=-1) < made_by[0] for t in addition.inputs)
    if not unchanged or any(i < index for i in others):
        return
    dims = builder.tensors[step.outputs[0]].dims
    a, b = (builder.view(t, dims) for t in addition.inputs)
    outputs = step.outputs
    if others:
        outputs = (*step.outputs, builder.view(total, dims))
        addition.outputs = (builder.arena("", DType.F32, dims),)  # read by nobody
        step.params["results"] |= SUM
    builder.steps[index] = Step(step.name, step.op, (a, step.inputs[1], step.inputs[2], b), outputs, step.params)
    form, absorbed = builder.forms[index], builder.forms[made_by[0]]
    form["fused"] = [*form.get("fused", ()), *absorbed.get("fused", ()), *([absorbed["node"]] if "node" in absorbed else ())]


def _join_quantize(builder: Builder, index: int, step: Step) -> None:
    """The one quantising copy of the whole result; without another reader the floats are never written."""
    step = builder.steps[index]
    result = step.outputs[0]
    if not is_contiguous(builder, result):
        return
    used_by = readers(builder, result)
    copies = [i for i in used_by if quantizes_all(builder, builder.steps[i], result)]
    if len(copies) != 1:
        return
    copy = builder.steps[copies[0]]
    dims = builder.tensors[result].dims
    bytes_made = builder.view(copy.outputs[0], dims)
    copy.outputs = (builder.arena("", DType.S8, dims, builder.tensors[bytes_made].scale, builder.tensors[bytes_made].zero_point),)
    copy.inputs = (-1,)
    alone = used_by == copies
    step.outputs = (bytes_made, *step.outputs[1:]) if alone else (result, bytes_made, *step.outputs[1:])
    step.params["results"] = step.params["results"] & SUM | IN_S8 | (0 if alone else IN_F32)
