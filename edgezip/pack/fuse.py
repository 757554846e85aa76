"""Fusions on the finished list of steps. None of them changes a bit: a fused step computes what its parts computed.

A reader or writer is anybody who touches the buffer, through whatever view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgezip.pack import compose, fuse_attention, fuse_bias, fuse_epilogue, fuse_float, fuse_norm, requantise_early
from edgezip.pack.absorb import describe, kill, producers_of, redirect, with_input
from edgezip.pack.builder import Builder, elements
from edgezip.pack.uses import is_whole, readers, writers
from edgezip.program import Binary, Convert, DType, Op, Place, Step

PRODUCTS = (Op.CONV, Op.DEPTHWISE)
STRIDED = (*PRODUCTS, Op.POOL)  # operators that walk rows of a wider tensor
RESIDUAL, TABLE = 4, 5


def run(builder: Builder) -> None:
    """Tables of tables, then what follows a product into its step, then parts of tensors used in place."""
    drop_unread(builder)
    compose.run(builder)
    fuse_float.run(builder)
    drop_unread(builder)
    fuse_bias.run(builder)
    drop_unread(builder)
    fuse_attention.run(builder)
    fuse_norm.run(builder)
    drop_unread(builder)
    for index in range(len(builder.steps)):
        step = builder.steps[index]
        for rule in (*fuse_epilogue.RULES, _table, _residual):
            if rule(builder, index, step):
                break
    drop_unread(builder)
    requantise_early.run(builder)
    for index in range(len(builder.steps)):
        _copy_in_place(builder, index, builder.steps[index])
        _slice_in_place(builder, index, builder.steps[index])
    drop_unread(builder)


def drop_unread(builder: Builder) -> None:
    """Remove steps whose results nobody reads."""
    wanted: set[int] = set()
    kept = []
    for index in reversed(range(len(builder.steps))):
        step = builder.steps[index]
        alive = [t for t in step.outputs if builder.buffer_of[t] in wanted or builder.tensors[t].place is Place.OUTPUT]
        if alive and step.op is not None:
            kept.append(index)
            wanted |= {builder.buffer_of[t] for t in step.inputs if t >= 0 and builder.buffer_of[t] >= 0}
    kept.reverse()
    builder.steps = [builder.steps[i] for i in kept]
    builder.forms = [builder.forms[i] for i in kept]


def _plain_product(builder: Builder, made_by: list[int]) -> Step | None:
    """The one int8 product behind a post-op, if it still has room for one."""
    if len(made_by) != 1:
        return None
    step = builder.steps[made_by[0]]
    return step if len(step.inputs) <= RESIDUAL or step.inputs[RESIDUAL] < 0 else None


def _is_int8_product(builder: Builder) -> Callable[[Step], bool]:
    return lambda s: s.op in PRODUCTS and builder.tensors[s.outputs[0]].dtype is DType.S8


def _table(builder: Builder, index: int, step: Step) -> bool:
    """int8 convolution, then a table."""
    if step.op is not Op.TABLE:
        return False
    made_by = producers_of(builder, index, step.inputs[0], _is_int8_product(builder))
    product = _plain_product(builder, made_by)
    if product is None or (len(product.inputs) > TABLE and product.inputs[TABLE] >= 0):
        return False
    describe(builder, made_by[0], index)
    with_input(product, TABLE, step.inputs[1])
    product.params["zero_point_mid_out"] = builder.tensors[step.outputs[0]].zero_point
    redirect(builder, product, step.outputs[0])
    kill(builder, index)
    return True


def _residual(builder: Builder, index: int, step: Step) -> bool:
    """int8 convolution, then the addition of something that was ready before it."""
    if step.op is not Op.BINARY or step.params["kind"] != Binary.ADD or builder.tensors[step.outputs[0]].dtype is not DType.S8:
        return False
    p = step.params
    if not (p["stride_a"] == p["stride_b"] == p["stride_y"] == (1,)):
        return False
    candidates = []
    for own, other, scales in ((0, 1, ("scale_a", "scale_b")), (1, 0, ("scale_b", "scale_a"))):
        made_by = producers_of(builder, index, step.inputs[own], _is_int8_product(builder))
        ready = max(writers(builder, step.inputs[other]), default=-1)
        if _plain_product(builder, made_by) is not None and ready < made_by[0] and _fits_residual(builder, step, own, other):
            candidates.append((made_by[0], other, scales))
    if not candidates:
        return False
    place, other, scales = max(candidates)
    product = builder.steps[place]
    describe(builder, place, index)
    dims = builder.tensors[product.outputs[0]].dims
    with_input(product, RESIDUAL, builder.view(step.inputs[other], dims))
    product.params |= {"scale_a": p[scales[0]], "scale_b": p[scales[1]], "add_lo": p["lo"], "add_hi": p["hi"]}
    redirect(builder, product, step.outputs[0])
    kill(builder, index)
    return True


def _fits_residual(builder: Builder, step: Step, own: int, other: int) -> bool:
    a, b = builder.tensors[step.inputs[own]], builder.tensors[step.inputs[other]]
    contiguous = b.row_stride == (b.dims[-1] if b.dims else 1)
    return contiguous and elements(a.dims) == elements(b.dims) and b.place in (Place.ARENA, Place.WEIGHTS)


def _copy_in_place(builder: Builder, index: int, step: Step) -> None:
    """A plain copy of a whole result into a part of a concat, or into a graph output: its producer writes there at once."""
    p = step.params
    if step.op is not Op.COPY or p["convert"] != Convert.NONE or p.get("fill") or p["x_offset"]:
        return
    y = builder.tensors[step.outputs[0]]
    rows = len(p["dims"]) == 2 and p["x_stride"] == (p["dims"][1], 1) and p["y_stride"][1] == 1
    run_of_one = p["x_stride"] == (1,) and p["y_stride"] == (1,)
    if not rows and not run_of_one:
        return
    source = builder.tensors[step.inputs[0]]
    if step.inputs[0] < 0 or builder.buffer_of[step.inputs[0]] < 0 or elements(source.dims) != elements(p["dims"]):
        return

    def fits(s: Step) -> bool:
        made = builder.tensors[s.outputs[_position(builder, s, step.inputs[0])]]
        columns = made.dims[-1] if made.dims else 1
        walks_rows = s.op in STRIDED or (s.op is Op.COPY and _fills_rows(s, columns))
        strided = run_of_one or (walks_rows and columns == p["dims"][1])
        output = y.place is not Place.OUTPUT or (
            y.dtype is not DType.S8 and run_of_one and elements(y.dims) == elements(made.dims)
        )
        return strided and output and made.row_stride == columns

    made_by = producers_of(builder, index, step.inputs[0], fits)
    for i in made_by:
        place = _position(builder, builder.steps[i], step.inputs[0])
        made = builder.tensors[builder.steps[i].outputs[place]]
        stride = p["y_stride"][0] if rows else made.row_stride
        like = replace(made, offset=0) if y.place is not Place.OUTPUT else replace(made, name=y.name)
        outputs = list(builder.steps[i].outputs)
        outputs[place] = builder.window(step.outputs[0], made.dims, p["y_offset"], stride, like)
        builder.steps[i].outputs = tuple(outputs)
        if builder.steps[i].op is Op.COPY:
            q, columns = builder.steps[i].params, made.dims[-1] if made.dims else 1
            q["y_stride"] = tuple(s if s < columns else s // columns * stride for s in q["y_stride"])
    if made_by:
        kill(builder, index)


def _position(builder: Builder, step: Step, tensor: int) -> int:
    """Which output of ``step`` writes the tensor's buffer."""
    return next(i for i, t in enumerate(step.outputs) if builder.buffer_of[t] == builder.buffer_of[tensor])


def _fills_rows(copy: Step, columns: int) -> bool:
    """Whether a copy writes row after row of ``columns`` elements, so that rows may be moved apart."""
    p = copy.params
    whole = not p.get("fill") and not p["y_offset"]
    inside = [(d, s) for d, s in zip(p["dims"], p["y_stride"], strict=True) if s < columns]
    within_a_row = sum((d - 1) * s for d, s in inside) < columns
    return whole and within_a_row and all(s < columns or s % columns == 0 for s in p["y_stride"])


def _slice_in_place(builder: Builder, index: int, step: Step) -> None:
    """A slice of the innermost axis that only windows read: they walk the rows of the whole tensor."""
    p = step.params
    if step.op is not Op.COPY or p["convert"] != Convert.NONE or p.get("fill") or p["y_offset"] or len(p["dims"]) != 2:
        return
    source, made = step.inputs[0], step.outputs[0]
    channels = p["dims"][1]
    rows = p["x_stride"][1] == 1 and p["y_stride"] == (channels, 1) and p["x_stride"][0] >= channels + p["x_offset"]
    if not rows or min(builder.buffer_of[source], builder.buffer_of[made]) < 0 or not is_whole(builder, made):
        return
    if writers(builder, made) != [index]:  # a border beside it, made by another copy
        return
    used_by = readers(builder, made)
    windows = [builder.steps[i] for i in used_by]
    if not all(s.op in STRIDED and _reads_once(builder, s, made) and _channels(builder, s) == channels for s in windows):
        return
    for s in windows:
        like = builder.tensors[s.inputs[0]]
        seen = builder.window(source, like.dims, p["x_offset"], p["x_stride"][0], like)
        s.inputs = (seen, *s.inputs[1:])
    if windows:
        kill(builder, index)


def _reads_once(builder: Builder, step: Step, tensor: int) -> bool:
    """As its first input, and nowhere else."""
    buffer = builder.buffer_of[tensor]
    return [i for i, t in enumerate(step.inputs) if t >= 0 and builder.buffer_of[t] == buffer] == [0]


def _channels(builder: Builder, step: Step) -> int:
    return builder.tensors[step.inputs[0]].dims[-1]
