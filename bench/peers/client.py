"""The parent's side of ``bench.peers.worker``: start, wait, run a round, end; and rounds that interleave many of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.peers import environments
from bench.peers.row import Row
from bench.quiet import Quiet
from edgezip.measure.protocol import Latency

REPOSITORY = Path(__file__).parents[2]
LAST_WORDS = 300
END_S = 5.0


@dataclass(frozen=True)
class Candidate:
    """A row of a peer under a name of its own; ``settings`` are environment variables (an ISA to hold it to)."""

    name: str
    peer: str
    row: Row
    settings: Mapping[str, str] = field(default_factory=dict)


class Worker:
    """One candidate's process. ``failure`` says why there are no times: not installed, or what its last line was."""

    def __init__(self, candidate: Candidate, kit: Path, threads: int, quiet: Quiet) -> None:
        self.candidate = candidate
        self.failure = ""
        self.facts: dict[str, Any] = {}
        self.round_least_us: list[float] = []  # processor time
        self._wall_us: list[float] = []
        self._processor_us: list[float] = []
        self._process: subprocess.Popen[str] | None = None
        interpreter = environments.python(candidate.peer)
        if interpreter is None:
            self.failure = "not installed"
            return
        row = json.dumps(asdict(candidate.row))
        command = [str(interpreter), "-m", "bench.peers.worker", candidate.peer, row, str(kit), str(threads)]
        self._errors: IO[str] = (kit / f"{candidate.name.replace(' ', '_')}.log").open("w+")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            cwd=REPOSITORY, env=environment_of(candidate, threads),
        )  # fmt: skip
        quiet.settle(self._process.pid, threads)

    @property
    def pid(self) -> int | None:
        """Of its process, while there is one."""
        return self._process.pid if self._process else None

    def wait_until_ready(self) -> None:
        """Waits for the worker's first line."""
        self.facts = self._answer() or {}

    def round(self, seconds: float) -> None:
        """Lets it run for about ``seconds``."""
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: the answer below is empty and says so
        answer = self._answer()
        if answer:
            self._wall_us += answer["wall_us"]
            self._processor_us += answer["processor_us"]
            self.round_least_us.append(min(answer["processor_us"]))

    def latency(self) -> Latency | None:
        """All its times so far."""
        return Latency(tuple(self._wall_us), tuple(self._processor_us)) if self._wall_us else None

    def end(self) -> None:
        """Closes its input and waits for it; a runtime whose threads will not end is killed."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._errors.close()
            self._process = None

    def _answer(self) -> dict[str, Any] | None:
        if self._process is None or self._process.stdout is None:
            return None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._process.wait()
        self._errors.seek(0)
        words = self._errors.read().strip().splitlines() or ["no message"]
        self.failure = f"exit {self._process.returncode}: {words[-1][:LAST_WORDS]}"
        self._process = None
        return None


def environment_of(candidate: Candidate, threads: int) -> dict[str, str]:
    """The worker's variables: the library's own thread pools held to ``threads``, then the candidate's settings.

    OPENBLAS settings of this machine are left out: a NumPy behind a peer would be slowed by them.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    return {**kept, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **candidate.settings}


def measure(
    candidates: Sequence[Candidate],
    kit: Path,
    threads: int,
    rounds: int,
    seconds: float,
    quiet: Quiet,
    each_round: Callable[[], object] = lambda: None,
) -> list[Worker]:
    """Loads all, then ``rounds`` rounds in which each runs for ``seconds``, the order turning by one each round.

    ``each_round`` runs in the same quiet moment.
    """
    workers = []
    for candidate in candidates:  # one after another: loading on two cores at once would make neither faster
        workers.append(Worker(candidate, kit, threads, quiet))
        workers[-1].wait_until_ready()
    for number in range(rounds):
        turn = number % len(workers)
        with quiet.moment([worker.pid for worker in workers if worker.pid is not None]):
            for worker in workers[turn:] + workers[:turn]:
                worker.round(seconds)
            each_round()
    for worker in workers:
        worker.end()
    return workers
