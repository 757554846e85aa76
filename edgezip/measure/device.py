"""A program on a device, real or emulated, through ``ez_run`` there: runs, bit checks and benches.

Emulated runs prove answers; their times mean nothing and are never reported. Files go in on standard input and come back as
base64, because a transport only runs commands.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgezip.deploy import conditions
from edgezip.deploy.answers import BenchAnswer, VerifyAnswer
from edgezip.deploy.runner import Runner
from edgezip.deploy.transports import Transport
from edgezip.errors import DeviceError
from edgezip.measure import energy, protocol, sensors, step_cost
from edgezip.measure.bit_exact import PathCheck
from edgezip.measure.sensors.access import DeviceAccess
from edgezip.measure.step_hashes import write_hashes
from edgezip.program import HEADER, Program, Tensor
from edgezip.runtime.reference import ReferenceSession

Array = np.ndarray[Any, Any]
NO_TIMES = "emulated: the bundled vectors were checked; a time would mean nothing, so none is given"
STEP_ROUNDS, STEP_RUNS = 3, 10  # the round that was disturbed least counts
ENERGY_RUN_S = 2.0  # of each call of the runner while a sensor is read


def _difference_of(answer: VerifyAnswer) -> str:
    """Where a device parts from the reference, or "" when it does not."""
    step = answer.first_difference
    if step is not None:
        return f"vector {step.vector}, step {step.step} ({step.name}, {step.op}, kernel {step.kernel}): bytes differ"
    return f"bundled vectors: {answer.mismatched_bytes} bytes differ" if answer.mismatched_bytes else ""


class Device:
    """``program`` in a folder of its own behind ``transport``; as a context manager it leaves nothing there."""

    is_here = False

    def __init__(self, transport: Transport, runner: bytes, program: Program) -> None:
        self.name = transport.name
        self._transport, self._program = transport, program
        data = program.to_bytes()
        conditions.check_memory(conditions.ask(transport), program, len(data) + len(runner), 1, transport.name)
        self._folder = self._shell("mktemp -d").strip()
        self._runner = Runner(transport, self._folder)
        self._file_bytes, self._header = len(data), program.plain_bytes()[: HEADER.itemsize]
        try:
            self._send("model.ez", data)
            self._send("ez_run", runner)
            self._shell('chmod +x "$1/ez_run"', self._folder)
            self.isa = self._runner.info().isa
        except BaseException:  # Ctrl-C too: nothing stays on the device
            self.close()
            raise

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the folder there and ends the connection."""
        try:
            self._shell('rm -rf "$1"', self._folder)
        finally:
            self._transport.close()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference."""
        files = []
        for position, tensor in enumerate(self._edges(self._program.inputs)):
            name = f"IN_{position}.bin"
            self._send(name, np.ascontiguousarray(feeds[tensor.name], tensor.dtype.numpy).tobytes())
            files.append(f"{self._folder}/{name}")
        self._runner.run(files, self._folder)
        return {tensor.name: self._fetch(position, tensor) for position, tensor in enumerate(self._edges(self._program.outputs))}

    def check_bits(self, program: Program, samples: Sequence[Mapping[str, Array]]) -> list[PathCheck]:
        """Every step of the bundled vectors there, then the outputs of ``samples``, against the NumPy reference here."""
        check = PathCheck(f"{self.isa} ({self.name})")
        if program.vectors:
            self._send("steps.txt", write_hashes(program, self._header))
            answer = self._runner.verify(hashes=f"{self._folder}/steps.txt")
            check.samples, check.steps = answer.passed, answer.steps_checked or 0
            check.first_difference = _difference_of(answer)
        for number, feeds in enumerate(samples):
            if check.is_exact:
                check.first_difference = self._difference(program, feeds, number)
                check.samples += check.is_exact
        return [check]

    def bench(
        self, threads: int, plan: protocol.Protocol, per_layer: bool, affinity: str | None = None, power: str = "none"
    ) -> dict[str, Any]:
        """The bench figures of ``report.schema``; an emulated device gives none of its times. ``power``: its sensor."""
        facts = {"place": self.name, "isa": self.isa, "threads": threads, "file_bytes": self._file_bytes, "comparisons": []}
        if self._transport.is_emulated:
            answer = self._runner.verify(threads=threads)
            if answer.passed != answer.vectors:
                raise DeviceError("bundled vectors differ", where=self.name, got=f"{answer.mismatched_bytes} bytes")
            empty: dict[str, Any] = {"latency_us": None, "warmup": 0, "peak_memory_bytes": None, "layers": [], "environment": {}}
            empty |= {"affinity": answer.affinity, "throttled": None}
            return {**facts, **energy.facts(None), **empty, "vectors_passed": answer.passed, "note": NO_TIMES}
        before = conditions.ask(self._transport)
        answered = self._runner.bench(
            threads=threads,
            warmup=plan.warmup_runs,
            runs=plan.runs,
            min_time_s=plan.min_time_s,
            per_layer=per_layer,
            affinity=affinity,
        )
        after = conditions.ask(self._transport)
        circumstances = {"throttled": conditions.throttled(before, after), "environment": conditions.environment(after)}
        sensor = sensors.load(power, DeviceAccess(self._transport))
        drawn = None if sensor is None else energy.measure(sensor, lambda: self._runs(threads, affinity))
        return {**facts, **energy.facts(drawn), **self._figures(answered), **circumstances}

    def _runs(self, threads: int, affinity: str | None) -> int:
        """Two seconds of inferences there; how many they were. The start of the runner is part of what is drawn."""
        answer = self._runner.bench(threads=threads, warmup=0, runs=1, min_time_s=ENERGY_RUN_S, affinity=affinity)
        return answer.latency_us.n

    def step_times(self, threads: int) -> list[float]:
        """Microseconds of each step there, every step shared among the threads; under an emulator they mean nothing."""
        count, warmup, runs = (1, 0, 1) if self._transport.is_emulated else (STEP_ROUNDS, 1, STEP_RUNS)
        rounds = []
        for _ in range(count):
            answer = self._runner.bench(threads=threads, warmup=warmup, runs=runs, per_layer=True, shares_all=True)
            rounds.append([layer.us for layer in answer.layers or []])
        return [float(us) for us in np.min(rounds, axis=0)]

    def processors(self) -> int:
        """Processors that a program may use there."""
        said = self._shell("nproc 2>/dev/null || echo 1").strip()
        return int(said) if said.isdigit() else 1

    def _figures(self, answer: BenchAnswer) -> dict[str, Any]:
        layers = [
            {
                **layer.model_dump(),
                "macs": step_cost.macs(self._program, step),
                "bytes": step_cost.bytes_moved(self._program, step),
            }
            for layer, step in zip(answer.layers or [], self._program.steps, strict=False)
        ]
        return {
            "latency_us": answer.latency_us.model_dump(),
            "warmup": answer.warmup,
            "affinity": answer.affinity,
            "load_us": answer.load_us,
            "peak_memory_bytes": answer.peak_memory_bytes,
            "peak_memory_source": "measured: greatest resident size of the runner",
            "layers": layers,
        }

    def _difference(self, program: Program, feeds: Mapping[str, Array], number: int) -> str:
        got = self.run(feeds)
        for name, expected in ReferenceSession(program).run(feeds).items():
            mine, theirs = (np.frombuffer(array.tobytes(), np.uint8) for array in (expected, got[name]))
            wrong = int(np.count_nonzero(mine != theirs))
            if wrong:
                return f"sample {number}, output {name}: {wrong} of {mine.size} bytes differ"
        return ""

    def _edges(self, indices: Sequence[int]) -> list[Tensor]:
        return [self._program.tensors[index] for index in indices]

    def _send(self, name: str, data: bytes) -> None:
        self._shell('cat > "$1"', f"{self._folder}/{name}", stdin=data)

    def _fetch(self, position: int, tensor: Tensor) -> Array:
        text = self._shell('base64 "$1"', f"{self._folder}/OUT_{position}.bin")
        try:
            return np.frombuffer(base64.b64decode(text), tensor.dtype.numpy).reshape(tensor.dims)
        except (binascii.Error, ValueError) as error:
            raise DeviceError("an output arrived damaged", where=f"{self.name}, {tensor.name}", got=str(error)) from error

    def _shell(self, script: str, *arguments: str, stdin: bytes = b"") -> str:
        reply = self._transport.run(["sh", "-c", script, "sh", *arguments], stdin=stdin, timeout_s=600)
        if reply.code:
            last = reply.stderr.strip().splitlines() or [f"exit code {reply.code}"]
            raise DeviceError(
                last[-1], where=f"{self.name}: {script.split()[0]}", hint="free space and rights of its temporary folder?"
            )
        return reply.stdout
