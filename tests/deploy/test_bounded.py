"""A child process that is not trusted."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgezip.deploy.transports import bounded
from edgezip.deploy.transports.bounded import clean, run_bounded
from edgezip.errors import DeviceError, ToolError


def run(*argv: str, stdin: bytes = b"", timeout_s: float = 20.0):
    return run_bounded(argv, where="child", stdin=stdin, timeout_s=timeout_s)


def test_input_output_and_exit_code_pass_through() -> None:
    data = os.urandom(300_000)
    reply = run("sh", "-c", "sha256sum; echo no >&2; exit 7", stdin=data)
    import hashlib

    assert (reply.code, reply.stdout.split()[0], reply.stderr) == (7, hashlib.sha256(data).hexdigest(), "no\n")


def test_output_larger_than_a_pipe_arrives_while_input_is_fed() -> None:
    assert len(run("cat", stdin=b"x" * 99 + b"\n" + b"line\n" * 200_000).stdout) == 1_000_100


@pytest.mark.parametrize("number", [4, 9, 11])
def test_death_by_signal_reads_as_a_shell_says_it(number: int) -> None:
    assert run("sh", "-c", f"kill -{number} $$").code == 128 + number


def test_time_limit_holds_while_nothing_reads_the_input() -> None:
    start = time.monotonic()
    with pytest.raises(DeviceError, match="no answer within 1 s"):
        run("sleep", "30", stdin=b"x" * (1 << 20), timeout_s=1)
    assert time.monotonic() - start < 10


def test_time_limit_ends_the_grandchildren_too(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no answer"):
        run("sh", "-c", f"sh -c 'sleep 2; touch {tmp_path}/alive'; true", timeout_s=0.5)
    time.sleep(2.2)
    assert not (tmp_path / "alive").exists()


def test_a_background_process_that_keeps_the_pipe_does_not_hold_us() -> None:
    start = time.monotonic()
    assert run("sh", "-c", "sleep 20 & echo done").stdout == "done\n"
    assert time.monotonic() - start < 10


def test_an_endless_line_is_refused() -> None:
    with pytest.raises(DeviceError, match="larger than any honest one"):
        run("sh", "-c", "head -c 3000000 /dev/zero")


def test_endless_lines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MAX_OUTPUT_BYTES", 1 << 20)
    with pytest.raises(DeviceError, match="larger than any honest one"):
        run("yes")


def test_a_command_that_does_not_exist_says_what_to_do() -> None:
    with pytest.raises(ToolError, match="doctor"):
        run("/no/such/program")


def test_a_file_of_another_machine_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"\x7fELF not a program")
    (tmp_path / "odd").chmod(0o755)
    with pytest.raises(ToolError, match="odd"):
        run(str(tmp_path / "odd"))


def test_interrupt_ends_the_child(tmp_path: Path) -> None:
    import _thread
    import signal
    import threading

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with SIGINT ignored
    threading.Timer(0.3, _thread.interrupt_main).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(sys.executable, "-c", f"import time, pathlib; time.sleep(2); pathlib.Path('{tmp_path}/alive').touch()")
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(2.0)
    assert not (tmp_path / "alive").exists()


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_cleaned_text_cannot_steer_a_terminal(data: bytes) -> None:
    assert not [c for c in clean(data) if c not in "\n\t" and (c < " " or "\x7f" <= c <= "\x9f")]
