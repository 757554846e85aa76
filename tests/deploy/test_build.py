"""The runner, cross-compiled: static, small, and without an instruction that its CPU lacks."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import threading
from pathlib import Path

import pytest

from edgezip.cli import context
from edgezip.deploy import build
from edgezip.deploy.build import Compiler, build_runner, find_compiler, isa_flags, source_folder
from edgezip.errors import ToolError
from edgezip.target import Target, list_targets, load_target

# Mnemonics that the A72 does not have: dot products, i8mm, LSE atomics, fp16 multiply-long, SVE predicates.
BEYOND_A72 = re.compile(
    r"\t(?:[su]dot|[us]mmla|usdot|bfdot|fmlal\w*|casa?l?[bh]?|casp\w*|swpa?l?[bh]?|ld(?:add|clr|set|eor|smax|umax)a?l?[bh]?|ptrue|whilelo)\s"
)


# LLVM's names of the features that a profile calls absent
FEATURES = {
    "crypto": "aes,-sha2", "dotprod": "dotprod", "fp16": "fullfp16", "lse": "lse", "i8mm": "i8mm", "sve": "sve", "bf16": "bf16",
}  # fmt: skip
# Links our objects alone into one, without the compiler's libraries.
ALONE = (
    'for word; do case "$word" in *.o) set -- "$@" "$word";; esac; out=$word; shift; done; aarch64-linux-gnu-ld -r "$@" -o "$out"'
)


def foreign_to(target: Target, path: Path) -> dict[str, int]:
    """Functions of a binary that hold instructions which the target's CPU lacks, and how many: LLVM decodes for that very CPU."""
    lacks = ",".join(f"-{FEATURES[name]}" for name in target.absent)
    command = ["llvm-objdump", "-d", f"--mcpu={target.zig_cpu.replace('_', '-')}", f"--mattr={lacks}", path]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, int] = {}
    function = ""
    for line in text.splitlines():
        if heading := re.match(r"[0-9a-f]+ <(.*)>:", line):
            function = heading.group(1)
        elif "<unknown>" in line:
            found[function] = found.get(function, 0) + 1
    assert function, "nothing was decoded"
    return found


def disassemble(path: Path) -> str:
    return subprocess.run(["aarch64-linux-gnu-objdump", "-d", path], capture_output=True, text=True, check=True).stdout


def test_runner_of_this_machine_is_static_and_knows_its_kernels() -> None:
    target = load_target("host")
    runner = build_runner(target, cache_dir=context.current.cache_dir)
    assert b"/ld-linux" not in runner.read_bytes()
    usage = subprocess.run([runner], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "usage: ez_run" in usage.stderr


def test_the_second_build_is_taken_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("host")
    first = build_runner(target, cache_dir=context.current.cache_dir)
    monkeypatch.setattr(build, "call", lambda *_: pytest.fail("compiled again"))
    assert build_runner(target, cache_dir=context.current.cache_dir) == first


def test_other_flags_compiler_or_isas_are_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target("rpi4")
    compiler = Compiler(("cc", "-mcpu=a"), ("cc",), "gcc", "1")
    link = build.LINK
    seen = {build._digest(target, compiler, link), build._digest(target, compiler, (*link, "-s"))}
    for other in (
        Compiler(("cc", "-mcpu=b"), ("cc",), "gcc", "1"),
        Compiler(("cc", "-mcpu=a"), ("cc", "-x"), "gcc", "1"),
        Compiler(("cc", "-mcpu=a"), ("cc",), "gcc", "2"),
    ):
        seen.add(build._digest(target, other, link))
    seen.add(build._digest(target.model_copy(update={"isa": ("portable",)}), compiler, link))
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    seen.add(build._digest(target, compiler, link))
    assert len(seen) == 7


def test_without_a_compiler_the_message_names_both_ways_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ToolError, match=r"edgezip\[cross\].*apt install gcc-aarch64-linux-gnu"):
        find_compiler(load_target("rpi4"))


def test_an_unknown_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEZIP_COMPILER", "tcc")
    with pytest.raises(ToolError, match="zig or gcc"):
        find_compiler(load_target("rpi4"))


def test_a_compiler_that_fails_leaves_its_words_and_no_runner(tmp_path: Path) -> None:
    broken = ("sh", "-c", "echo 'ez_run.c: error: boom' >&2; exit 1", "sh")
    with pytest.raises(ToolError, match="boom"):
        build_runner(load_target("host"), cache_dir=tmp_path, compiler=Compiler(broken, broken, "gcc", "0"))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]


def test_of_two_builds_at_once_the_second_waits_and_finds_the_work_done(tmp_path: Path) -> None:
    counter = tmp_path / "calls"
    script = f'echo x >> {counter}; while [ $# -gt 1 ]; do shift; done; sleep 0.01; echo binary > "$1"'
    slow = ("sh", "-c", script, "sh")
    made: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: made.append(
                build_runner(load_target("host"), cache_dir=tmp_path, compiler=Compiler(slow, slow, "gcc", "0"))
            )
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] == made[1]
    sources = [source for _, group, _ in build.groups(load_target("host"), Compiler(slow, slow, "gcc", "0")) for source in group]
    assert len(counter.read_text().split()) == len(sources) + 1


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_only_files_of_an_isa_folder_get_its_flags(target: Target) -> None:
    compiler = Compiler(("cc",), ("cc",), "gcc", "1")
    groups = {name: extra for name, _, extra in build.groups(target, compiler)}
    assert {name for name in groups if name.startswith("isa-")} == {f"isa-{isa}" for isa in target.isa}
    for name, extra in groups.items():
        isa = name.removeprefix("isa-")
        flags = isa_flags(source_folder() / "isa" / isa, "gcc") if name.startswith("isa-") else ()
        assert tuple(f for f in extra if not f.startswith("-DEZ_HAVE_")) == flags
        assert name == "dispatch" or flags == extra, "what dispatch.c alone is told lets targets share objects"


@pytest.mark.slow
@pytest.mark.xdist_group("cross")
def test_runner_of_the_raspberry_pi_4_is_small_static_and_has_no_instruction_beyond_its_cpu(require_tools) -> None:
    require_tools("aarch64-linux-gnu-objdump")
    target = load_target("rpi4")
    runner = build_runner(target, cache_dir=context.current.cache_dir, compiler=find_compiler(target, "zig"))
    assert runner.stat().st_size < 440_000  # 411 kB with decoding of coded programs and 33 operators (zig 0.14, 2026-11-24)
    assert b"/ld-" not in runner.read_bytes()
    code = disassemble(runner)
    assert "smull" in code, "the NEON kernels are there"
    assert BEYOND_A72.findall(code) == []


@pytest.mark.slow
@pytest.mark.xdist_group("cross")
@pytest.mark.parametrize("name", ["rpi4", "rpi5"])
def test_the_whole_runner_of_zig_holds_no_instruction_beyond_the_cpu(require_tools, name: str) -> None:
    require_tools("llvm-objdump")
    target = load_target(name)
    runner = build_runner(target, cache_dir=context.current.cache_dir, compiler=find_compiler(target, "zig"))
    assert foreign_to(target, runner) == {}


@pytest.mark.slow
@pytest.mark.xdist_group("cross")
def test_all_that_gcc_makes_of_our_sources_holds_no_instruction_beyond_the_cpu(require_tools) -> None:
    """Of our sources alone: glibc brings memcpy for SVE and atomics of ARMv8.1 beside the plain ones, and asks the kernel."""
    require_tools("llvm-objdump", "aarch64-linux-gnu-ld", "aarch64-linux-gnu-gcc")
    target = load_target("rpi4")
    gcc = find_compiler(target, "gcc")
    ours = Compiler(gcc.command, ("sh", "-c", ALONE, "sh"), "gcc", gcc.version)
    binary = build_runner(target, cache_dir=context.current.cache_dir, compiler=ours)
    assert "ez_session_run" in subprocess.run(["aarch64-linux-gnu-nm", binary], capture_output=True, text=True, check=True).stdout
    assert foreign_to(target, binary) == {}


@pytest.mark.slow
@pytest.mark.xdist_group("cross")
def test_an_instruction_beyond_the_cpu_is_seen_by_that_search(require_tools, tmp_path: Path) -> None:
    """The planted faults: a dot product, an atomic of ARMv8.1, half precision, AES; an A76 has the first three."""
    require_tools("llvm-objdump", "aarch64-linux-gnu-gcc")
    words = ("sdot v0.4s, v1.16b, v2.16b", "ldadd w0, w1, [x2]", "fadd v0.8h, v1.8h, v2.8h", "aese v0.16b, v1.16b")
    body = "".join(f'__asm__("{word}");' for word in words)
    (tmp_path / "x.c").write_text(f'void planted(void) {{ {body} }} void innocent(void) {{ __asm__("mul w0, w1, w2"); }}')
    flags = ["-march=armv8.2-a+dotprod+lse+fp16+aes", "-c", tmp_path / "x.c", "-o", tmp_path / "x.o"]
    subprocess.run(["aarch64-linux-gnu-gcc", *flags], check=True)
    assert foreign_to(load_target("rpi4"), tmp_path / "x.o") == {"planted": 4}
    assert foreign_to(load_target("rpi5"), tmp_path / "x.o") == {}


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.xdist_group("cross")
def test_the_runner_that_gcc_makes_runs_under_the_emulated_raspberry_pi_4(demo_programs, tmp_path: Path, require_tools) -> None:
    require_tools("qemu-aarch64", "aarch64-linux-gnu-gcc")
    target = load_target("rpi4")
    (tmp_path / "model.ez").write_bytes(demo_programs("rpi4").to_bytes())
    runner = build_runner(target, cache_dir=context.current.cache_dir, compiler=find_compiler(target, "gcc"))
    command = ["qemu-aarch64", "-cpu", "cortex-a72", runner, "verify", tmp_path / "model.ez"]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (answer["isa"], answer["passed"], answer["mismatched_bytes"]) == ("neon", answer["vectors"], 0)


@pytest.mark.slow
@pytest.mark.xdist_group("cross")
def test_the_same_search_finds_the_dot_products_of_the_raspberry_pi_5(require_tools) -> None:
    require_tools("aarch64-linux-gnu-objdump")
    target = load_target("rpi5")
    runner = build_runner(target, cache_dir=context.current.cache_dir, compiler=find_compiler(target, "zig"))
    assert "sdot" in {found.strip() for found in BEYOND_A72.findall(disassemble(runner))}


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.xdist_group("cross")
@pytest.mark.parametrize(
    ("name", "cpu", "isa"),
    [("rpi4", "cortex-a72", "neon"), ("rpi5", "cortex-a76", "dotprod"), ("arm64-i8mm", "max,sve=off,sme=off", "i8mm")],
)
def test_runner_offers_the_kernels_that_its_cpu_has(
    demo_programs, tmp_path: Path, require_tools, name: str, cpu: str, isa: str
) -> None:
    require_tools("qemu-aarch64")
    (tmp_path / "model.ez").write_bytes(demo_programs(name).to_bytes())
    target = load_target(name)
    runner = build_runner(target, cache_dir=context.current.cache_dir, compiler=find_compiler(target, "zig"))
    done = subprocess.run(
        ["qemu-aarch64", "-cpu", cpu, runner, "verify", tmp_path / "model.ez"], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    assert (answer["isa"], answer["passed"], answer["mismatched_bytes"]) == (isa, answer["vectors"], 0)
    assert answer["vectors"] > 0
