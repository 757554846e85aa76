"""The entry point: quick help, global options, errors as messages."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
