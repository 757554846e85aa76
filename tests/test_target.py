"""Device profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgezip.errors import TargetError
from edgezip.target import FOLDER, files, list_targets, load_target, profile_path
from edgezip.target import host as host_module

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_profile_names_only_isa_folders_that_exist_for_its_architecture(target) -> None:
    for isa in target.isa:
        flags = (ROOT / "csrc" / "isa" / isa / "flags.txt").read_text()
        assert f"arch={target.arch}" in flags or "arch=any" in flags
    assert target.isa[-1] == "portable"
    assert target.emulator is not None
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
    monkeypatch.setattr(host_module, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(host_module.platform, "machine", lambda: "aarch64")
    host = load_target("host")
    assert (host.name, host.isa[0], host.layout, host.deploy.transport) == ("host", isa, layout, "local")


def test_a_machine_without_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module.platform, "machine", lambda: "s390x")
    with pytest.raises(TargetError, match=r"s390x.*--target"):
        load_target("host")


WANTED = (
    "rpi-zero2w rpi2 rpi3 rpi4 rpi5 android-arm64 android-i8mm android-a53 jetson-nano jetson-orin-nano rk3588 imx8mp "
    "x86-64 x86-sse41 x86-avx2 x86-avxvnni x86-avx512vnni x86-amx armv7 riscv64-generic visionfive2"
)


def test_the_devices_that_people_own_have_profiles() -> None:
    assert {target.name for target in list_targets()} >= set(WANTED.split())


@pytest.mark.parametrize("target", [t for t in list_targets() if t.arch == "x86_64"], ids=lambda t: t.name)
def test_an_x86_profile_says_what_is_present_for_each_of_its_kernels(target) -> None:
    if target.name != "x86-64":  # any machine: chosen when it starts
        assert set(target.isa) - {"portable"} <= set(target.present)
        assert {"avx2", "avx512vnni", "amx"} <= {*target.present, *target.absent}


VALID = """
name = "board"
base = "rpi4"
summary = "a board"
sources = ["its maker"]
"""


def write(folder: Path, text: str, name: str = "board") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_a_profile_takes_from_its_base_what_it_does_not_say(tmp_path: Path) -> None:
    board, base = files.read_profile(write(tmp_path, VALID + "default_threads = 2\n")), load_target("rpi4")
    assert (board.default_threads, board.clusters, board.cost) == (2, base.clusters, base.cost)
    assert board.sources == ("its maker", *base.sources)
    assert (board.aliases, board.reference) == ((), ())


def test_tables_are_replaced_whole(tmp_path: Path) -> None:
    path = write(tmp_path, VALID + "[cost]\ns8_gmacs = 1.0\n")
    with pytest.raises(TargetError, match=r"board\.toml.*cost\.f32_gmacs is missing"):
        files.read_profile(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default_threads = 0", r"board\.toml.*default_threads = 0: .*greater than or equal to 1"),
        ("default_threads = 8", r"default_threads = 8, but the big cluster has 4 cores"),
        ("defualt_threads = 2", r"defualt_threads is no key of a profile, did you mean default_threads\?"),
        ('present = ["sve"]', r"absent and present at once: sve"),
        ('zig_cpu = "cortex-a72"', r'zig_cpu = "cortex-a72": '),
        ('sensor = "guess"', r'sensor = "guess": '),
        ("[[clusters]]\nuarch = 'x'\ncount = -1", r"clusters\.0\.count = -1: "),
        ("[cost]\ns8_gmacs = nan\nf32_gmacs = 1\nstream_gbs = 1\noverhead_us = 1\nsource = 's'", r"cost\.s8_gmacs = NaN"),
        ("default_threads = [", r"not a TOML file"),
    ],
)
def test_a_wrong_profile_is_refused_by_file_key_and_value(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        files.read_profile(write(tmp_path, VALID + text + "\n"))


def test_an_unknown_base_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"no such base.*'rpi44'.*rpi4"):
        files.read_profile(write(tmp_path, VALID.replace('"rpi4"', '"rpi44"')))


def test_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        write(tmp_path, VALID.replace('"board"', f'"{one}"').replace('"rpi4"', f'"{other}"'), one)
    with pytest.raises(TargetError, match=r"a circle of bases.*a -> b -> a"):
        files._load_all(tmp_path, {})


def test_a_profile_of_another_name_than_its_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="the file's name"):
        files.read_profile(write(tmp_path, VALID, "other"))


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


FACTS = {"name": "board", "base": "rpi4", "summary": "a board", "sources": ["its maker"], "aliases": ["myboard"]}


def test_an_added_profile_is_known_by_name_and_alias(own_folder: Path) -> None:
    path = files.add_profile(FACTS)
    assert path == profile_path("board")
    assert load_target("board").summary == load_target("myboard").summary == "a board"
    assert "board" in [target.name for target in list_targets()]


def test_a_name_in_use_is_not_taken(own_folder: Path) -> None:
    with pytest.raises(TargetError, match=r"the name is taken.*rpi4"):
        files.add_profile(FACTS | {"name": "rpi4", "base": "rpi5"})
    with pytest.raises(TargetError, match=r"the name is taken.*pi5"):
        files.add_profile(FACTS | {"aliases": ["pi5"]})
    files.add_profile(FACTS)
    with pytest.raises(TargetError, match="--replace"):
        files.add_profile(FACTS)
    assert files.add_profile(FACTS | {"summary": "newer"}, replace=True)
    assert load_target("board").summary == "newer"


def test_an_invalid_profile_leaves_no_file(own_folder: Path) -> None:
    with pytest.raises(TargetError):
        files.add_profile(FACTS | {"layout": "none"})
    assert not list(own_folder.rglob("*.toml"))


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_a_profile_written_as_toml_is_read_as_it_was(tmp_path: Path, target) -> None:
    facts = target.model_dump(exclude_none=True)
    path = tmp_path / f"{target.name}.toml"
    path.write_text(files.toml({key: value for key, value in facts.items() if key != "base"}))
    assert files.read_profile(path) == target.model_copy(update={"base": None})


@pytest.mark.parametrize(
    ("machine", "features", "name"),
    [
        ("x86_64", "sse4_1 sse4_2", "x86-sse41"),
        ("x86_64", "sse4_1 avx2 fma", "x86-64"),
        ("x86_64", "", "x86-64"),
        ("aarch64", "asimd asimddp i8mm", "arm64-i8mm"),
        ("armv7l", "neon vfpv4", "armv7"),
        ("riscv64", "", "riscv64-generic"),
        ("s390x", "", None),
    ],
)
def test_a_machine_gets_the_profile_whose_kernels_it_has(machine: str, features: str, name: str | None) -> None:
    assert host_module.profile_for(machine, frozenset(features.split())) == name


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_patterns_are_those_that_a_kernel_of_the_target_skips(target) -> None:
    """A group is a k-step of the layout by 16 outputs; every break-even table is of an ISA with such a kernel."""
    wide = target.layout == "k8n16"
    assert set(target.sparse_patterns) <= ({"8x16"} if wide else {"4x16", "4x32"})
    skips = {isa for isa in target.sparse if isa != "portable"}
    assert bool(target.sparse_patterns) == bool(skips), target.name
    for isa in target.sparse:
        assert ".blocks_s8 = " in (ROOT / "csrc" / "isa" / isa / "table.c").read_text()


def test_a_profile_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(OSError):
        files.write_whole(tmp_path / "mine.toml", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]
