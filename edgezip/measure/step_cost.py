"""Multiplications and bytes of each step of a program, for the per-layer table."""

from __future__ import annotations

import math

from edgezip.program import Op, Program, Step


def macs(program: Program, step: Step) -> int:
    """Multiply-accumulates of convolutions and matrix products; 0 for the rest."""
    p = step.params
    if step.op is Op.MATMUL:
        return int(p["outer"] * p["inner"] * p["M"] * p["N"] * p["K"])
    if step.op is Op.RECURRENT:
        return math.prod(program.tensors[step.inputs[0]].dims) * int(p["hidden"])
    if step.op is Op.ATTENTION:
        return int(p["outer"] * p["inner"] * p["M"] * p["N"] * (p["K"] + p["D"]))
    if step.op in (Op.LINEAR, Op.CODES):
        return math.prod(program.tensors[step.inputs[0]].dims) * program.tensors[step.outputs[0]].dims[-1]
    if step.op not in (Op.CONV, Op.DEPTHWISE):
        return 0
    x, y = program.tensors[step.inputs[0]], program.tensors[step.outputs[0]]
    taps = p["kernel_h"] * p["kernel_w"]
    depth = 1 if step.op is Op.DEPTHWISE else x.dims[-1] // max(1, p["groups"])
    return int(y.dims[0] * p["out_h"] * p["out_w"] * y.dims[-1] * taps * depth)


def bytes_moved(program: Program, step: Step) -> int:
    """Bytes of all its inputs, constants and outputs, each counted once."""
    tensors = {index for index in (*step.inputs, *step.outputs) if index >= 0}
    return sum(math.prod(program.tensors[i].dims) * program.tensors[i].dtype.numpy.itemsize for i in tensors)


def planned_memory_bytes(program: Program, file_bytes: int) -> int:
    """What a run holds at once: the program, its arena and scratch, the caller's inputs and outputs, and both sides of states."""
    edges = sum(program.tensors[i].bytes for i in (*program.graph_inputs, *program.graph_outputs))
    return file_bytes + program.arena_bytes + program.scratch_bytes + edges
