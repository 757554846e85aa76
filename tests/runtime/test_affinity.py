"""Which CPUs the threads keep to: kinds of cores on recorded machines, lists, and what a session really binds."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_program import small_program

from edgezip.errors import UsageError
from edgezip.runtime.session import Session, load_native

CPU = "sys/devices/system/cpu/cpu{}"
# What sysfs of these machines says: cpu_capacity (device trees of Linux, scaled by clock) or the highest clock in kHz.
CAPACITIES = {
    "rk3588": [397] * 4 + [1024] * 4,
    "snapdragon-8-gen-2": [325] * 3 + [823] * 2 + [784] * 2 + [1024],
    "rpi4": [1024] * 4,
}
CLOCKS = {"rk3399, old kernel": [1416000] * 4 + [1800000] * 2, "desktop with favoured cores": [5000000] * 6 + [5200000] * 2}


def machine(root: Path, values: list[int], file: str) -> Path:
    for cpu, value in enumerate(values):
        path = root / CPU.format(cpu) / file
        path.parent.mkdir(parents=True)
        path.write_text(f"{value}\n")
    return root


def cpus(root: Path, affinity: str | None, allowed: str) -> str:
    ffi, lib = load_native()
    text, error = ffi.new("char[64]"), ffi.new("ez_error *")
    name = ffi.NULL if affinity is None else ffi.new("char[]", affinity.encode())
    if lib.ez_affinity_of(name, os.fsencode(root), allowed.encode(), text, error):
        raise ValueError(ffi.string(error.message).decode())
    return str(ffi.string(text).decode())


@pytest.mark.parametrize(("name", "big"), [("rk3588", "4-7"), ("snapdragon-8-gen-2", "3-7"), ("rpi4", "none")])
def test_workers_keep_to_the_big_cores_where_cores_differ(tmp_path: Path, name: str, big: str) -> None:
    root = machine(tmp_path, CAPACITIES[name], "cpu_capacity")
    allowed = f"0-{len(CAPACITIES[name]) - 1}"
    assert cpus(root, None, allowed) == big
    assert cpus(root, "big", allowed) == (allowed if big == "none" else big)
    assert cpus(root, "all", allowed) == allowed
    assert cpus(root, "none", allowed) == "none"


@pytest.mark.parametrize(("name", "big"), [("rk3399, old kernel", "4-5"), ("desktop with favoured cores", "none")])
def test_clocks_tell_kinds_apart_where_there_is_no_capacity(tmp_path: Path, name: str, big: str) -> None:
    root = machine(tmp_path, CLOCKS[name], "cpufreq/cpuinfo_max_freq")
    assert cpus(root, None, f"0-{len(CLOCKS[name]) - 1}") == big


def test_an_intel_hybrid_names_its_fast_cores(tmp_path: Path) -> None:
    (tmp_path / "sys/devices/cpu_core").mkdir(parents=True)
    (tmp_path / "sys/devices/cpu_core/cpus").write_text("0-7\n")
    assert cpus(tmp_path, None, "0-15") == "0-7"
    assert cpus(tmp_path, None, "6-15") == "6-7"
    assert cpus(tmp_path, None, "8-15") == "none"


def test_only_allowed_cpus_count(tmp_path: Path) -> None:
    root = machine(tmp_path, CAPACITIES["rk3588"], "cpu_capacity")
    assert cpus(root, None, "0-3") == "none"
    assert cpus(root, None, "2-5") == "4-5"
    assert cpus(root, "all", "2-5") == "2-5"


def test_a_machine_that_says_nothing_is_left_alone(tmp_path: Path) -> None:
    assert cpus(tmp_path, None, "0-7") == "none"
    assert cpus(tmp_path, "big", "0-7") == "0-7"


def test_a_list_of_many_pieces_is_cut_and_marked(tmp_path: Path) -> None:
    assert cpus(tmp_path, "0,2-3,9", "0-15") == "0,2-3,9"
    text = cpus(tmp_path, ",".join(map(str, range(0, 200, 2))), "0-255")
    assert text.endswith("...")
    assert len(text) == 63


@pytest.mark.parametrize("bad", ["fast", "", "0,", "3-1", "0-", "-1", "1024", "0 1", "99999999999999999999", "0;1"])
def test_a_text_that_is_no_affinity_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ValueError, match="none, big, all or a list"):
        cpus(tmp_path, bad, "0-7")


def test_a_cpu_outside_of_the_allowed_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="may not use"):
        cpus(tmp_path, "7-8", "0-7")


# --- a session here ----------------------------------------------------------------------------------


def tasks() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


def masks_become(new: set[int], wanted: list[set[int]]) -> bool:
    """Whether the threads have these CPUs; a worker binds itself when it starts, so it is given some time."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if [os.sched_getaffinity(task) for task in sorted(new)] == wanted:
            return True
        time.sleep(0.01)
    return False


def test_workers_are_bound_and_the_caller_is_as_before() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    wanted, before = str(allowed[-1]), tasks()
    with Session(small_program(), threads=3, affinity=wanted, solo_us=0) as session:
        assert session.affinity == wanted
        session.run({"x": np.zeros((1, 4, 6, 6), np.float32)})
        assert masks_become(tasks() - before, [{allowed[-1]}] * 2)
    assert os.sched_getaffinity(threading.get_native_id()) == set(allowed)


def test_a_list_gives_each_thread_a_cpu() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("needs two CPUs")
    before = tasks()
    with Session(small_program(), threads=4, affinity=f"{allowed[0]},{allowed[1]}", solo_us=0) as session:
        session.run({"x": np.zeros((1, 4, 6, 6), np.float32)})
        assert masks_become(tasks() - before, [{allowed[1]}, {allowed[0]}, {allowed[1]}])


def test_a_session_refuses_what_is_no_affinity() -> None:
    with pytest.raises(UsageError, match="affinity"):
        Session(small_program(), affinity="fast")
