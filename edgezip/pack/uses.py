"""Who writes and reads a buffer, through whatever view of it."""

from __future__ import annotations

from edgezip.pack.builder import Builder, elements
from edgezip.program import Convert, Op, Step


def writers(builder: Builder, tensor: int) -> list[int]:
    """Steps that write into the tensor's buffer."""
    buffer = builder.buffer_of[tensor]
    return [i for i, s in enumerate(builder.steps) if buffer >= 0 and any(builder.buffer_of[t] == buffer for t in s.outputs)]


def readers(builder: Builder, tensor: int) -> list[int]:
    """Steps that read the tensor's buffer."""
    buffer = builder.buffer_of[tensor]
    return [
        i for i, s in enumerate(builder.steps) if buffer >= 0 and any(t >= 0 and builder.buffer_of[t] == buffer for t in s.inputs)
    ]


def is_whole(builder: Builder, tensor: int) -> bool:
    """Whether the tensor covers its buffer."""
    held = builder.tensors[tensor]
    return held.offset == 0 and held.bytes == builder.buffer_bytes[builder.buffer_of[tensor]]


def is_contiguous(builder: Builder, tensor: int) -> bool:
    """Whether the tensor covers its buffer, row behind row."""
    held = builder.tensors[tensor]
    return builder.buffer_of[tensor] >= 0 and is_whole(builder, tensor) and held.row_stride == (held.dims[-1] if held.dims else 1)


def quantizes_all(builder: Builder, step: Step, tensor: int) -> bool:
    """Whether the step is a copy that quantises all of the tensor, element on element, into one that nobody else writes."""
    p = step.params
    if step.op is not Op.COPY or p["convert"] != Convert.QUANTIZE or p.get("fill"):
        return False
    y = step.outputs[0]
    whole = p["dims"] == (elements(builder.tensors[tensor].dims),) == (elements(builder.tensors[y].dims),)
    plain = (
        p["x_stride"] == p["y_stride"] == (1,) and not p["x_offset"] and not p["y_offset"] and (p["lo"], p["hi"]) == (-128, 127)
    )
    return whole and plain and is_contiguous(builder, y) and len(writers(builder, y)) == 1
