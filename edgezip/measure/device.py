"""A program on a device, real or emulated, through ``ez_run`` there: runs, bit checks and benches.

Emulated runs prove answers; their times mean nothing and are never reported.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgezip.errors import DeviceError
from edgezip.measure import protocol
from edgezip.measure.bit_exact import PathCheck
from edgezip.program import Program, Tensor
from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]
MODEL = "model.ez"
RUNNER = "ez_run"
NO_TIMES = "emulated: answers were checked against the bundled vectors; a time would mean nothing, so none is given"


class Reply(Protocol):
    """What a finished command left."""

    returncode: int
    stdout: str
    stderr: str


class Transport(Protocol):
    """The way to a device; remote paths are relative to a folder of its own there."""

    name: str

    def put(self, local: Path, remote: str) -> None:
        """Copies a file to the device."""
        ...

    def get(self, remote: str, local: Path) -> None:
        """Copies a file from the device."""
        ...

    def run(self, command: Sequence[str]) -> Reply:
        """Runs a command in that folder and waits for it."""
        ...

    def close(self) -> None:
        """Removes the folder and ends the connection."""
        ...


class Device:
    """``program`` on the other side of ``transport``; a context manager that leaves nothing there."""

    is_here = False

    def __init__(self, transport: Transport, runner: Path, program: Program, *, is_emulated: bool, threads: int = 1) -> None:
        self.name = transport.name
        self.is_emulated = is_emulated
        self._transport, self._program, self._threads = transport, program, threads
        self._scratch = tempfile.TemporaryDirectory(prefix="edgezip-")
        self._file_bytes = self._put_program(program.to_bytes())
        transport.put(runner, RUNNER)
        self.isa = str(self._ask("info", MODEL)["isa"])

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()
        self._transport.close()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference."""
        names = []
        for position, tensor in enumerate(self._edges(self._program.inputs)):
            names.append(f"in{position}.bin")
            local = Path(self._scratch.name) / names[-1]
            local.write_bytes(np.ascontiguousarray(feeds[tensor.name], tensor.dtype.numpy).tobytes())
            self._transport.put(local, names[-1])
        self._ask("run", MODEL, *names, "--output", ".")
        return {tensor.name: self._fetch(position, tensor) for position, tensor in enumerate(self._edges(self._program.outputs))}

    def check_bits(self, program: Program, samples: Sequence[Mapping[str, Array]]) -> list[PathCheck]:
        """The bundled vectors there, and the outputs of ``samples`` against the NumPy reference here."""
        check = PathCheck(f"{self.name}, {self.isa}", steps=len(program.steps))
        if program.vectors:
            check.samples, check.first_difference = self._check_vectors()
        for number, feeds in enumerate(samples):
            if not check.is_exact:
                break
            got = self.run(feeds)
            for name, expected in ReferenceSession(program).run(feeds).items():
                if expected.tobytes() != got[name].tobytes():
                    wrong = int(np.count_nonzero(expected.view(np.uint8) != got[name].view(np.uint8)))
                    check.first_difference = f"sample {number}, output {name}: {wrong} of {expected.nbytes} bytes differ"
            check.samples += 1
        return [check]

    def bench(self, threads: int, plan: protocol.Protocol, per_layer: bool) -> dict[str, Any]:
        """The bench figures of ``report.schema``; an emulated device gives none of its times."""
        facts = {"place": self.name, "isa": self.isa, "threads": threads, "file_bytes": self._file_bytes, "comparisons": []}
        unknown = {"energy_mj": None, "power_w": None, "power_source": "no sensor", "throttled": None}
        if self.is_emulated:
            reply = self._ask("verify", MODEL)
            answered: dict[str, Any] = {
                "warmup": 0,
                "latency_us": None,
                "peak_memory_bytes": None,
                "layers": [],
                "environment": {},
            }
            return {**facts, **unknown, **answered, "vectors": reply["vectors"], "passed": reply["passed"], "note": NO_TIMES}
        limits = ["--threads", str(threads), "--warmup", str(plan.warmup_runs), "--runs", str(plan.runs)]
        layers = ["--per-layer"] if per_layer else []
        reply = self._ask("bench", MODEL, *limits, "--min-time", f"{plan.min_time_s:g}", *layers)
        return {**facts, **unknown, **figures_of(reply)}

    def _check_vectors(self) -> tuple[int, str]:
        reply = self._ask("verify", MODEL, "--per-step", accept=(0, 3))
        difference = "" if reply["passed"] == reply["vectors"] else f"bundled vectors: {json.dumps(reply)[:300]}"
        return int(reply["passed"]), difference

    def _put_program(self, data: bytes) -> int:
        local = Path(self._scratch.name) / MODEL
        local.write_bytes(data)
        self._transport.put(local, MODEL)
        return len(data)

    def _edges(self, indices: Sequence[int]) -> list[Tensor]:
        return [self._program.tensors[index] for index in indices]

    def _fetch(self, position: int, tensor: Tensor) -> Array:
        local = Path(self._scratch.name) / f"OUT_{position}.bin"
        self._transport.get(local.name, local)
        return np.frombuffer(local.read_bytes(), tensor.dtype.numpy).reshape(tensor.dims)

    def _ask(self, *command: str, accept: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """The JSON reply of one ``ez_run`` command; raises DeviceError when it fails or answers something else."""
        reply = self._transport.run([f"./{RUNNER}", *command])
        where = f"{self.name}: ez_run {' '.join(command)}"
        if reply.returncode not in accept:
            got = f"exit code {reply.returncode}: {reply.stderr.strip()[-300:]}"
            raise DeviceError("the runner failed", where=where, got=got)
        try:
            answer: dict[str, Any] = json.loads(reply.stdout)
        except json.JSONDecodeError as error:
            raise DeviceError("the runner's answer is not JSON", where=where, got=reply.stdout[:100]) from error
        return answer


def figures_of(reply: Mapping[str, Any]) -> dict[str, Any]:
    """The runner's bench reply (nanoseconds) as bench figures (microseconds)."""
    latency = protocol.Latency(tuple(nanoseconds / 1000 for nanoseconds in reply["latency_ns"]), warmup_runs=reply["warmup"])
    layers = [{**{k: v for k, v in layer.items() if k != "ns"}, "us": layer["ns"] / 1000} for layer in reply.get("layers", [])]
    return {
        "latency_us": latency.as_dict(),
        "warmup": reply["warmup"],
        "peak_memory_bytes": reply["peak_memory_bytes"],
        "peak_memory_source": "measured by the runner",
        "layers": layers,
        "environment": reply.get("environment", {}),
    }
