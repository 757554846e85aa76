"""Many devices: who is meant, in what order, and what is left when one of them fails."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from deploy_devices import CountingTransport

from edgezip.cli import fleet as fleet_cli
from edgezip.cli.main import main
from edgezip.data import DEMO_MODEL
from edgezip.deploy.fleet import Host, limited, read_inventory, serve
from edgezip.errors import DeviceUnreachableError, MissingFileError, UsageError

TEXT = """
defaults: {target: rpi4, groups: [lab]}
hosts:
  one: {host: pi@10.0.0.1, tags: [front]}
  two: {host: pi@10.0.0.2, port: 2222, groups: [field]}
  three: {host: "adb:ABC", target: android-arm64}
"""


def inventory(folder: Path, text: str = TEXT) -> Path:
    path = folder / "hosts.yaml"
    path.write_text(text)
    return path


def test_hosts_have_their_own_facts_before_the_defaults(tmp_path: Path) -> None:
    one, two, three = read_inventory(inventory(tmp_path))
    assert (one.name, one.host, one.target, one.groups, one.tags) == ("one", "pi@10.0.0.1", "rpi4", ("lab",), ("front",))
    assert (two.port, two.groups) == (2222, ("field",))
    assert (three.host, three.target) == ("adb:ABC", "android-arm64")


def test_the_value_of_an_unknown_key_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as said:
        read_inventory(inventory(tmp_path, "hosts: {a: {host: pi@x, target: rpi4, password: hunter2}}"))
    assert "password" in str(said.value)
    assert "hunter2" not in str(said.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hosts: [", "not a YAML file"),
        ("- a", "not an inventory"),
        ("hosts: {}", "1 .. 10000 hosts"),
        ("hosts: {a: pi@x}", "host 'a'.*user@address"),
        ("hosts: {a: {host: pi@x}}", "host 'a'.*target"),
        ("hosts: {a: {host: pi@x, target: rpi4, prot: 22}}", "prot"),
        ("hosts: {a: {host: pi@x, target: rpi4, port: 99999}}", "port.*99999"),
        ("hosts: {a: {host: pi@x, target: rpi4}, a: {host: pi@y, target: rpi4}}", "not a YAML file: the key 'a' stands twice"),
        ("hosts: {'../a': {host: pi@x, target: rpi4}}", "name"),
        ("hosts: {a: {host: pi@x, target: '$(x)'}}", "target"),
        ("hosts: {a: !!python/object/apply:os.system ['touch evil']}", "not a YAML file"),
        ("host: {a: {}}\nhosts: {a: {host: x, target: rpi4}}", "not an inventory"),
    ],
)
def test_a_wrong_inventory_is_refused_by_host_and_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_inventory(inventory(tmp_path, text))
    with pytest.raises(MissingFileError):
        read_inventory(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("limit", "names"),
    [(None, "one two three"), ("lab", "one three"), ("field,front", "one two"), ("!two", "one three"), ("lab,!one", "three")],
)
def test_names_groups_and_tags_say_who_is_meant(tmp_path: Path, limit: str | None, names: str) -> None:
    assert [host.name for host in limited(read_inventory(inventory(tmp_path)), limit)] == names.split()


def test_a_limit_that_means_nobody_is_refused(tmp_path: Path) -> None:
    hosts = read_inventory(inventory(tmp_path))
    with pytest.raises(UsageError, match=r"fiel.*field"):
        limited(hosts, "fiel")
    with pytest.raises(UsageError, match="no host is left"):
        limited(hosts, "one,!one")


HOSTS = [Host(name=f"h{k}", host="local", target="host") for k in range(6)]


def failing(*bad: str) -> Any:
    def work(host: Host) -> dict[str, Any]:
        if host.name in bad:
            raise DeviceUnreachableError("no answer", where=host.name)
        return {"version": "1"}

    return work


@pytest.mark.parametrize(
    ("strategy", "bad", "states"),
    [
        ("all", ["h0", "h3"], "failed ok ok failed ok ok"),
        ("rolling", ["h2"], "ok ok failed skipped skipped skipped"),
        ("canary", ["h0"], "failed skipped skipped skipped skipped skipped"),
        ("canary", ["h2"], "ok ok failed ok ok ok"),
    ],
)
def test_a_strategy_says_what_a_failure_stops(strategy: Any, bad: list[str], states: str) -> None:
    assert [outcome.state for outcome in serve(HOSTS, strategy, 3, failing(*bad))] == states.split()


def test_no_more_are_served_at_once_than_asked_for() -> None:
    now, most, guard = 0, 0, threading.Lock()

    def work(host: Host) -> dict[str, Any]:
        nonlocal now, most
        with guard:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with guard:
            now -= 1
        return {}

    for parallel in (1, 3):
        most = 0
        assert len(list(serve(HOSTS, "all", parallel, work))) == 6
        assert most == parallel


def test_dry_run_lists_the_hosts_and_sends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["deploy", str(DEMO_MODEL), "--float", "--inventory", str(inventory(tmp_path)), "--limit", "lab", "--dry-run"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("one", "three", "adb:ABC", "2 hosts", "nothing was sent"))
    assert "10.0.0.2" not in out
    assert main([*command, "--host", "pi@x"]) == 2
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dry_run"]
    assert [host["name"] for host in said["hosts"]] == ["one", "three"]


@pytest.mark.slow
@pytest.mark.xdist_group("cross")
def test_a_fleet_gets_its_model_and_each_host_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "defaults: {target: host}\nhosts:\n  a: {host: local}\n  b: {host: 'gone.invalid'}\n  c: {host: local}\n"
    for name in "ac":
        (tmp_path / name).mkdir()

    def transport(host: Host) -> Any:
        if host.name == "b":
            raise DeviceUnreachableError("no answer", where=host.host)
        return CountingTransport(tmp_path / host.name)

    monkeypatch.setattr(fleet_cli, "_transport", transport)
    results = tmp_path / "results.jsonl"
    command = ["deploy", str(DEMO_MODEL), "--float", "--inventory", str(inventory(tmp_path, text)), "--results", str(results)]
    assert main([*command, "--runs", "2", "--strategy", "all"]) == 1
    out = capsys.readouterr().out
    assert "2 ok, 1 failed" in out
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(line["host"], line["state"]) for line in lines] == [("a", "ok"), ("b", "failed"), ("c", "ok")]
    assert lines[0]["bitexact"] is lines[2]["bitexact"] is True
    assert "no answer" in lines[1]["error"]
    for name in "ac":
        assert (tmp_path / name / ".edgezip/fashion_cnn/current/ez_run").is_file()
