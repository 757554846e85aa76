"""Profiles on the command line."""

from __future__ import annotations

import json
from pathlib import Path

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


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_detect_writes_a_profile_that_add_takes(own_folder: Path, capsys) -> None:
    path = own_folder / "mybox.toml"
    assert main(["targets", "detect", "-o", str(path)]) == 0
    assert main(["targets", "add", str(path)]) == 0
    capsys.readouterr()
    assert main(["targets", "show", "mybox"]) == 0
    assert "detected on this machine" in capsys.readouterr().out


def test_a_new_profile_builds_on_a_known_one(own_folder: Path, capsys) -> None:
    assert main(["targets", "add", "kitchen-pi", "--from", "pi4"]) == 0
    capsys.readouterr()
    assert main(["targets", "show", "kitchen-pi", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"]["base"] == "rpi4"


def test_a_profile_of_nothing_or_of_a_taken_name_is_refused(own_folder: Path, capsys) -> None:
    assert main(["targets", "add", "box"]) == 2
    assert "--from" in capsys.readouterr().err
    assert main(["targets", "add", "rpi4", "--from", "rpi5"]) == 2
    assert "taken" in capsys.readouterr().err
    assert main(["targets", "add", "../evil", "--from", "rpi5"]) == 2
    assert not (own_folder / "config" / "edgezip" / "evil.toml").exists()


def test_a_profile_with_a_wrong_value_is_named_by_file_key_and_value(own_folder: Path, capsys) -> None:
    (own_folder / "bad.toml").write_text('name = "bad"\nbase = "rpi4"\nsummary = "x"\ndefault_threads = -3\n')
    assert main(["targets", "add", str(own_folder / "bad.toml")]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("bad.toml", "default_threads", "-3"))
