"""Devices for the tests of deployment."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

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


@pytest.fixture(scope="session")
def demo_programs():
    """The demo model in int8, compiled for a target by name."""
    import numpy as np

    import edgezip
    from edgezip.compression import compress
    from edgezip.recipe import Recipe

    demo = Path(edgezip.__file__).parent / "data" / "demo"
    pictures = np.load(demo / "samples.npz")["calibration"][:8].astype(np.float32)[:, None, None] / 255
    model = edgezip.load(demo / "fashion_cnn.onnx")
    small = compress(model, Recipe.int8("minmax"), calibration=[{"image": picture} for picture in pictures])
    return cache(lambda target: edgezip.compile(small.model, target=target))
