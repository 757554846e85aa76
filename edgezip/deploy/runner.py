"""``ez_run`` on a device: its verbs, and what its death means."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from edgezip.deploy.answers import BenchAnswer, InfoAnswer, Kind, RunAnswer, VerifyAnswer, parse
from edgezip.deploy.transports import Reply, Transport
from edgezip.errors import DeviceError

CANNOT_RUN = 126  # a shell's exit code for a file that the kernel refuses to execute
DIFFERS = 3  # ez_run's exit code when a vector is not equal


class Runner:
    """``ez_run`` and a program in ``folder`` of the device behind ``transport``."""

    def __init__(self, transport: Transport, folder: str, program: str = "model.ez") -> None:
        self.transport = transport
        self.folder = folder
        self.program = f"{folder}/{program}"

    def info(self) -> InfoAnswer:
        """What the program is and which ISA path the device chose."""
        return self._ask(InfoAnswer, "info")[0]

    def verify(self, *, threads: int = 1, hashes: str | None = None) -> VerifyAnswer:
        """The bundled test vectors run there; a difference is in the answer, not an exception.

        ``hashes``: a file there with the hash of every step (``edgezip.measure.step_hashes``), to name the first that differs.
        """
        flags = ["--threads", str(threads), *(["--per-step", hashes] if hashes else [])]
        answer, code = self._ask(VerifyAnswer, "verify", *flags, accept=(0, DIFFERS))
        if answer.is_proof != (code == 0):
            raise DeviceError("the answer and the exit code contradict each other", where=self._where("verify"), got=str(code))
        return answer

    def bench(
        self,
        *,
        threads: int = 1,
        warmup: int = 3,
        runs: int = 20,
        min_time_s: float = 0.0,
        per_layer: bool = False,
        affinity: str | None = None,
        shares_all: bool = False,
    ) -> BenchAnswer:
        """Latency there; with ``shares_all`` also the shortest steps run on all threads."""
        extra = ["--solo-us", "-1"] if shares_all else []
        extra += [*(["--per-layer"] if per_layer else []), *(["--affinity", affinity] if affinity else [])]
        flags = ["--threads", str(threads), "--warmup", str(warmup), "--runs", str(runs), "--min-time", str(min_time_s), *extra]
        return self._ask(BenchAnswer, "bench", *flags, timeout_s=600 + 20 * min_time_s)[0]

    def run(self, inputs: Sequence[str], output: str) -> RunAnswer:
        """One inference on files of the device; results are ``output/OUT_<i>.bin``."""
        return self._ask(RunAnswer, "run", *inputs, "--output", output)[0]

    def _ask(
        self, kind: type[Kind], verb: str, *arguments: str, accept: tuple[int, ...] = (0,), timeout_s: float = 600.0
    ) -> tuple[Kind, int]:
        reply = self.transport.run([f"{self.folder}/ez_run", verb, self.program, *arguments], timeout_s=timeout_s)
        if reply.code not in accept:
            raise self._failed(verb, reply)
        return parse(reply.stdout, kind, verb, self._where(verb)), reply.code

    def _where(self, verb: str) -> str:
        return f"{self.transport.name}, ez_run {verb}"

    def _failed(self, verb: str, reply: Reply) -> DeviceError:
        last = (reply.stderr.strip().splitlines() or [f"exit code {reply.code}"])[-1]
        what, hint = {
            128 + signal.SIGILL: (
                "the program was killed by an illegal instruction (SIGILL)",
                "the runner was built for a newer CPU than this one: check --target",
            ),
            128 + signal.SIGKILL: ("the program was killed, most likely for want of memory", "close other programs there"),
            CANNOT_RUN: (
                f"the device cannot run it: {last}",
                "another kind of CPU, or a folder without exec? check --target, --dest",
            ),
        }.get(reply.code, (last, ""))
        return DeviceError(what, where=self._where(verb), hint=hint)
