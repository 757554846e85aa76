"""A device through a transport: this machine stands for it, with a runner built as for any other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgezip import compilation
from edgezip.cli.context import Context
from edgezip.data import DEMO_MODEL
from edgezip.deploy import conditions
from edgezip.deploy.build import build_runner
from edgezip.deploy.transports import Reply
from edgezip.deploy.transports.local import LocalTransport
from edgezip.errors import DeviceError
from edgezip.measure import environment
from edgezip.measure.device import Device
from edgezip.measure.protocol import Protocol
from edgezip.program import Program
from edgezip.target import load_target

QUICK = Protocol(warmup_runs=1, warmup_s=0, runs=5, min_time_s=0)
FEED = {"image": np.linspace(0, 1, 784, dtype=np.float32).reshape(1, 1, 28, 28)}


@pytest.fixture(scope="module")
def program() -> Program:
    return compilation.compile(str(DEMO_MODEL), "host", samples=[FEED], vectors=1)


@pytest.fixture(scope="module")
def runner() -> bytes:
    return build_runner(load_target("host"), cache_dir=Context().cache_dir).read_bytes()  # kept by the hash of its sources


class Watched(LocalTransport):
    """Remembers the folder that the device made."""

    folder = ""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
        reply = super().run(argv, stdin=stdin, timeout_s=timeout_s)
        if "mktemp" in " ".join(argv):
            self.folder = reply.stdout.strip()
        return reply


def test_device_runs_proves_and_measures_and_leaves_nothing(program: Program, runner: bytes, tmp_path: Path) -> None:
    transport = Watched(tmp_path)
    with Device(transport, runner, program) as device:
        assert device.run(FEED)["logits"].tobytes() == program.vectors[0][1].tobytes()
        assert [(check.samples, check.first_difference) for check in device.check_bits(program, [FEED])] == [(2, "")]
        found = device.bench(1, QUICK, per_layer=True)
        assert Path(transport.folder).is_dir()
    assert not Path(transport.folder).exists()
    assert found["latency_us"]["n"] == 5
    assert found["latency_us"]["min"] > 0
    assert [layer["name"] for layer in found["layers"]] == [step.name for step in program.steps]
    assert found["environment"]["kernel"] == environment.describe()["kernel"]
    assert found["peak_memory_bytes"] > 0


def test_wrong_vectors_are_found_there(program: Program, runner: bytes, tmp_path: Path) -> None:
    wrong = Program(**{name: getattr(program, name) for name in Program.__slots__})
    wrong.vectors = [[program.vectors[0][0], program.vectors[0][1] + np.float32(1)]]
    with Device(LocalTransport(tmp_path), runner, wrong) as device:
        assert "bytes differ" in device.check_bits(wrong, [])[0].first_difference


def test_a_device_without_room_says_so_and_is_left_clean(program: Program, runner: bytes, tmp_path: Path) -> None:
    class Full(Watched):
        """No file can be written."""

        def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
            return Reply(1, "", "cat: write error: No space left on device") if stdin else super().run(argv, timeout_s=timeout_s)

    transport = Full(tmp_path)
    with pytest.raises(DeviceError, match="No space left"):
        Device(transport, runner, program)
    assert not Path(transport.folder).exists()


def test_a_device_without_memory_is_refused_before_anything_is_sent(program: Program, runner: bytes, tmp_path: Path) -> None:
    class Small(Watched):
        """1 MB free."""

        def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120.0) -> Reply:
            reply = super().run(argv, stdin=stdin, timeout_s=timeout_s)
            return Reply(0, "available_kb 1000\n", "") if argv[2] == conditions.SCRIPT else reply

    transport = Small(tmp_path)
    with pytest.raises(DeviceError, match=r"not enough memory.*got 1,000 kB"):
        Device(transport, runner, program)
    assert transport.folder == "", "no folder was made there"


def test_environment_has_the_same_keys_here_and_there() -> None:
    assert set(conditions.environment({})) == set(environment.describe())
