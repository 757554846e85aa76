"""One deployment at a time; a lock dies with its owner."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from edgezip.deploy import lock as lock_module
from edgezip.deploy.lock import Lock
from edgezip.deploy.transports.local import LocalTransport
from edgezip.errors import DeviceError


def lock_on(root: Path) -> Lock:
    transport = LocalTransport(root)
    return Lock(lambda script, *arguments: transport.run(["sh", "-c", script, "sh", *arguments]), "model", "device:model")


def test_taken_and_released(tmp_path: Path) -> None:
    first = lock_on(tmp_path)
    first.take()
    with pytest.raises(DeviceError, match="another deployment is running"):
        lock_on(tmp_path).take()
    first.release()
    lock_on(tmp_path).take()


def test_released_by_another_it_stays(tmp_path: Path) -> None:
    lock_on(tmp_path).take()
    lock_on(tmp_path).release()
    assert (tmp_path / "model/.lock").is_symlink()


def test_a_dead_process_of_this_machine_loses_it(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        try:
            lock_on(tmp_path).take()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "model/.lock").is_symlink()
    lock_on(tmp_path).take()
    assert list((tmp_path / "model").iterdir()) == [tmp_path / "model/.lock"]


@pytest.mark.parametrize("owner", ["someone@elsewhere,0123456789ab,1,00", "nonsense", "a,b,c,d,e,f"])
def test_an_owner_elsewhere_keeps_it_until_it_is_too_old(tmp_path: Path, owner: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/.lock").symlink_to(owner)
    with pytest.raises(DeviceError, match="since"):
        lock_on(tmp_path).take()
    subprocess.run(["touch", "-h", "-d", f"-{lock_module.STALE_S + 60} seconds", tmp_path / "model/.lock"], check=True)
    lock_on(tmp_path).take()


def test_of_many_that_see_the_same_dead_owner_one_wins(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for _ in range(5):
        link = tmp_path / "model/.lock"
        link.unlink(missing_ok=True)
        link.symlink_to("someone@elsewhere,0123456789ab,1,00")
        subprocess.run(["touch", "-h", "-d", f"-{lock_module.STALE_S + 60} seconds", link], check=True)
        won: list[Lock] = []

        def attempt(won: list[Lock] = won) -> None:
            mine = lock_on(tmp_path)
            try:
                mine.take()
            except DeviceError:
                return
            won.append(mine)

        threads = [threading.Thread(target=attempt) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [mine.owner for mine in won] == [str(link.readlink())]
