"""The way to an Android device. ``adb`` is a program that speaks to this machine's shell as the real one does to the device's."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from deploy_devices import bundle_of, in_service

from edgezip.cli.main import main
from edgezip.data import DEMO_MODEL
from edgezip.deploy.install import Installer
from edgezip.deploy.transports.adb import AdbTransport
from edgezip.deploy.transports.reach import reach
from edgezip.deploy.transports.ssh import SshTransport
from edgezip.errors import DeviceUnreachableError, ToolError, UsageError

ADB = """#!/bin/sh
[ "$1" = -s ] || { echo "error: more than one device/emulator" >&2; exit 1; }
case "$2" in
  phone) ;;
  locked) echo "error: device unauthorized." >&2; exit 1;;
  *) echo "error: device '$2' not found" >&2; exit 1;;
esac
[ "$3 $4" = "shell -T" ] || { echo "adb: usage" >&2; exit 1; }
shift 4
cd "$PHONE" && exec sh -c "$*"
"""


@pytest.fixture
def phone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder that is the device's."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/adb").write_text(ADB)
    (tmp_path / "bin/adb").chmod(0o755)
    (tmp_path / "phone").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("PHONE", str(tmp_path / "phone"))
    return tmp_path / "phone"


def test_words_input_output_and_exit_codes_come_through(phone: Path) -> None:
    transport = AdbTransport("phone")
    words = ["a b", "$(touch evil)", "'; touch evil #", "*", "\\n", "ü"]
    reply = transport.run(["printf", "%s|", *words])
    assert (reply.code, reply.stdout) == (0, "".join(f"{word}|" for word in words))
    data = bytes(range(256)) * 300
    assert transport.run(["sh", "-c", "cat > data; exit 7"], stdin=data).code == 7
    assert (phone / "data").read_bytes() == data
    assert transport.run(["sh", "-c", "kill -ILL $$"]).code == 128 + signal.SIGILL
    assert not (phone / "evil").exists()


@pytest.mark.parametrize(("serial", "hint"), [("gone", "adb devices"), ("locked", "unlock")])
def test_a_device_that_is_not_there_is_unreachable(phone: Path, serial: str, hint: str) -> None:
    with pytest.raises(DeviceUnreachableError, match=hint):
        AdbTransport(serial).run(["true"])


def test_a_command_that_fails_with_such_words_after_output_is_no_lost_device(phone: Path) -> None:
    reply = AdbTransport("phone").run(["sh", "-c", "echo out; echo 'error: mine' >&2; exit 1"])
    assert (reply.code, reply.stdout) == (1, "out\n")


def test_two_versions_are_installed_and_rolled_back(phone: Path) -> None:
    installer = Installer(AdbTransport("phone"), ".edgezip", "model")
    for tag in ("one", "two"):
        installer.install(bundle_of(tag))
    assert in_service(phone / ".edgezip") == "two"
    assert installer.install(bundle_of("two")).sent is False
    installer.rollback()
    assert in_service(phone / ".edgezip") == "one"


def test_a_host_is_reached_by_ssh_or_adb(phone: Path) -> None:
    assert isinstance(reach("adb:phone"), AdbTransport)
    transport = reach("pi@raspberrypi.local")
    assert isinstance(transport, SshTransport)
    transport.close()
    with pytest.raises(UsageError, match="ssh's"):
        reach("adb:phone", port=22)
    for name in ("-s", "a b", "$(x)", ""):
        with pytest.raises(UsageError):
            reach(f"adb:{name}")


def test_without_adb_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt install adb"):
        AdbTransport("phone")


def test_an_android_target_asks_for_its_serial(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", str(DEMO_MODEL), "--target", "android-arm64"]) == 2
    assert main(["targets", "detect", "--host", "adb:x y"]) == 2
    assert "adb:" in capsys.readouterr().err
