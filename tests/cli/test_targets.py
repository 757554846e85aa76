"""Profiles on the command line."""

from __future__ import annotations

import json

import pytest

from edgezip.cli.main import main
from edgezip.target import list_targets


def test_list_has_a_line_for_every_profile(capsys) -> None:
    assert main(["targets", "list"]) == 0
    out = capsys.readouterr().out
    assert all(any(line.startswith(target.name) for line in out.splitlines()) for target in list_targets())


def test_json_of_the_list_is_the_profiles(capsys) -> None:
    assert main(["targets", "list", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [target["name"] for target in facts["targets"]] == [target.name for target in list_targets()]


@pytest.mark.parametrize("name", [*(target.name for target in list_targets()), "host", "pi4"])
def test_show_prints_isa_and_sources(name: str, capsys) -> None:
    assert main(["targets", "show", name]) == 0
    out = capsys.readouterr().out
    assert "portable" in out
    assert "sources" in out


def test_detect_is_the_host(capsys) -> None:
    assert main(["targets", "detect", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"]["name"] == "host"


def test_an_unknown_profile_is_exit_code_2_and_names_the_nearest(capsys) -> None:
    assert main(["targets", "show", "rpi44"]) == 2
    assert "rpi4" in capsys.readouterr().err
