"""Device profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgezip import target as target_module
from edgezip.errors import TargetError
from edgezip.target import FOLDER, list_targets, load_target

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_profile_names_only_isa_folders_that_exist_for_its_architecture(target) -> None:
    for isa in target.isa:
        flags = (ROOT / "csrc" / "isa" / isa / "flags.txt").read_text()
        assert f"arch={target.arch}" in flags or "arch=any" in flags
    assert target.isa[-1] == "portable"
    assert target.sources
    assert target.cost.source


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_profile_never_builds_an_isa_that_it_says_is_absent(target) -> None:
    assert not set(target.isa) & set(target.absent)


def test_file_name_is_the_target_name() -> None:
    assert {p.stem for p in FOLDER.glob("*.toml")} == {t.name for t in list_targets()}


def test_names_and_aliases_are_unique() -> None:
    names = [name for t in list_targets() for name in (t.name, *t.aliases)]
    assert len(names) == len(set(names))
    assert "host" not in names


def test_unknown_target_names_the_nearest() -> None:
    with pytest.raises(TargetError, match="rpi4"):
        load_target("rpi44")


def test_alias_gives_the_same_profile() -> None:
    assert load_target("pi4") is load_target("rpi4")


def test_host_is_local_and_keeps_its_kernels() -> None:
    host = load_target("host")
    assert host.name == "host"
    assert host.deploy.transport == "local"


def test_packing_matches_the_first_kernel_of_the_target() -> None:
    for target in list_targets():
        table = (ROOT / "csrc" / "isa" / target.isa[0] / "table.c").read_text()
        assert f"EZ_LAYOUT_{target.layout.upper()}" in table, target.name


CPUINFO = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd aes crc32{more}\nCPU part\t: 0xd0b\n"


@pytest.mark.parametrize(
    ("more", "isa", "layout"),
    [
        (" atomics asimdhp asimddp i8mm bf16", "i8mm", "k8n16"),
        (" atomics asimdhp asimddp", "dotprod", "k4n16"),
        ("", "neon", "k8n16"),
    ],
)
def test_an_arm_host_gets_the_kernels_that_its_cores_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: str, isa: str, layout: str
) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(more=more))
    monkeypatch.setattr(target_module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(target_module.platform, "machine", lambda: "aarch64")
    host = load_target("host")
    assert (host.name, host.isa[0], host.layout, host.deploy.transport) == ("host", isa, layout, "local")


def test_a_machine_without_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module.platform, "machine", lambda: "s390x")
    with pytest.raises(TargetError, match=r"s390x.*--target"):
        load_target("host")
