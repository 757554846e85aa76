"""Random steps of the operators of detectors and of the rare ones; ``op_cases`` lists them with all others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip.program import DType, Integer, Math, Op

if TYPE_CHECKING:
    from op_cases import Case

WHOLE = (DType.S32, DType.S64, DType.U8)


def strides_of(dims: tuple[int, ...]) -> list[int]:
    return [math.prod(dims[i + 1 :]) for i in range(len(dims))]


def integer(case: Case) -> Case:
    kind = case.pick(*Integer)
    compares = Integer.EQUAL <= kind <= Integer.GREATER_EQUAL
    floats = kind in (Integer.MOD, Integer.FMOD, Integer.POW) and case.rng.random() < 0.6
    dtype = DType.F32 if floats else DType.BOOL if kind is Integer.XOR and case.rng.random() < 0.4 else case.pick(*WHOLE)
    dims = tuple(int(case.pick(1, 2, 3, 7, 20)) for _ in range(case.pick(1, 2, 3)))
    operands, walks = [], []
    for _ in range(2):
        shape = tuple(d if case.rng.random() < 0.8 else 1 for d in dims)
        operands.append(case.arena(dtype, shape))
        walks.append(tuple(s if d > 1 else 0 for s, d in zip(strides_of(shape), shape, strict=True)))
    y = case.arena(DType.BOOL if compares else dtype, dims)
    return case.run(
        Op.INTEGER, tuple(operands), y, kind=kind, rank=len(dims), dims=dims, stride_a=walks[0], stride_b=walks[1],
        stride_y=tuple(strides_of(dims)),
    )  # fmt: skip


def functions(case: Case) -> Case:
    kind = case.pick(*Math)
    whole = kind in (Math.ABS, Math.NEG, Math.SIGN) and case.rng.random() < 0.5
    dtype = case.pick(*WHOLE) if whole or kind is Math.BIT_NOT else DType.F32
    dims = (case.pick(1, 3, 17), case.pick(1, 16, 65))
    y = case.arena(DType.BOOL if kind in (Math.IS_NAN, Math.IS_INF) else dtype, dims)
    return case.run(Op.MATH, (case.arena(dtype, dims),), y, kind=kind, alpha=1.25, beta=float(case.pick(0.5, 1.0)))


def folded(case: Case) -> tuple[int, int, int]:
    return case.pick(1, 2, 5), case.pick(1, 2, 3, 16, 40), case.pick(1, 2, 17, 63, 64, 65, 130)


def arg(case: Case) -> Case:
    outer, n, inner = folded(case)
    x = case.arena(case.pick(DType.F32, DType.S8, *WHOLE), (outer, n, inner))
    y = case.arena(DType.S64, (outer, inner))
    return case.run(Op.ARG, (x,), y, kind=case.pick(3, 4), outer=outer, n=n, inner=inner, last=case.pick(0, 1))


def fold(case: Case) -> Case:
    outer, n, inner = folded(case)
    dtype = case.pick(DType.F32, DType.BOOL, *WHOLE)
    kind = 2 if dtype is DType.F32 else case.pick(3, 4) if dtype is DType.BOOL else case.pick(1, 2, 3, 4)
    x, y = case.arena(dtype, (outer, n, inner)), case.arena(dtype, (outer, inner))
    return case.run(Op.FOLD, (x,), y, kind=kind, outer=outer, n=n, inner=inner)


def cumulate(case: Case) -> Case:
    outer, n, inner = folded(case)
    dtype = case.pick(DType.F32, DType.S32, DType.S64)
    x, y = case.arena(dtype, (outer, n, inner)), case.arena(dtype, (outer, n, inner))
    flags = {"exclusive": case.pick(0, 1), "reverse": case.pick(0, 1)}
    return case.run(Op.CUMULATE, (x,), y, kind=case.pick(1, 2), outer=outer, n=n, inner=inner, **flags)


def indexed(case: Case) -> tuple[tuple[int, ...], int, dict[str, Any]]:
    """Dims of the data, the index tensor, and the parameters."""
    wide = case.pick(DType.S32, DType.S64)
    if case.rng.random() < 0.5:
        data = tuple(int(case.pick(1, 2, 3, 5)) for _ in range(case.pick(1, 2, 3)))
        axis = int(case.rng.integers(len(data)))
        dims = tuple(int(case.pick(1, 4, 7)) if a == axis else int(case.rng.integers(1, d + 1)) for a, d in enumerate(data))
        values = case.rng.integers(-data[axis] - 1, data[axis] + 1, dims)
        rows = math.prod(dims)
        places = {"axis": axis, "rank": len(data), "depth": 0, "rows": rows, "inner": 1, "batch_rows": rows, "batch_stride": 0}
        return data, case.constant(wide, values), {**places, "dims": dims, "extents": data, "strides": tuple(strides_of(data))}
    batch, inner = case.pick(1, 1, 2), case.pick(1, 3, 16)
    data = (batch, *[int(case.pick(1, 2, 5)) for _ in range(case.pick(1, 2))], inner)
    depth, batch_rows = len(data) - 2, case.pick(1, 4, 9)
    rows = batch * batch_rows
    values = case.rng.integers(-3, 4, (rows, depth))
    places = {"axis": -1, "rank": 0, "depth": depth, "rows": rows, "inner": inner, "batch_rows": batch_rows}
    strides = strides_of(data)
    places |= {"batch_stride": strides[0] if batch > 1 else 0}
    walk = {"dims": (), "extents": data[1:-1], "strides": tuple(strides[1:-1])}
    return data, case.constant(wide, values), {**places, **walk}


def take(case: Case) -> Case:
    data, index, p = indexed(case)
    x = case.arena(case.pick(DType.F32, DType.S8, DType.BOOL, *WHOLE), data)
    return case.run(Op.TAKE, (x, index), case.arena(case.tensors[x].dtype, (p["rows"], p["inner"]), 0, case.tensors[x]), **p)


def scatter(case: Case) -> Case:
    data, index, p = indexed(case)
    reduction = case.pick(0, 0, 1, 2, 3, 4)
    x = case.arena(case.pick(DType.F32, *WHOLE) if reduction else case.pick(DType.F32, DType.S8, DType.BOOL, *WHOLE), data)
    like = case.tensors[x]
    updates = case.arena(like.dtype, (p["rows"], p["inner"]), 0, like)
    return case.run(Op.SCATTER, (x, index, updates), case.arena(like.dtype, data, 0, like), **{**p, "reduction": reduction})


def window(case: Case) -> Case:
    kind, planes = case.pick(1, 2, 3), case.pick(1, 3)
    p: dict[str, int] = {}
    sizes, grid = [], []
    for axis in "dhw":
        size, kernel, dilation = case.pick(1, 2, 5), case.pick(1, 2, 3), case.pick(1, 1, 2)
        reach = (kernel - 1) * dilation + 1
        pad, end, stride = int(case.rng.integers(0, reach)), int(case.rng.integers(0, reach)), case.pick(1, 2)
        out = max((size + pad + end - reach) // stride + 1, 1)
        while (out - 1) * stride - pad >= size:
            out -= 1
        p |= {f"in_{axis}": size, f"out_{axis}": out, f"kernel_{axis}": kernel, f"stride_{axis}": stride}
        p |= {f"dilation_{axis}": dilation, f"pad_{axis}": pad, f"pad_end_{axis}": end}
        sizes.append(size)
        grid.append(out)
    dtype = case.pick(DType.F32, DType.U8) if kind == 1 else DType.F32
    outputs = [case.arena(dtype, (planes, *grid))]
    if kind == 1 and case.rng.random() < 0.5:
        outputs.append(case.arena(DType.S64, (planes, *grid)))
    flags = {"include": case.pick(0, 1), "column_major": case.pick(0, 1), "power": case.pick(1, 2, 3)}
    return case.run(Op.WINDOW, (case.arena(dtype, (planes, *sizes)),), *outputs, kind=kind, planes=planes, **flags, **p)


def interpolate(case: Case) -> Case:
    outer, n, inner = folded(case)
    m, taps = case.pick(1, 3, 9), case.pick(1, 2, 4, 7)
    x, y = case.arena(DType.F32, (outer, n, inner)), case.arena(DType.F32, (outer, m, inner))
    tables = [
        case.constant(DType.S32, case.rng.integers(-1, n + 1, (m, taps))),
        case.constant(DType.F32, np.where(case.rng.random((m, taps)) < 0.3, 0, case.rng.standard_normal((m, taps)))),
        case.constant(DType.F32, case.rng.standard_normal(m)),
    ]
    return case.run(Op.INTERPOLATE, (x, *tables), y, outer=outer, n=n, inner=inner, m=m, taps=taps)


def grid_sample(case: Case) -> Case:
    axes, batch, channels, points = case.pick(2, 3), case.pick(1, 2), case.pick(1, 3), case.pick(1, 5, 20)
    sizes = (case.pick(1, 4) if axes == 3 else 1, case.pick(1, 2, 5), case.pick(1, 3, 6))
    x, grid = case.arena(DType.F32, (batch, channels, *sizes)), case.arena(DType.F32, (batch, points, axes))
    y = case.arena(DType.F32, (batch, channels, points))
    rules = {"mode": case.pick(1, 2, 3), "border": case.pick(1, 2, 3), "align": case.pick(0, 1)}
    shape = dict(zip(("in_d", "in_h", "in_w"), sizes, strict=True))
    return case.run(Op.GRID_SAMPLE, (x, grid), y, batch=batch, channels=channels, axes=axes, points=points, **rules, **shape)


def nms(case: Case) -> Case:
    batch, boxes, classes, most = case.pick(1, 2), case.pick(1, 5, 30), case.pick(1, 3), case.pick(1, 4, 100)
    bound = batch * classes * min(most, boxes)
    x, scores = case.arena(DType.F32, (batch, boxes, 4)), case.arena(DType.F32, (batch, classes, boxes))
    outputs = case.arena(DType.S64, (bound, 3)), case.arena(DType.S64, (1,))
    rules = {"center": case.pick(0, 1), "iou": float(case.pick(0.0, 0.3, 0.7)), "score": float(case.pick(-math.inf, 0.0, 0.2))}
    return case.run(Op.NMS, (x, scores), *outputs, batch=batch, boxes=boxes, classes=classes, most=most, bound=bound, **rules)


def top_k(case: Case) -> Case:
    outer, n, inner = folded(case)
    k = int(case.rng.integers(1, n + 1))
    x = case.arena(case.pick(DType.F32, *WHOLE), (outer, n, inner))
    outputs = case.arena(case.tensors[x].dtype, (outer, k, inner)), case.arena(DType.S64, (outer, k, inner))
    return case.run(Op.TOPK, (x,), *outputs, outer=outer, n=n, inner=inner, k=k, largest=case.pick(0, 1))


def roi_align(case: Case) -> Case:
    batch, channels, height, width, rois = case.pick(1, 2), case.pick(1, 3), case.pick(1, 7), case.pick(1, 9), case.pick(1, 3)
    out = {"out_h": case.pick(1, 3), "out_w": case.pick(1, 2)}
    x, boxes = case.arena(DType.F32, (batch, channels, height, width)), case.arena(DType.F32, (rois, 4))
    chosen = case.arena(DType.S64, (rois,))
    y = case.arena(DType.F32, (rois, channels, out["out_h"], out["out_w"]))
    sampling = case.pick(0, 2)
    scale = float(case.pick(1.0, 0.25)) if sampling else 0.03  # one sample a pixel: regions of a few pixels
    rules = {"sampling": sampling, "is_max": case.pick(0, 1), "scale": scale, "offset": float(case.pick(0, 0.5))}
    sizes = {"batch": batch, "channels": channels, "height": height, "width": width, "rois": rois}
    return case.run(Op.ROI_ALIGN, (x, boxes, chosen), y, **sizes, **out, **rules)


def places(case: Case) -> Case:
    """One list of places, or indices of up to four axes."""
    rank = case.pick(0, 0, 1, 2, 3, 4)
    dims = tuple(int(case.pick(1, 2, 3, 7)) for _ in range(rank))
    n = math.prod(dims) if rank else case.pick(1, 2, 16, 100)
    found = case.arena(DType.S64, (rank, n) if rank else (n,))
    return case.run(Op.PLACES, (case.arena(DType.BOOL, (n,)),), found, case.arena(DType.S64, (1,)), n=n, rank=rank, dims=dims)


def unique(case: Case) -> Case:
    """Few different values, so that slices repeat; inner and outer small for the same reason."""
    outer, n, inner = case.pick(1, 2), case.pick(1, 2, 3, 16, 100), case.pick(1, 2)
    x = case.arena(case.pick(DType.F32, DType.BOOL, *WHOLE), (outer, n, inner))
    outputs = [case.arena(DType.S64, (size,)) for size in (n, n, n, 1)]
    return case.run(Op.UNIQUE, (x,), *outputs, outer=outer, n=n, inner=inner, sorted=case.pick(0, 1))


GENERATORS: dict[Op, Callable[[Case], Case]] = {
    Op.INTEGER: integer, Op.MATH: functions, Op.ARG: arg, Op.FOLD: fold, Op.CUMULATE: cumulate, Op.TAKE: take,
    Op.SCATTER: scatter, Op.WINDOW: window, Op.INTERPOLATE: interpolate, Op.GRID_SAMPLE: grid_sample, Op.NMS: nms,
    Op.TOPK: top_k, Op.ROI_ALIGN: roi_align, Op.PLACES: places, Op.UNIQUE: unique,
}  # fmt: skip
