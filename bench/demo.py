"""The main job on a real pretrained model and real pictures, as ``make demo`` runs it: compress, compile, run here, cross-compile
for a Raspberry Pi 4, check the answers there (under emulation), one table.

    python -m bench.demo [--work .work/demo]

Model and pictures are in the package (edgezip/data/demo): nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

import edgezip
from edgezip.cli import context
from edgezip.cli.deploy import stage_line
from edgezip.errors import EdgeZipError

DEMO = Path(edgezip.__file__).parent / "data" / "demo"
Array = np.ndarray[Any, Any]


def pictures(held: Any, key: str) -> list[dict[str, Array]]:
    """uint8 pictures of the samples file as feeds."""
    return [{"image": (picture.astype(np.float32) / 255)[None, None]} for picture in held[key]]


def accuracy(run: Any, feeds: list[dict[str, Array]], labels: Array) -> float:
    """Percent of pictures whose largest logit is their label's."""
    hits = [int(run(feed)["logits"].argmax()) == label for feed, label in zip(feeds, labels.tolist(), strict=True)]
    return float(100 * sum(hits) / len(hits))


def demo(work: Path) -> dict[str, str]:
    """Do the main job; the rows of the final table."""
    from time import monotonic

    from edgezip import compilation, graph
    from edgezip.measure.bit_exact import check_paths

    work.mkdir(parents=True, exist_ok=True)
    held = np.load(DEMO / "samples.npz")
    feeds, labels = pictures(held, "images"), held["labels"]
    start = monotonic()
    model = edgezip.load(DEMO / "fashion_cnn.onnx")
    small = edgezip.compress(model, edgezip.Recipe.int8(), calibration=pictures(held, "calibration"))
    small.save(work / "fashion_cnn.int8.onnx")
    stage_line("compress", monotonic() - start, f"weights {small.report.bytes_before:,} -> {small.report.bytes_after:,} bytes")
    start = monotonic()
    program = compilation.compile(small.model, "host", samples=feeds[:2])
    program.save(work / "fashion_cnn.ez")
    stage_line("compile", monotonic() - start, f"{len(program.steps)} steps, {(work / 'fashion_cnn.ez').stat().st_size:,} bytes")
    start = monotonic()
    session = edgezip.Session(program)
    ours = accuracy(session.run, feeds, labels)
    results = graph.run_many(model, iter(feeds), ["logits"])
    exact = accuracy(lambda feed: next(results), feeds, labels)
    stage_line("run", monotonic() - start, f"{len(feeds)} pictures, {ours:.2f} % right (float {exact:.2f} %)")
    start = monotonic()
    checks = check_paths(program, feeds[:2])
    if not all(check.is_exact for check in checks):
        raise EdgeZipError("an ISA path differs from the reference", where=", ".join(c.isa for c in checks if not c.is_exact))
    stage_line(
        "verify", monotonic() - start, f"{', '.join(c.isa for c in checks)}: every byte of every layer equals the NumPy reference"
    )
    rows = {
        "accuracy, float -> int8": f"{exact:.2f} % -> {ours:.2f} % of {len(feeds)} pictures",
        "weights": f"{small.report.bytes_before:,} -> {small.report.bytes_after:,} bytes",
        "program, arena": f"{(work / 'fashion_cnn.ez').stat().st_size:,} bytes, {program.arena_bytes:,} bytes",
        "paths equal to the bit": ", ".join(c.isa for c in checks),
        **latency(program, feeds[0]),
    }
    return {**rows, **raspberry_pi(small.model, feeds[:2], work)}


def latency(program: Any, feed: dict[str, Array]) -> dict[str, str]:
    """Median latency here, one thread, interleaved with ONNX Runtime on the float model."""
    from edgezip.measure.onnx_reference import OnnxSession
    from edgezip.measure.protocol import Protocol, measure_interleaved

    session, theirs = edgezip.Session(program), OnnxSession(DEMO / "fashion_cnn.onnx")
    protocol = Protocol(runs=200)
    found = measure_interleaved({"edgezip": lambda: session.run(feed), "onnxruntime": lambda: theirs.run(feed)}, protocol)
    mine, other = found["edgezip"].percentile(50), found["onnxruntime"].percentile(50)
    ratio = f"ONNX Runtime float {other:.0f} us, {other / mine:.1f} times ours"
    return {"latency here, one thread": f"p50 {mine:.0f} us int8 ({session.isa}); {ratio}"}


def raspberry_pi(model: Any, samples: list[dict[str, Array]], work: Path) -> dict[str, str]:
    """Cross-compile for a Raspberry Pi 4 and prove the answers under an emulated Cortex-A72, when there is an emulator."""
    from edgezip import compilation
    from edgezip.deploy.deploy import deploy
    from edgezip.deploy.transports.qemu import QemuTransport
    from edgezip.target import load_target

    target = load_target("rpi4")
    if target.emulator is None or shutil.which(target.emulator.qemu) is None:
        return {"Raspberry Pi 4": "not checked: no emulator (apt install qemu-user)"}
    program = compilation.compile(model, target, samples=samples)
    root = (work / "emulated").resolve()
    root.mkdir(exist_ok=True)
    cache = context.current.cache_dir
    done = deploy(
        program, "fashion_cnn", target, QemuTransport(target, root), dest=".edgezip", cache_dir=cache, on_stage=stage_line
    )
    answers = f"{done.verify.passed} of {done.verify.vectors} pictures equal to the bit under an emulated Cortex-A72"
    return {"Raspberry Pi 4": f"static runner of {done.runner_bytes:,} bytes; {answers} ({done.verify.isa})"}


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".work/demo"))
    arguments = parser.parse_args()
    try:
        rows = demo(arguments.work)
    except EdgeZipError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    from rich.console import Console
    from rich.table import Table

    table = Table(title="EdgeZip demo: a Fashion-MNIST classifier", show_header=False)
    for row in rows.items():
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print("next: edgezip deploy MODEL.onnx --target rpi4 --calib FOLDER --host pi@raspberrypi.local", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
