"""Profiles of live devices, from recorded answers of their kernels."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edgezip.deploy import detect
from edgezip.deploy.transports.local import LocalTransport
from edgezip.errors import DeviceError
from edgezip.target import files

A76, A55 = "0xd0b", "0xd05"
RK3588 = "\n".join(
    [
        "machine aarch64",
        "model Radxa ROCK 5B",
        "cpu ",
        "features fp asimd aes crc32 atomics fphp asimdhp asimddp",
        "memory_kb 8125164",
        "libc ldd (Debian GLIBC 2.36-9) 2.36",
        f"parts {' '.join([A55] * 4 + [A76] * 4)}",
        *(
            f"core{n}.khz {1800000 if n < 4 else 2400000}\ncore{n}.capacity {414 if n < 4 else 1024}\n"
            f"core{n}.cache 1 Data {32 if n < 4 else 64}K {n}\ncore{n}.cache 1 Instruction 64K {n}\n"
            f"core{n}.cache 2 Unified {128 if n < 4 else 512}K {n}\ncore{n}.cache 3 Unified 3072K 0-7"
            for n in range(8)
        ),
        "hwmon cpu_thermal",
    ]
)
PI5 = """machine aarch64
model Raspberry Pi 5 Model B Rev 1.0
features asimd asimddp
parts 0xd0b 0xd0b
core0.khz 2400000
core1.khz 2400000
pmic yes"""


def built(facts: dict[str, object], folder: Path):
    return files.write_profile(facts, folder / f"{facts['name']}.toml")


def test_big_and_little_cores_are_told_apart_and_threads_are_the_big_ones(tmp_path: Path) -> None:
    target = built(detect.profile_of(RK3588, "rock", "device"), tmp_path)
    big, little = target.clusters
    assert (big.uarch, big.count, big.max_mhz, big.l1d_kb, big.l2_kb, big.l2_shared) == ("cortex-a76", 4, 2400, 64, 512, False)
    assert (little.uarch, little.count, little.role) == ("cortex-a55", 4, "little")
    assert (target.default_threads, target.ram_mb, target.memory.l3_kb) == (4, (7934,), 3072)
    assert (target.base, target.isa[0], target.sensor) == ("arm64-dotprod", "dotprod", "none")
    assert target.device_libc == "ldd (Debian GLIBC 2.36-9) 2.36"


def test_the_power_sensor_is_what_the_device_shows() -> None:
    assert detect.profile_of(PI5, "pi", "device")["sensor"] == "pmic"
    for line, sensor in (
        ("hwmon ina3221", "ina3221"),
        ("hwmon ina226", "hwmon"),
        ("rapl yes", "rapl"),
        ("battery yes", "battery"),
    ):
        assert detect.profile_of(f"machine aarch64\n{line}", "x", "device")["sensor"] == sensor
    assert detect.profile_of("machine aarch64\nhwmon coretemp", "x", "device")["sensor"] == "none"


def test_what_the_kernel_does_not_say_is_left_out(tmp_path: Path) -> None:
    target = built(
        detect.profile_of("machine x86_64\nfeatures sse4_1\ncore0.khz \ncore0.cache 2 Unified 0K 0", "vm", "device"), tmp_path
    )
    assert (target.base, target.ram_mb, target.clusters[0].l2_kb, target.clusters[0].max_mhz) == (
        "x86-sse41",
        (4096, 8192, 16384),
        None,
        None,
    )


@pytest.mark.parametrize(
    "answer",
    ["", "machine s390x", "machine \x00", "core99999.khz 5\nmachine mips"],
)
def test_a_device_without_kernels_is_refused(answer: str) -> None:
    with pytest.raises(DeviceError, match="no kernels"):
        detect.profile_of(answer, "x", "device")


def test_nonsense_of_a_device_becomes_no_fact(tmp_path: Path) -> None:
    hostile = (
        "machine aarch64\nmodel "
        + "x" * 5000
        + "\nmemory_kb 99999999999999999\ncore0.khz -1\ncore0.cache 1 Data 12Q 0\ncore9999.khz 7\nparts ' OR 1"
    )
    target = built(detect.profile_of(hostile, "x", "device"), tmp_path)
    assert len(target.summary) < 200
    assert target.ram_mb == ()
    assert target.clusters[0].max_mhz is None


def test_a_base_of_the_users_choice_is_built_on(tmp_path: Path) -> None:
    assert built(detect.profile_of(PI5, "mine", "device", "rpi5"), tmp_path).mca == "neoverse-n1"


def test_this_machine_is_detected(tmp_path: Path) -> None:
    target = built(detect.detect(LocalTransport(tmp_path), "here"), tmp_path)
    assert sum(cluster.count for cluster in target.clusters) >= 1
    assert target.arch == {"x86_64": "x86_64", "aarch64": "aarch64"}.get(platform.machine(), target.arch)
