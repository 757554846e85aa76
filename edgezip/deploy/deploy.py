"""The road from program bytes to a verified, measured program on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgezip.deploy import conditions
from edgezip.deploy.answers import BenchAnswer, VerifyAnswer
from edgezip.deploy.build import build_runner, find_compiler
from edgezip.deploy.bundle import make_bundle, safe_name
from edgezip.deploy.install import Installed, Installer
from edgezip.deploy.runner import Runner
from edgezip.deploy.transports import Transport
from edgezip.errors import DeviceError
from edgezip.program import Program
from edgezip.target import Target

Stage = Callable[[str, float, str], None]  # name, seconds, what came out


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is on the device now; ``bench`` is None under emulation, where time means nothing. ``throttled`` is None when the
    device cannot tell."""

    installed: Installed
    bundle_bytes: int
    runner_bytes: int
    verify: VerifyAnswer
    bench: BenchAnswer | None
    throttled: bool | None = None
    environment: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How to measure on the device."""

    threads: int = 1
    warmup: int = 3
    runs: int = 20
    min_time_s: float = 0.0
    per_layer: bool = False


def deploy(
    program: Program,
    name: str,
    target: Target,
    transport: Transport,
    *,
    dest: str,
    cache_dir: Path,
    keep: int = 2,
    bench: BenchOptions | None = None,
    on_stage: Stage | None = None,
) -> Deployment:
    """Build the runner, bundle, send, verify the bundled vectors there, and bench.

    The vectors are run there before the new version is put in service: when they do not come out byte for byte, the version
    before was never out of it. Raises ToolError, DeviceUnreachableError, DeviceError.
    """
    report = on_stage or (lambda stage, seconds, result: None)
    start = time.monotonic()
    compiler = find_compiler(target)
    runner = build_runner(target, cache_dir=cache_dir, compiler=compiler).read_bytes()
    report("build", time.monotonic() - start, f"ez_run {len(runner):,} bytes, {compiler.version}")
    facts = {"target": target.name, "compiler": compiler.version, "steps": len(program.steps)}
    bundle = make_bundle(safe_name(name), runner, program.to_bytes(), facts)
    start = time.monotonic()
    options = bench or BenchOptions()
    before = conditions.ask(transport)
    conditions.check_memory(before, program, bundle.total_bytes, options.threads, transport.name)
    installer = Installer(transport, dest, bundle.name)
    proof = _Proof(transport)
    installed = installer.install(bundle, keep=keep, prove=proof)
    sent = f"{bundle.total_bytes:,} bytes" if installed.sent else "already there, sums checked"
    report("send", time.monotonic() - start - proof.seconds, sent)
    verified = proof.answer
    report("verify", proof.seconds, f"{verified.passed} of {verified.vectors} vectors equal, {verified.isa}")
    measured = throttled = surroundings = None
    if not transport.is_emulated:
        start = time.monotonic()
        measured = Runner(transport, installed.folder).bench(
            threads=options.threads,
            warmup=options.warmup,
            runs=options.runs,
            min_time_s=options.min_time_s,
            per_layer=options.per_layer,
        )
        report("bench", time.monotonic() - start, f"p50 {measured.latency_us.p50 / 1e3:.2f} ms")
        after = conditions.ask(transport)
        throttled, surroundings = conditions.throttled(before, after), conditions.environment(after)
    return Deployment(installed, bundle.total_bytes, len(runner), verified, measured, throttled, surroundings)


class _Proof:
    """Runs the bundled vectors in a folder of the device; DeviceError unless all are equal."""

    answer: VerifyAnswer

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.seconds = 0.0

    def __call__(self, folder: str) -> None:
        start = time.monotonic()
        self.answer = Runner(self._transport, folder).verify()
        self.seconds = time.monotonic() - start
        if not self.answer.is_proof:
            raise DeviceError(
                "the device computes other bits than the reference",
                where=self._transport.name,
                expected=f"{self.answer.vectors} equal vectors",
                got=f"{self.answer.passed}, {self.answer.mismatched_bytes} bytes differ",
                hint="the version before stays in service; please report this with the model",
            )
