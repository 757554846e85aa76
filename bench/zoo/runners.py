"""Runners of the zoo: from a model file to a callable that maps a feed to the list of outputs."""

from __future__ import annotations

from pathlib import Path

from bench.zoo.task import Array, Feed, Run


def onnxruntime(path: Path, feed: Feed, threads: int = 1) -> Run:
    """ONNX Runtime on the processor; int8 as the file says it, so that answers do not depend on this machine's instructions."""
    from edgezip.measure.onnx_reference import OnnxSession

    session = OnnxSession(path, threads, exact=True)
    return lambda feed: list(session.run(feed).values())


def edgezip(path: Path, feed: Feed, threads: int = 1) -> Run:
    """EdgeZip's C runtime in this process; an ONNX file is compiled first, its dynamic axes fixed to those of ``feed``."""
    from edgezip import compilation, program
    from edgezip.runtime.session import Session

    if path.suffix == ".ez":
        made = program.read(path)
    else:
        made = compilation.compile(str(path), "host", shapes={name: array.shape for name, array in feed.items()}, vectors=0)
    session = Session(made, threads=threads)
    names = [made.tensors[index].name for index in made.outputs]

    def run(feed: Feed) -> list[Array]:
        results = session.run(feed)
        return [results[name] for name in names]

    return run


RUNNERS = {"ort": onnxruntime, "edgezip": edgezip}
