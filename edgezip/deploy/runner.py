"""``ez_run`` on a device: its verbs, and its answers checked before they are believed."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgezip.deploy.transports import Reply, Transport
from edgezip.errors import DeviceError

MAX_US = 1e12


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    ez_run: str = Field(max_length=32)
    verb: str = Field(max_length=16)
    isa: str = Field(max_length=32, pattern=r"[a-z0-9_]+")
    threads: int = Field(ge=1, le=64)
    load_us: float = Field(ge=0, lt=MAX_US)
    arena_bytes: int = Field(ge=0)
    file_bytes: int = Field(ge=0)


class TensorAnswer(BaseModel):
    """An input or output as the device sees it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    dtype: str
    shape: list[int] = Field(max_length=8)
    bytes: int = Field(ge=0)


class InfoAnswer(_Answer):
    """Answer of ``ez_run info``."""

    numerics: str
    layout: str
    act_sign: int
    steps: int = Field(ge=1)
    vectors: int = Field(ge=0)
    isas: list[dict[str, Any]]
    inputs: list[TensorAnswer]
    outputs: list[TensorAnswer]


class VerifyAnswer(_Answer):
    """Answer of ``ez_run verify``."""

    vectors: int = Field(ge=0)
    passed: int = Field(ge=0)
    mismatched_bytes: int = Field(ge=0)


class RunAnswer(_Answer):
    """Answer of ``ez_run run``."""

    run_us: float = Field(ge=0, lt=MAX_US)
    outputs: list[TensorAnswer]


class Latency(BaseModel):
    """Microseconds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    p50: float = Field(ge=0, lt=MAX_US)
    p90: float = Field(ge=0, lt=MAX_US)
    p99: float = Field(ge=0, lt=MAX_US)
    min: float = Field(ge=0, lt=MAX_US)
    mean: float = Field(ge=0, lt=MAX_US)
    stdev: float = Field(ge=0, lt=MAX_US)
    n: int = Field(ge=1)


class LayerAnswer(BaseModel):
    """One step of ``ez_run bench --per-layer``."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    op: str
    kernel: str
    us: float = Field(ge=0, lt=MAX_US)


class BenchAnswer(_Answer):
    """Answer of ``ez_run bench``."""

    warmup: int = Field(ge=0)
    latency_us: Latency
    peak_memory_bytes: int = Field(ge=0)
    layers: list[LayerAnswer] | None = None


class Runner:
    """``ez_run`` and a program in ``folder`` of the device behind ``transport``."""

    def __init__(self, transport: Transport, folder: str, program: str = "model.ez") -> None:
        self.transport = transport
        self.folder = folder
        self.program = f"{folder}/{program}"

    def info(self) -> InfoAnswer:
        """What the program is and which ISA path the device chose."""
        return InfoAnswer.model_validate(self._ask("info"))

    def verify(self, *, threads: int = 1) -> VerifyAnswer:
        """The bundled test vectors run there; a difference is in the answer, not an exception."""
        return VerifyAnswer.model_validate(self._ask("verify", "--threads", str(threads), accept=(0, 3)))

    def bench(
        self, *, threads: int = 1, warmup: int = 3, runs: int = 20, min_time_s: float = 0.0, per_layer: bool = False
    ) -> BenchAnswer:
        """Latency there."""
        extra = ["--per-layer"] if per_layer else []
        flags = ["--threads", str(threads), "--warmup", str(warmup), "--runs", str(runs), "--min-time", str(min_time_s), *extra]
        return BenchAnswer.model_validate(self._ask("bench", *flags, timeout_s=600 + 20 * min_time_s))

    def run(self, inputs: Sequence[str], output: str) -> RunAnswer:
        """One inference on files of the device; results are ``output/OUT_<i>.bin``."""
        return RunAnswer.model_validate(self._ask("run", *inputs, "--output", output))

    def _ask(self, verb: str, *arguments: str, accept: tuple[int, ...] = (0,), timeout_s: float = 600.0) -> Any:
        reply = self.transport.run([f"{self.folder}/ez_run", verb, self.program, *arguments], timeout_s=timeout_s)
        if reply.code not in accept:
            raise self._failed(verb, reply)
        return self._parsed(verb, reply)

    def _failed(self, verb: str, reply: Reply) -> DeviceError:
        where = f"{self.transport.name}, ez_run {verb}"
        died_of = reply.code - 128 if reply.code > 128 else -reply.code
        if died_of == signal.SIGILL:
            return DeviceError(
                "the program was killed by an illegal instruction (SIGILL)", where=where,
                hint="the runner was built for a newer CPU than this: check --target",
            )  # fmt: skip
        if died_of == signal.SIGKILL:
            return DeviceError(
                "the program was killed, most likely for want of memory", where=where, hint="close other programs there"
            )
        last = reply.stderr.strip().splitlines()
        return DeviceError(last[-1] if last else f"exit code {reply.code}", where=where)

    def _parsed(self, verb: str, reply: Reply) -> Any:
        where = f"{self.transport.name}, ez_run {verb}"
        try:
            answer = json.loads(reply.stdout, parse_constant=_refuse_constant)
            kind = {"info": InfoAnswer, "verify": VerifyAnswer, "run": RunAnswer, "bench": BenchAnswer}[verb]
            kind.model_validate(answer)
        except (ValueError, ValidationError) as error:
            first = str(error).splitlines()[0]
            raise DeviceError(
                f"the device's answer makes no sense: {first}",
                where=where,
                hint="deploy again; is it the runner of this version?",
            ) from error
        return answer


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number")
