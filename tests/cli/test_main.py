"""The entry point: quick help, global options, errors as messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgezip.cli import doctor
from edgezip.cli.main import VERBS, main

HEAVY = "{'numpy', 'onnx', 'onnx_ir', 'onnxruntime', 'numba', 'pydantic', 'jinja2'}"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_loads_nothing_heavy(verb: str) -> None:
    arguments = [verb, "--help"] if verb else ["--help"]
    script = f"import sys; from edgezip.cli.main import main; main({arguments!r})\n"
    script += f"print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = f"import sys, edgezip; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_json_may_stand_before_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "targets", "list"]) == 0
    assert '"targets"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["inspec"], ["inspect"], ["inspect", "--nope"], ["-j", "x", "doctor"], ["--color", "pink"]]
)
def test_usage_errors_exit_with_two_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deplo"]) == 2
    assert "deploy" in capsys.readouterr().err


def test_every_verb_of_the_help_can_be_loaded() -> None:
    for verb in VERBS:
        assert main([verb, "--help"]) == 0


def test_version_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"edgezip"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cleans_up_even_when_native_code_makes_another_error_of_it(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What onnxruntime's import does: the interrupt comes out as an ImportError."""

    def importing(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    monkeypatch.setattr(doctor, "examine", importing)
    before = signal.getsignal(number)
    assert main(["doctor"]) == 128 + number
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_a_fault_of_ours_is_one_line_and_one_json_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(doctor, "examine", broken)
    assert main(["doctor", "--json"]) == 1
    shown = capsys.readouterr()
    assert "ZeroDivisionError" in json.loads(shown.out)["what"]
    assert shown.err.startswith("error: internal error: ZeroDivisionError: by zero; please report")
    assert len(shown.err.strip().splitlines()) == 1
    main(["doctor", "-v"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["targets", "list"], ["targets", "list", "--json"], ["doctor", "--json"]])
def test_a_full_disk_under_stdout_is_one_message(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "edgezip", *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: No space left on device")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("color", "coloured"), [("always", True), ("never", False), ("auto", False)])
def test_colour_is_as_asked(color: str, coloured: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--color", color]) == 0
    assert ("\x1b[" in capsys.readouterr().out) is coloured


def test_lines_are_not_cut_when_no_terminal_shows_them(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    """A path longer than a screen stays one line: it is copied and searched for."""
    long = tmp_path / ("folder" * 20)
    main(["doctor", "--cache-dir", str(long)])
    assert str(long) in capsys.readouterr().out
