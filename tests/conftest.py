"""Shared by all tests: what a machine must offer, and what is missing is a failure in CI."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_measured_targets(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a developer measured on his machine changes no test."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))


def require(*programs: str) -> None:
    """Skip when a program is not installed; fail instead where EDGEZIP_REQUIRE_TOOLS is set (CI)."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        message = f"needs {', '.join(missing)}"
        pytest.fail(message) if os.environ.get("EDGEZIP_REQUIRE_TOOLS") else pytest.skip(message)


@pytest.fixture
def require_tools() -> object:
    """The function ``require``, for tests that run an emulator, a compiler or a server."""
    return require
