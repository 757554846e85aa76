"""Devices for the tests of deployment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deploy_devices import SshDevice


@pytest.fixture(scope="session")
def _ssh_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshDevice]:
    device = SshDevice(tmp_path_factory.mktemp("sshd"))
    yield device
    device.stop()


@pytest.fixture
def ssh_device(_ssh_device: SshDevice, require_tools) -> SshDevice:
    """The server, running (a test may have stopped it)."""
    require_tools("ssh", "ssh-keygen", "/usr/sbin/sshd")
    if _ssh_device.server is None:
        _ssh_device.start()
    return _ssh_device
