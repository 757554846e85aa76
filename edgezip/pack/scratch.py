"""Per-thread scratch of each step: what the drivers of the runtime use (its verifier refuses a program that gives too little)."""

from __future__ import annotations

from edgezip.kernels.reference import spans
from edgezip.pack.layouts import k_step
from edgezip.program import ALIGN, OVERREAD, DType, Layout, Op, Pool, Recurrent, Step, Tensor

BLOCK_PIXELS = 192  # EZ_ROW_BLOCK
CONV_BUDGET, CONV_LEAST, ROW_LIMIT, SLOT_ALIGN, NARROW = 128 * 1024, 4, 1024, 16, 64  # core/conv_spans.c
DEPTHWISE_PIXELS, DEPTHWISE_LINES = 256, 16  # core/depthwise_driver.c
POOL_TAPS = 64  # TAPS of ops/pool.c
RECURRENT_ROWS = 16  # MOST_ROWS of ops/recurrent.c
LINEAR_ROWS, LINEAR_BYTES = (12, 96), 256 * 1024  # ops/linear.c
CODES_ROWS, CODES_PANELS, CODES_UNPACKED = 4, 8, 32 * 1024  # ops/codes.c
MATMUL_COLUMNS, ATTENTION_ROWS = 64, 48  # ops/matmul.c, ops/attention.c
POINTER = 8


def scratch_bytes(steps: list[Step], tensors: list[Tensor], layout: Layout) -> int:
    """The most that any of ``steps`` needs, a multiple of 64."""
    return max((sum(_up(part, ALIGN) for part in _parts(step, tensors, layout)) for step in steps), default=0)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _parts(step: Step, tensors: list[Tensor], layout: Layout) -> list[int]:
    x, y = tensors[step.inputs[0]], tensors[step.outputs[0]]
    if step.op is Op.CONV:
        return _conv(step, x, y, layout)
    if step.op is Op.DEPTHWISE:
        return _depthwise(step, x, y)
    if step.op is Op.MATMUL:
        p = step.params
        return panels(p["K"], min(p["N"], MATMUL_COLUMNS), x.dtype, layout)
    if step.op is Op.ATTENTION:
        return _attention(step, x, tensors[step.inputs[2]], layout)
    if step.op is Op.LINEAR:
        return _linear(x)
    if step.op is Op.CODES:
        return _codes(step, x)
    if step.op is Op.NORM:
        return [4 * (x.dims[-1] if x.dims else 1)] * 3
    if step.op is Op.RECURRENT:
        rows = min(x.dims[1], RECURRENT_ROWS)
        hidden = step.params["hidden"]
        floats = (rows * (Recurrent(step.params["kind"]).gates + 1) + 1) * hidden * 4
        return [floats, rows * (_up(hidden, ALIGN) + OVERREAD)] if tensors[step.inputs[1]].dtype is DType.U8 else [floats]
    if step.op is Op.POOL and _goes_down_first(step):
        return [x.dims[2] * x.dims[3] * x.dtype.numpy.itemsize + OVERREAD]
    if step.op is Op.TOPK:
        return [step.params["k"] * 4]
    if step.op is Op.UNIQUE:
        return [step.params["n"] * 4]
    if step.op is Op.NMS:
        return [step.params["boxes"]]
    return []


def _goes_down_first(step: Step) -> bool:
    """Whether maxima are taken down into a line and then across (csrc/ops/pool.c)."""
    p = step.params
    height, width = p["kernel_h"], p["kernel_w"]
    apart = (height + 1) * p["stride_w"] + width
    return bool(p["kind"] == Pool.MAX and 1 < height <= POOL_TAPS and 1 < width < POOL_TAPS and height * width > apart)


def panels(k: int, n: int, dtype: DType, layout: Layout) -> list[int]:
    """A matrix of activations packed at run time (core/panels.c)."""
    columns, depth = _up(n, 16), _up(k, k_step(layout))
    if dtype is DType.F32:
        return [4 * columns * k]
    return [3 * depth * columns] * 2 + [4 * columns] * 4 + [depth + OVERREAD]


def _attention(step: Step, q: Tensor, v: Tensor, layout: Layout) -> list[int]:
    """Panels of K and V, a block of scores, their bytes, and arrays of constants (ops/attention.c)."""
    p = step.params
    n, d = p["N"], p["D"]
    bytes_of_scores = [] if v.dtype is DType.F32 else [ATTENTION_ROWS * (_up(n, 64) + 64)]
    constants = 3 * _up(4 * max(n, d), 64) + _up(4 * ATTENTION_ROWS, 64)
    both = [*panels(p["K"], n, q.dtype, layout), *panels(n, d, v.dtype, layout)]
    return [*both, ATTENTION_ROWS * (_up(4 * n, 64) + 64), *bytes_of_scores, constants]


def _linear(x: Tensor) -> list[int]:
    """Pointers, scales and, where they are made at run time, the bytes of a block of rows."""
    pitch = _up(x.dims[-1], 64) + 64
    rows = min(max(LINEAR_BYTES // pitch, LINEAR_ROWS[0]), LINEAR_ROWS[1])
    return [LINEAR_ROWS[1] * (POINTER + 4) + (rows * pitch if x.dtype is DType.F32 else 0)]


def _codes(step: Step, x: Tensor) -> list[int]:
    """Pointers, scales and sums of rows, their bytes, unpacked weights, and their products twice (ops/codes.c)."""
    block, blocks = step.params["block"], -(-x.dims[-1] // step.params["block"])
    pitch = blocks * block + 64
    rows = min(max(LINEAR_BYTES // pitch, CODES_ROWS), LINEAR_ROWS[1])
    panels = min(max(CODES_UNPACKED // (16 * block), 1), CODES_PANELS)
    heads = LINEAR_ROWS[1] * (POINTER + 4) + rows * blocks * 4
    return [heads, rows * pitch, panels * 16 * block + OVERREAD, 2 * rows * 16 * panels * 4]


def _has(step: Step, position: int) -> bool:
    """Whether an optional input is there: 4 is the residual, 5 the table."""
    return len(step.inputs) > position and step.inputs[position] >= 0


def _conv(step: Step, x: Tensor, y: Tensor, layout: Layout) -> list[int]:
    """Pointers to the spans of a block of pixels, a span of padding, copied spans; with post-ops the sums and a spare."""
    p, element, groups = step.params, x.dtype.numpy.itemsize, step.params["groups"]
    channels, back_to_back = x.dims[3] // groups, x.row_stride == x.dims[3]
    count, elements, slot = p["kernel_h"] * p["kernel_w"], channels, 0
    if groups == 1 and p["dilation_w"] == 1 and p["kernel_w"] > 1:
        rows = spans((p["kernel_h"], p["kernel_w"]), 1, 1, channels)
        padded = x.dtype is DType.S8 and channels % k_step(layout) != 0
        if padded or (back_to_back and rows[1] * element <= ROW_LIMIT):
            count, elements = rows
            slot = _up(elements * element, SLOT_ALIGN)
    pixels = min(max(CONV_BUDGET // (count * (POINTER + slot)), CONV_LEAST), BLOCK_PIXELS)
    parts = [count * pixels * POINTER, elements * element + OVERREAD]
    parts += [count * pixels * slot + OVERREAD] if slot else []
    has_tile = x.dtype is DType.S8 and (_has(step, 4) or _has(step, 5))  # float results are finished where they lie
    return [*parts, pixels * (y.dims[3] // groups), pixels * NARROW] if has_tile else parts


def _depthwise(step: Step, x: Tensor, y: Tensor) -> list[int]:
    """Pointers and steps of the rows of some lines, one pixel of padding, and with a residual the sums of a piece of a row."""
    p = step.params
    parts = [DEPTHWISE_LINES * p["kernel_h"] * 2 * POINTER, x.dims[3] * x.dtype.numpy.itemsize + OVERREAD]
    return [*parts, min(p["out_w"], DEPTHWISE_PIXELS) * y.dims[3]] if x.dtype is DType.S8 and _has(step, 4) else parts
