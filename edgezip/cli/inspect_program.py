"""``edgezip inspect PROGRAM.ez``: header, sections, memory, steps with their kernels, inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgezip.program import Program, Tensor

STEP_COLUMNS = ("step", "op", "form", "kernel here", "output", "MACs", "weights", "fused")


def describe(path: Path) -> dict[str, Any]:
    """The facts of a program file as plain data, bytes by section. Raises ProgramError when the verifier refuses it."""
    from edgezip.program import read, section_bytes

    program = read(path)
    metadata = program.metadata
    return {
        "target": metadata.get("target"),
        "made_by": metadata.get("edgezip"),
        "source": {"name": metadata.get("model"), "sha256": metadata.get("source_sha256")},
        "layout": program.layout.name.lower(),
        "act_sign": program.act_sign,
        "file_bytes": path.stat().st_size,
        "coded": program.coded,
        "sections": section_bytes(program.plain_bytes()),
        "memory": {
            **metadata.get("memory", {}),
            "arena_bytes": program.arena_bytes,
            "scratch_bytes_per_thread": program.scratch_bytes,
        },
        "vectors": len(program.vectors),
        "inputs": [_tensor(program.tensors[index]) for index in program.inputs],
        "outputs": [_tensor(program.tensors[index]) for index in program.outputs],
        "dims": metadata.get("dims", {}),
        "states": [_tensor(program.tensors[state.input]) for state in program.states],
        "steps": _steps(program),
        "notes": metadata.get("notes", []),
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": tensor.name, "dtype": tensor.dtype.numpy.name, "shape": list(tensor.dims)}
    return facts | ({"scale": tensor.scale, "zero_point": tensor.zero_point} if tensor.scale else {})


def _steps(program: Program) -> list[dict[str, Any]]:
    kernels = _kernels_here(program)
    said = program.metadata.get("steps", [])
    rows = []
    for number, step in enumerate(program.steps):
        form = said[number] if len(said) == len(program.steps) else {}
        made = program.tensors[step.outputs[0]]
        rows.append(
            {
                "name": step.name, "op": step.op.name.lower(), "node": form.get("node"), "form": form.get("form"),
                "blocks": form.get("blocks"),
                "kernel_here": kernels[number], "output_shape": list(made.dims), "output_dtype": made.dtype.numpy.name,
                "macs": form.get("macs", 0), "weight_bytes": form.get("weight_bytes", 0), "fused": form.get("fused", []),
            }
        )  # fmt: skip
    return rows


def _kernels_here(program: Program) -> list[str]:
    """Which ISA path runs each step on this machine: one run tells."""
    from edgezip.compilation import noise
    from edgezip.runtime.session import Session

    with Session(program, threads=1, profile=True) as session:
        session.run(noise(program, 0))
        return [kernel for _, _, kernel, _ in session.profile()]


def show(path: Path, facts: dict[str, Any]) -> None:
    """The table of steps, then what stands in the header."""
    from edgezip.cli.screen import printable
    from edgezip.report import text

    rows = [
        (
            printable(step["name"]), step["op"], _form(step), step["kernel_here"],
            f"{step['output_dtype']} {_dims(step['output_shape'])}", step["macs"], step["weight_bytes"],
            printable(", ".join(map(str, step["fused"]))) or None,
        )
        for step in facts["steps"]
    ]  # fmt: skip
    print(text.table(STEP_COLUMNS, rows))
    memory = facts["memory"]
    sections = ", ".join(f"{name} {size:,}" for name, size in facts["sections"].items())
    source = facts["source"]
    lines = [
        f"{printable(str(path))}: program for {printable(str(facts['target']))}, packing {facts['layout']}, "
        f"{len(rows)} steps, {facts['vectors']} test vectors",
        f"made by edgezip {printable(str(facts['made_by']))} from {printable(str(source['name']))}, "
        f"SHA-256 {printable(str(source['sha256']))}",
        f"file {facts['file_bytes']:,} bytes{', entropy-coded' if facts['coded'] else ''}: {sections}",
        f"memory: arena {memory['arena_bytes']:,} bytes (lower bound {memory.get('arena_lower_bound') or 0:,}), "
        f"scratch {memory['scratch_bytes_per_thread']:,} a thread",
    ]
    for kind in ("inputs", "outputs", *(["states"] if facts["states"] else [])):
        lines.append(f"{kind}: " + ", ".join(f"{printable(t['name'])} {t['dtype']} {_dims(t['shape'])}" for t in facts[kind]))
    if facts["dims"]:
        dims = ", ".join(f"{printable(str(name))}={printable(str(bounds))}" for name, bounds in facts["dims"].items())
        lines.append(f"dynamic dimensions: {dims}; shown at the largest sizes")
    lines += [f"note: {printable(note)}" for note in facts["notes"]]
    print("\n" + "\n".join(lines))


def _form(step: dict[str, Any]) -> str | None:
    """``int8``, or ``int8, 25 % of blocks``: the kernel's name says whether the others are skipped here."""
    blocks = step["blocks"]
    return f"{step['form']}, {100 * blocks['kept']:.0f} % of blocks" if blocks else step["form"]


def _dims(dims: list[int]) -> str:
    return "x".join(map(str, dims)) or "scalar"
