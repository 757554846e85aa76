"""What a device tells of itself, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgezip.deploy import conditions
from edgezip.deploy.bundle import make_bundle
from edgezip.deploy.deploy import BenchOptions, deploy
from edgezip.deploy.transports import Reply
from edgezip.deploy.transports.local import LocalTransport
from edgezip.errors import DeviceError
from edgezip.target import load_target


class Telling(LocalTransport):
    """This machine, which tells of itself what the test wants: one answer after the other, the last again and again."""

    def __init__(self, root: Path, *answers: str) -> None:
        super().__init__(root)
        self.answers = list(answers)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        if conditions.SCRIPT in argv:
            return Reply(0, self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], "")
        return super().run(argv, stdin=stdin, timeout_s=timeout_s)


def test_this_machine_answers_the_script(tmp_path: Path) -> None:
    said = conditions.ask(LocalTransport(tmp_path))
    assert conditions.environment(said)["cores"] >= 1
    assert int(said["available_kb"]) > 1000


def test_what_a_bare_system_does_not_say_is_null() -> None:
    assert set(conditions.environment({"cpu": "", "cores": "", "kernel": ""}).values()) == {None}
    facts = conditions.environment({"cpu": "Raspberry Pi 4", "khz": "1500000", "millidegrees": "48312"})
    assert (facts["cpu"], facts["clock_mhz"], facts["temperature_c"]) == ("Raspberry Pi 4", 1500.0, 48.312)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, None),
        ({"pi_flags": ""}, {"pi_flags": "what?"}, None),
        ({"pi_flags": "0"}, {"pi_flags": "0x0"}, False),
        ({"pi_flags": "0x0"}, {"pi_flags": "0x4"}, True),
        ({"pi_flags": "0x2"}, {"pi_flags": "0x0"}, True),
        ({"pi_flags": "0x0"}, {"pi_flags": "0x40000"}, True),
        ({"pi_flags": "0x40000"}, {"pi_flags": "0x40000"}, False),
        ({"pi_flags": "0x10001"}, {"pi_flags": "0x10001"}, False),
        ({"throttle_events": "7"}, {"throttle_events": "7"}, False),
        ({"throttle_events": "7"}, {"throttle_events": "9"}, True),
        ({"throttle_events": "7", "pi_flags": "0"}, {"throttle_events": "7", "pi_flags": "0x8"}, True),
    ],
    ids=str,
)
def test_throttling_between_two_answers(before: dict[str, str], after: dict[str, str], expected: bool | None) -> None:
    """Under-voltage (bits 0 and 16) alone slows nothing; what happened before the run is not the run's."""
    assert conditions.throttled(before, after) is expected


def put(program, transport: Telling, cache_dir: Path):
    return deploy(
        program, "demo", load_target("host"), transport, dest="dest", cache_dir=cache_dir, bench=BenchOptions(warmup=1, runs=3)
    )


def test_a_deployment_says_whether_the_device_throttled(demo_programs, tmp_path: Path) -> None:
    from edgezip.cli import context

    device = Telling(tmp_path, "pi_flags 0x0\navailable_kb 100000\n", "pi_flags 0xe0008\nkhz 600000\n")
    done = put(demo_programs("host"), device, context.current.cache_dir)
    assert done.throttled is True
    assert (done.environment or {})["clock_mhz"] == 600


def test_a_plan_that_does_not_fit_is_refused_before_anything_is_sent(demo_programs, tmp_path: Path) -> None:
    from edgezip.cli import context

    program = demo_programs("host")
    with pytest.raises(DeviceError, match="not enough memory"):
        put(program, Telling(tmp_path, "available_kb 2000\n"), context.current.cache_dir)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("short_kb", [-1, 1])
def test_the_limit_is_what_a_run_holds_at_once(demo_programs, threads: int, short_kb: int) -> None:
    program = demo_programs("host")
    sent = make_bundle("demo", b"runner", program.to_bytes(), {}).total_bytes
    edges = sum(program.tensors[i].bytes for i in (*program.inputs, *program.outputs))
    needed = sent + program.arena_bytes + threads * program.scratch_bytes + edges + conditions.MARGIN_BYTES
    said = {"available_kb": str(needed // 1024 + (1 if short_kb < 0 else -1))}
    if short_kb < 0:
        conditions.check_memory(said, program, sent, threads, "device")
    else:
        with pytest.raises(DeviceError, match="not enough memory"):
            conditions.check_memory(said, program, sent, threads, "device")
