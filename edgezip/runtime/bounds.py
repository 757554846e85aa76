"""What Python must know of a program before it computes addresses from it; the C runtime has its own, stricter verifier."""

from __future__ import annotations

from edgezip.errors import ProgramError
from edgezip.program import Op, Place, Program, Step, Tensor

HINT = "compile the model again, or copy the file again"


def check_tensors(program: Program) -> None:
    """Raises ProgramError for a step or tensor that names something outside of the program's memory."""
    sizes = {Place.ARENA: program.arena_bytes, Place.WEIGHTS: len(program.weights)}
    counts = {Place.INPUT: len(program.graph_inputs), Place.OUTPUT: len(program.graph_outputs)}
    for index, tensor in enumerate(program.tensors):
        rows_fit = len(tensor.dims) < 2 or tensor.row_stride >= tensor.dims[-1]
        least = 0 if tensor.place is Place.OUTPUT else 1  # a result without elements is touched by no step
        if min(tensor.dims, default=1) < least or tensor.offset < 0 or not rows_fit:
            raise ProgramError("contradictory dims", where=f"tensor {index} ({tensor.name})", got=str(tensor.dims), hint=HINT)
        if tensor.place in sizes and tensor.offset + tensor.bytes > sizes[tensor.place]:
            raise ProgramError("tensor lies outside of its memory", where=f"tensor {index} ({tensor.name})", hint=HINT)
        if tensor.place in counts and tensor.offset >= counts[tensor.place]:
            raise ProgramError("no such graph input or output", where=f"tensor {index} ({tensor.name})", hint=HINT)
    _check_states(program)
    for number, step in enumerate(program.steps):
        if any(not -1 <= i < len(program.tensors) for i in (*step.inputs, *step.outputs)):
            raise ProgramError("no such tensor", where=f"step {number} ({step.name})", hint=HINT)
        if any(not program.tensors[i].bytes for i in (*step.inputs, *step.outputs) if i >= 0):
            raise ProgramError("an operand has no elements", where=f"step {number} ({step.name})", hint=HINT)


def _check_states(program: Program) -> None:
    for number, state in enumerate(program.states):
        known = all(0 <= i < len(program.tensors) for i in (state.input, state.output)) and state.initial < len(program.tensors)
        kinds = [program.tensors[i] for i in (state.input, state.output, state.initial) if i >= 0] if known else []
        if not known or len({(t.dtype, t.dims, t.scale, t.zero_point) for t in kinds}) != 1:
            raise ProgramError("contradictory state", where=f"state {number}", hint=HINT)


def check_convolution(program: Program, step: Step) -> None:
    """Raises ProgramError when a CONV or DEPTHWISE step would read or write outside of its operands."""
    p = step.params
    x, y = (program.tensors[i] for i in (step.inputs[0], step.outputs[0]))
    residual = program.tensors[step.inputs[4]] if len(step.inputs) > 4 and step.inputs[4] >= 0 else None
    table = program.tensors[step.inputs[5]] if len(step.inputs) > 5 and step.inputs[5] >= 0 else None
    groups = int(p["groups"]) if step.op is Op.CONV else 1
    facts = {
        "rank": len(x.dims) == len(y.dims) == 4,
        "sizes": min(p[f"{name}_{axis}"] for name in ("kernel", "stride", "dilation", "out", "out_step") for axis in "hw") > 0,
        "groups": groups > 0 and all(len(t.dims) == 4 and t.dims[3] % groups == 0 for t in (x, y)),
        "output grid": len(y.dims) == 4 and all(_grid_fits(step, y, axis) for axis in (0, 1)),
        "residual": residual is None or _covers(residual, y, (p["out_h"], p["out_w"])),
        "table": table is None or table.bytes == 256,
    }
    for fact, holds in facts.items():
        if not holds:
            raise ProgramError(f"contradictory {fact}", where=f"step {step.name}", hint=HINT)


def _grid_fits(step: Step, y: Tensor, axis: int) -> bool:
    offset, size, distance = (int(step.params[f"{name}_{'hw'[axis]}"]) for name in ("out_offset", "out", "out_step"))
    return offset >= 0 and offset + (size - 1) * distance < y.dims[1 + axis]


def _covers(residual: Tensor, y: Tensor, grid: tuple[int, int]) -> bool:
    return (
        len(residual.dims) == 4
        and residual.dtype is y.dtype
        and residual.dims[0] == y.dims[0]
        and residual.dims[3] == y.dims[3]
        and all(have >= want for have, want in zip(residual.dims[1:3], grid, strict=True))
    )
