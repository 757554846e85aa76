"""Who writes and reads a buffer, through whatever view of it."""

from __future__ import annotations

from edgezip.pack.builder import Builder


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
