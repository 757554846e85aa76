"""A device over ssh: a real OpenSSH server on the loopback."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from deploy_devices import SshDevice, bundle_of, in_service
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgezip.deploy.install import Installer
from edgezip.deploy.transports.ssh import SshTransport
from edgezip.errors import DeviceError, DeviceUnreachableError, UsageError

PACKAGE = Path(__file__).parents[2] / "edgezip"
pytestmark = pytest.mark.xdist_group("sshd")  # one server, for one worker


@pytest.fixture
def device(ssh_device: SshDevice):
    transport = ssh_device.transport()
    yield transport
    transport.close()


def test_a_command_runs_there_with_its_input(device: SshTransport) -> None:
    data = os.urandom(2_000_000)
    import hashlib

    assert device.run(["sha256sum"], stdin=data).stdout.split()[0] == hashlib.sha256(data).hexdigest()
    assert device.run(["sh", "-c", "echo no >&2; exit 7"]).code == 7


@given(words=st.lists(st.text(st.characters(blacklist_categories=("Cs", "Cc"))), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_word_is_read_by_the_shell_there(device: SshTransport, words: list[str]) -> None:
    assert device.run(["printf", r"%s\n", *words]).stdout == "".join(f"{word}\n" for word in words)


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGKILL, signal.SIGSEGV], ids=lambda n: n.name)
def test_death_by_signal_is_not_a_broken_link(device: SshTransport, tmp_path: Path, number: int) -> None:
    program = tmp_path / "dies"
    program.write_text(f"#!/bin/sh\nkill -{int(number)} $$\n")
    program.chmod(0o755)
    assert device.run([str(program)]).code == 128 + number


def test_logins_after_the_first_share_its_connection(ssh_device: SshDevice, device: SshTransport) -> None:
    device.run(["true"])
    before = ssh_device.sessions()
    device.run(["true"])
    assert before
    assert set(before) <= set(ssh_device.sessions())
    device.close()
    for _ in range(50):
        if not ssh_device.sessions():
            return
        time.sleep(0.1)
    raise AssertionError("the connection outlives the transport")


def test_an_unknown_host_key_is_refused_and_not_remembered(ssh_device: SshDevice) -> None:
    transport = ssh_device.transport(known=None)
    with pytest.raises(DeviceUnreachableError, match="--accept-new-host-key") as caught:
        transport.run(["true"])
    assert caught.value.exit_code == 4
    assert (ssh_device.folder / "known-None").read_text() == ""
    transport.close()


def test_an_unknown_host_key_is_accepted_when_asked_and_then_remembered(ssh_device: SshDevice) -> None:
    transport = ssh_device.transport(known=None, accept_new=True)
    assert transport.run(["echo", "in"]).stdout == "in\n"
    assert (ssh_device.folder / "host_key.pub").read_text().split()[1] in (ssh_device.folder / "known-None").read_text()
    transport.close()


@pytest.mark.parametrize("accept_new", [False, True])
def test_a_changed_host_key_is_always_refused(ssh_device: SshDevice, accept_new: bool) -> None:
    transport = ssh_device.transport(known="other_key", accept_new=accept_new)
    with pytest.raises(DeviceUnreachableError, match="host key changed"):
        transport.run(["true"])
    transport.close()


def test_no_code_path_switches_host_key_checking_off() -> None:
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert re.findall(r"StrictHostKeyChecking\W{1,8}(\w[\w-]*)", source) == ["accept-new"]
    assert "UserKnownHostsFile" not in source


def test_a_wrong_port_is_unreachable(ssh_device: SshDevice) -> None:
    transport = SshTransport(ssh_device.host, port=1, config=ssh_device.config())
    with pytest.raises(DeviceUnreachableError, match="refused") as caught:
        transport.run(["true"])
    assert caught.value.exit_code == 4
    transport.close()


def test_a_login_without_a_key_says_how_to_get_one(ssh_device: SshDevice) -> None:
    config = ssh_device.config()
    stranger = config.with_name("config-stranger")
    stranger.write_text(config.read_text().replace("/user_key", "/other_key"))
    transport = SshTransport(ssh_device.host, port=ssh_device.port, config=stranger)
    with pytest.raises(DeviceUnreachableError, match="ssh-copy-id"):
        transport.run(["true"])
    transport.close()


@pytest.mark.parametrize("host", ["-oProxyCommand=id", "a b", "", "u@", "@h", "u@-h", "u;id@h", "-l@h", "h\nx", "$(id)@h"])
def test_a_host_that_ssh_could_take_for_an_option_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="--host"):
        SshTransport(host)


def test_a_version_is_installed_and_switched(device: SshTransport, tmp_path: Path) -> None:
    there = Installer(device, str(tmp_path), "model")
    assert there.install(bundle_of("old")).sent
    assert not there.install(bundle_of("old")).sent
    there.install(bundle_of("new"))
    assert in_service(tmp_path) == "new"
    there.rollback()
    assert in_service(tmp_path) == "old"


@pytest.mark.parametrize("step", ["sweep", "upload", "rename", "switch", "prune"])
def test_power_cut_at_a_step_leaves_a_whole_version_and_the_next_run_needs_no_hand(
    ssh_device: SshDevice, device: SshTransport, tmp_path: Path, step: str
) -> None:
    Installer(device, str(tmp_path), "model").install(bundle_of("old"))
    with pytest.raises(DeviceUnreachableError) as caught:
        Installer(device, str(tmp_path), "model", lambda s: ssh_device.stop() if s == step else None).install(bundle_of("new"))
    assert caught.value.exit_code == 4
    assert in_service(tmp_path) == ("new" if step == "prune" else "old")
    ssh_device.start()
    # The lock's owner is this very process, alive: give it the number of a dead one, as after a new start of the command.
    lock = tmp_path / "model/.lock"
    owner = str(lock.readlink()).split(",")
    lock.unlink()
    lock.symlink_to(",".join([*owner[:2], "4194303", owner[3]]))
    again = ssh_device.transport()
    Installer(again, str(tmp_path), "model").install(bundle_of("new"))
    again.close()
    assert in_service(tmp_path) == "new"
    assert not [path.name for path in (tmp_path / "model").iterdir() if path.name.startswith(".")]


def test_a_transfer_cut_in_the_middle_leaves_the_old_version(ssh_device: SshDevice, device: SshTransport, tmp_path: Path) -> None:
    Installer(device, str(tmp_path), "model").install(bundle_of("old"))

    def stall(step: str) -> None:
        if step == "upload":  # nobody reads any more: 16 MB do not fit into the pipes, and then the power goes
            for pid in ssh_device.sessions():
                os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.5, ssh_device.stop).start()

    with pytest.raises(DeviceUnreachableError):
        Installer(device, str(tmp_path), "model", stall).install(bundle_of("new", 16 << 20))
    assert in_service(tmp_path) == "old"


def test_a_device_that_hangs_is_given_up(ssh_device: SshDevice, device: SshTransport) -> None:
    device.run(["true"])
    for pid in ssh_device.sessions():
        os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(DeviceError, match="no answer within 2 s"):
        device.run(["true"], timeout_s=2)
    assert time.monotonic() - start < 10
    ssh_device.stop()
