"""Float32 functions that exporters write in pieces become one step, with the very arithmetic of the pieces.

Equal for every finite number; an infinite or undefined one may give another of its kind (a sum or product of the runtime holds
its result inside a range, a function does not).
"""

from __future__ import annotations

from edgezip.pack.builder import Builder
from edgezip.pack.uses import is_whole, readers, writers
from edgezip.program import Binary, DType, Op, Step, Unary

UNCLIPPED = {"float_lo": -float("inf"), "float_hi": float("inf")}


def run(builder: Builder) -> None:
    """``x * sigmoid(x)`` becomes SiLU; the step of the sigmoid is left without a reader."""
    for index, step in enumerate(builder.steps):
        if _is_plain_product(builder, step):
            for own, other in ((0, 1), (1, 0)):
                if _is_sigmoid_of(builder, index, step.inputs[other], step.inputs[own]):
                    _replace(builder, index, own, other)
                    break


def _is_plain_product(builder: Builder, step: Step) -> bool:
    p = step.params
    if step.op is not Op.BINARY or p["kind"] != Binary.MUL or builder.tensors[step.outputs[0]].dtype is not DType.F32:
        return False
    elementwise = p["stride_a"] == p["stride_b"] == p["stride_y"] == (1,)
    return elementwise and all(p[name] == value for name, value in UNCLIPPED.items())


def _is_sigmoid_of(builder: Builder, index: int, candidate: int, x: int) -> bool:
    """Whether ``candidate`` is the sigmoid of ``x``, made for step ``index`` alone."""
    made_by = writers(builder, candidate)
    if (
        builder.buffer_of[candidate] < 0
        or len(made_by) != 1
        or readers(builder, candidate) != [index]
        or not is_whole(builder, candidate)
    ):
        return False
    maker = builder.steps[made_by[0]]
    if maker.op is not Op.UNARY or maker.params["kind"] != Unary.SIGMOID:
        return False
    source = maker.inputs[0]
    if builder.buffer_of[x] < 0:
        return source == x
    unchanged = max(writers(builder, x), default=-1) < made_by[0]
    return builder.buffer_of[source] == builder.buffer_of[x] and is_whole(builder, x) and is_whole(builder, source) and unchanged


def _replace(builder: Builder, index: int, own: int, other: int) -> None:
    step, form = builder.steps[index], builder.forms[index]
    sigmoid = builder.forms[writers(builder, step.inputs[other])[0]]
    y = builder.tensors[step.outputs[0]]
    builder.forms[index] = {
        **form,
        "op": "SiLU",
        "fused": [*form.get("fused", ()), *([sigmoid["node"]] if "node" in sigmoid else ())],
    }
    params = {"kind": Unary.SILU, "alpha": 0.0, "beta": 0.0}
    builder.steps[index] = Step(step.name, Op.UNARY, (builder.view(step.inputs[own], y.dims),), step.outputs, params)
