"""Versions on a device: whatever happens, the old one or the new one is in service, complete."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deploy_devices import CountingTransport, bundle_of, in_service

from edgezip.deploy import install
from edgezip.deploy.install import STEPS, Installer
from edgezip.deploy.transports.local import LocalTransport
from edgezip.errors import DeviceError, UsageError


def installer(root: Path, on_step: Callable[[str], None] | None = None) -> Installer:
    return Installer(LocalTransport(root), ".", "model", on_step)


def leftovers(root: Path) -> list[str]:
    names = {path.name for path in (root / "model").iterdir()} - {"current", "previous"}
    return sorted(name for name in names if len(name) != 12)


def in_child(action: Callable[[], object]) -> int:
    """Run ``action`` in a process of its own; its wait status (a signal's number when it was killed)."""
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


def end_this_process(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_first_and_second_version_and_the_way_back(tmp_path: Path) -> None:
    here = installer(tmp_path)
    first = here.install(bundle_of("old"))
    assert (first.sent, first.previous, in_service(tmp_path)) == (True, None, "old")
    second = here.install(bundle_of("new"))
    assert (second.sent, second.previous, in_service(tmp_path)) == (True, first.version, "new")
    assert here.rollback().version == first.version
    assert in_service(tmp_path) == "old"
    assert here.rollback().version == second.version
    assert in_service(tmp_path) == "new"
    assert leftovers(tmp_path) == []


def test_the_same_version_again_is_not_sent(tmp_path: Path) -> None:
    here = installer(tmp_path)
    here.install(bundle_of("old"))
    again = here.install(bundle_of("old"))
    assert not again.sent
    assert in_service(tmp_path) == "old"


@pytest.mark.parametrize("file", ["ez_run", "model.ez", "manifest.json", "SHA256SUMS"])
def test_a_version_that_was_damaged_on_the_device_is_sent_again(tmp_path: Path, file: str) -> None:
    here = installer(tmp_path)
    version = here.install(bundle_of("old")).version
    path = tmp_path / "model" / version / file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert here.install(bundle_of("old")).sent
    assert in_service(tmp_path) == "old"
    assert leftovers(tmp_path) == []


def test_sums_that_were_replaced_together_with_a_file_do_not_pass(tmp_path: Path) -> None:
    here = installer(tmp_path)
    folder = tmp_path / "model" / here.install(bundle_of("old")).version
    (folder / "model.ez").write_bytes(b"tampered")
    files = ["ez_run", "manifest.json", "model.ez"]
    sums = subprocess.run(["sha256sum", *files], cwd=folder, capture_output=True, check=True).stdout
    (folder / "SHA256SUMS").write_bytes(sums)
    assert here.install(bundle_of("old")).sent
    assert in_service(tmp_path) == "old"


def test_rollback_to_a_damaged_version_is_refused(tmp_path: Path) -> None:
    here = installer(tmp_path)
    old = here.install(bundle_of("old")).version
    here.install(bundle_of("new"))
    (tmp_path / "model" / old / "model.ez").write_bytes(b"damaged")
    with pytest.raises(DeviceError, match="no earlier version"):
        here.rollback()
    assert in_service(tmp_path) == "new"


def test_rollback_without_an_earlier_version_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no earlier version"):
        installer(tmp_path).rollback()
    installer(tmp_path).install(bundle_of("old"))
    with pytest.raises(DeviceError, match="no earlier version"):
        installer(tmp_path).rollback()
    assert in_service(tmp_path) == "old"


@pytest.mark.parametrize(("keep", "stay"), [(1, 2), (2, 2), (3, 3), (9, 5)])
def test_keep_counts_versions_and_never_takes_the_one_before(tmp_path: Path, keep: int, stay: int) -> None:
    here = installer(tmp_path)
    for number in range(5):
        here.install(bundle_of(f"tag{number}"), keep=keep)
    assert len(here.versions()) == stay
    assert in_service(tmp_path) == "tag4"
    here.rollback()
    assert in_service(tmp_path) == "tag3"


@pytest.mark.parametrize("step", STEPS)
def test_killed_before_any_step_leaves_the_old_version_and_the_next_run_needs_no_hand(tmp_path: Path, step: str) -> None:
    installer(tmp_path).install(bundle_of("old"))
    assert (
        in_child(lambda: installer(tmp_path, lambda s: s == step and end_this_process()).install(bundle_of("new"), prove=str))
        == 9
    )
    after_the_switch = STEPS.index(step) > STEPS.index("switch")
    assert in_service(tmp_path) == ("new" if after_the_switch else "old")
    assert installer(tmp_path).install(bundle_of("new")).sent == (STEPS.index(step) <= STEPS.index("rename"))
    assert in_service(tmp_path) == "new"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_any_command_on_the_device_leaves_a_whole_version(tmp_path: Path, moment: str) -> None:
    counting = CountingTransport(tmp_path)
    Installer(counting, ".", "model").install(bundle_of("old"))
    counting.commands = 0
    Installer(counting, ".", "model").install(bundle_of("new0"), keep=1)
    seen = {in_service(tmp_path)}
    assert counting.commands >= 12
    for number in range(counting.commands):
        victim = CountingTransport(tmp_path)
        setattr(victim, moment, lambda n, number=number: n == number and end_this_process())
        attempt = bundle_of(f"new{number + 1}")
        assert in_child(lambda v=victim, b=attempt: Installer(v, ".", "model").install(b, keep=1)) == 9
        seen.add(in_service(tmp_path))
    assert installer(tmp_path).install(bundle_of("last"), keep=1).sent
    assert in_service(tmp_path) == "last"
    assert len(installer(tmp_path).versions()) == 2
    assert leftovers(tmp_path) == []
    assert None not in seen
    assert len(seen) > 2, "some of the kills came after the switch"


def test_an_installer_that_switches_too_early_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: the link moves before the files are there."""

    def early(self: Installer, bundle: object, version: str) -> None:
        self._switch(version, None)
        end_this_process()

    installer(tmp_path).install(bundle_of("old"))
    monkeypatch.setattr(Installer, "_upload", early)
    in_child(lambda: installer(tmp_path).install(bundle_of("new")))
    with pytest.raises((AssertionError, OSError)):
        in_service(tmp_path)


def test_interrupt_cleans_up_and_keeps_the_old_version(tmp_path: Path) -> None:
    installer(tmp_path).install(bundle_of("old"))

    def interrupt(step: str) -> None:
        if step == "sums":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        installer(tmp_path, interrupt).install(bundle_of("new"))
    assert in_service(tmp_path) == "old"
    assert leftovers(tmp_path) == []


def test_a_version_that_fails_its_proof_never_goes_into_service(tmp_path: Path) -> None:
    def fails(folder: str) -> None:
        assert (tmp_path / folder / "ez_run").is_file()
        assert in_service(tmp_path) == "old"
        raise DeviceError("other bits")

    installer(tmp_path).install(bundle_of("old"))
    with pytest.raises(DeviceError, match="other bits"):
        installer(tmp_path).install(bundle_of("new"), prove=fails)
    assert in_service(tmp_path) == "old"
    assert len(installer(tmp_path).versions()) == 1
    assert leftovers(tmp_path) == []


def test_a_byte_lost_on_the_way_is_noticed_on_the_device(tmp_path: Path) -> None:
    installer(tmp_path).install(bundle_of("old"))
    new = bundle_of("new")
    bent = type(new)(new.name, {**new.files, "model.ez": new.files["model.ez"][:-1] + b"?"}, new.digest)
    with pytest.raises(DeviceError, match="damaged"):
        installer(tmp_path).install(bent)
    assert in_service(tmp_path) == "old"
    assert leftovers(tmp_path) == []


def test_too_little_space_is_said_before_a_byte_is_sent(small_disk: Path) -> None:
    installer(small_disk).install(bundle_of("old"))
    with pytest.raises(DeviceError, match="not enough space") as caught:
        installer(small_disk).install(bundle_of("new", 3 << 20))
    assert caught.value.exit_code == 1
    assert "kB free" in str(caught.value)
    assert in_service(small_disk) == "old"
    assert leftovers(small_disk) == []


def test_a_disk_that_fills_up_during_the_transfer(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installer(small_disk).install(bundle_of("old"))
    monkeypatch.setattr(install, "SPACE_MARGIN_KB", -(1 << 20))
    with pytest.raises(DeviceError, match="No space left"):
        installer(small_disk).install(bundle_of("new", 3 << 20))
    assert in_service(small_disk) == "old"
    assert leftovers(small_disk) == []
    monkeypatch.undo()
    installer(small_disk).install(bundle_of("new"))
    assert in_service(small_disk) == "new"


def test_a_transfer_that_may_not_write_more_keeps_the_old_version(tmp_path: Path) -> None:
    """The same without root: the device's shell may not write files over 64 kB."""

    class Limited(LocalTransport):
        def run(self, argv, **rest):
            return super().run(["sh", "-c", 'ulimit -f 128; trap "" XFSZ; exec "$@"', "sh", *argv], **rest)

    installer(tmp_path).install(bundle_of("old"))
    with pytest.raises(DeviceError, match="transfer failed"):
        Installer(Limited(tmp_path), ".", "model").install(bundle_of("new", 1 << 20))
    assert in_service(tmp_path) == "old"
    assert leftovers(tmp_path) == []


def test_a_read_only_folder_is_one_clear_message(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(DeviceError, match=r"cannot write there.*--dest"):
        installer(small_disk).install(bundle_of("new"))


def test_a_folder_that_cannot_be_made_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match=r"cannot write there.*--dest"):
        Installer(LocalTransport(tmp_path), "file/below", "model").install(bundle_of("new"))


def test_the_second_of_two_deployments_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    installer(tmp_path).install(bundle_of("old"))
    inside, done = threading.Event(), threading.Event()

    def wait(step: str) -> None:
        if step == "upload":
            inside.set()
            assert done.wait(20)

    first = threading.Thread(target=lambda: installer(tmp_path, wait).install(bundle_of("new")))
    first.start()
    assert inside.wait(20)
    with pytest.raises(DeviceError, match=r"another deployment is running.*@.*since \d+ s"):
        installer(tmp_path).install(bundle_of("third"))
    assert in_service(tmp_path) == "old"
    done.set()
    first.join()
    assert in_service(tmp_path) == "new"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("dest", ["", "-rf", "../up", "a/../b", "a b", "$(id)", "a;b", "x" * 201])
def test_a_folder_name_that_a_shell_could_misread_is_refused(tmp_path: Path, dest: str) -> None:
    with pytest.raises(UsageError, match="--dest"):
        Installer(LocalTransport(tmp_path), dest, "model")
