"""Programs compiled into binaries and C sources: they compute the same bits, and hold nothing that they do not need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgezip
from edgezip.cli import context
from edgezip.cli.main import main
from edgezip.deploy import embed
from edgezip.deploy.build import find_compiler, source_folder
from edgezip.errors import UnsupportedModelError, UsageError
from edgezip.runtime.reference import ReferenceSession
from edgezip.target import load_target

DEMO = Path(edgezip.__file__).parent / "data" / "demo"
EXAMPLES = Path(edgezip.__file__).parents[1] / "examples"
SLOTS = set(embed.SLOT.findall((source_folder() / "isa" / "rows.inc").read_text()))


def test_a_program_brings_its_own_operators_and_rows_alone(demo_programs) -> None:
    program = demo_programs("rpi4")
    text = embed.operators(program)
    assert set(re.findall(r"&ez_op_(\w+)", text)) == {step.op.name.lower() for step in program.steps}
    rows = set(re.findall(r"\.(\w+)=", embed._rows(program)))
    assert rows < SLOTS
    assert {"quantize", "max_s8"} <= rows
    assert "prelu_s8" not in rows


def test_every_row_kernel_is_named_by_some_source() -> None:
    """Else a program whose operators call it would be left without."""
    sources = [path.read_text() for folder in ("ops", "core") for path in (source_folder() / folder).glob("*.[ch]")]
    named = {slot for text in sources for slot in embed.MEMBER.findall(text)}
    assert not SLOTS - named


@pytest.mark.parametrize("text", ["", "9lives", "ü", "--"])
def test_a_name_that_c_does_not_take_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="C takes"):
        embed.c_name(text)
    assert embed.c_name("My Model-v2.1") == "my_model_v2_1"


def test_the_header_says_what_goes_in_and_out(demo_programs) -> None:
    text = embed.header(demo_programs("rpi4"), "net")
    assert "#define NET_INPUTS 1" in text
    assert "image: float32 1x1x28x28" in text
    assert "#define NET_INPUT_0_BYTES 3136" in text
    assert "#define NET_OUTPUT_0_BYTES 40" in text


def test_sources_are_not_written_over_something(demo_programs, tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    with pytest.raises(UsageError, match="there already"):
        embed.write_sources(demo_programs("rpi4"), load_target("rpi4"), tmp_path / "net", "net")
    assert not list((tmp_path / "net").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_program_of_any_size_is_refused(demo_programs, tmp_path: Path) -> None:
    from dataclasses import replace

    program = demo_programs("rpi4")
    sized = replace(program, metadata={**program.metadata, "dims": {"n": "1..4"}})
    with pytest.raises(UnsupportedModelError, match="--dim"):
        embed.write_sources(sized, load_target("rpi4"), tmp_path / "net", "net")


def test_form_name_and_libc_must_fit(capsys, tmp_path: Path) -> None:
    model = str(DEMO / "fashion_cnn.onnx")
    assert main(["compile", model, "-o", str(tmp_path / "net.ez"), "--emit", "exe"]) == 2
    assert main(["compile", model, "-o", str(tmp_path / "net"), "--emit", "ez"]) == 2
    assert main(["compile", model, "-o", str(tmp_path / "net"), "--emit", "c", "--libc", "gnu.2.28"]) == 2
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def sources(demo_programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo network as a C library of this machine's portable kernels, made by its own Makefile."""
    folder = tmp_path_factory.mktemp("embed") / "demo"
    target = load_target("x86-sse41")
    embed.write_sources(demo_programs("x86-sse41"), target, folder, "demo")
    subprocess.run(["make", "-s", "-C", folder, "libdemo.a", "libdemo.so"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.bin"
    path.write_bytes((np.load(DEMO / "samples.npz")["calibration"][3].astype(np.float32) / 255).tobytes())
    return path


@pytest.mark.slow
@pytest.mark.xdist_group("embed")
def test_the_examples_give_the_reference_answer_without_heap_and_files(demo_programs, sources: Path, picture: Path) -> None:
    program = demo_programs("x86-sse41")
    image = np.frombuffer(picture.read_bytes(), np.float32).reshape(1, 1, 28, 28)
    scores = next(iter(ReferenceSession(program).run({"image": image}).values())).ravel()
    example = sources / "classify"
    flags = [
        "-O2",
        f"-I{sources}",
        EXAMPLES / "c" / "classify.c",
        sources / "libdemo.a",
        "-lm",
        "-Wl,--gc-sections",
        "-o",
        example,
    ]
    subprocess.run(["cc", *flags], check=True)
    said = subprocess.run([example, picture], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"class {scores.argmax()}, score {scores.max():.4f}, ")
    used = int(said.split(", ")[-1].split()[0])
    assert program.arena_bytes < used <= embed.memory_bytes(program, load_target("x86-sse41"))
    shared = [sys.executable, EXAMPLES / "python" / "classify.py", sources / "libdemo.so", picture]
    assert subprocess.run(shared, capture_output=True, text=True, check=True).stdout.startswith(said.rpartition(",")[0])
    wanted = subprocess.run(["nm", "-u", sources / "libdemo.so"], capture_output=True, text=True, check=True).stdout
    foreign = {line.split()[-1].split("@")[0] for line in wanted.splitlines()}
    assert not foreign & {"malloc", "calloc", "free", "realloc", "aligned_alloc", "mmap", "open", "fopen", "pthread_create"}


@pytest.mark.slow
@pytest.mark.xdist_group("embed")
def test_a_damaged_program_and_too_little_memory_are_told(demo_programs, sources: Path, tmp_path: Path) -> None:
    """The planted faults: a byte of the network changed, and a block of memory that is too small."""
    body = 'int w = demo_self_test(); printf("%d %s", w, demo_message()); return 0;'
    main_c = f'#include <stdio.h>\n#include "demo.h"\nint main(void) {{ {body} }}'
    (tmp_path / "main.c").write_text(main_c)
    text = (sources / "demo.c").read_text()
    words = re.findall(r"0x\w+u", text)
    middle = words[len(words) // 2]
    damaged = text.replace(middle, hex(int(middle[:-1], 16) ^ 1) + "u", 1)
    for source, flags, expected in (
        (damaged, [], "-1 "),
        (text, ["-DDEMO_MEMORY_BYTES=4096"], "-1 out of memory"),
        (text, [], "0 "),
    ):
        (tmp_path / "demo.c").write_text(source)
        include = [f"-I{sources}", f"-I{sources}/runtime", f"-I{sources}/runtime/include", *embed.EMBEDDED, *flags]
        subprocess.run(["cc", *include, "-c", tmp_path / "demo.c", "-o", tmp_path / "demo.o"], check=True)
        objects = [tmp_path / "demo.o", sources / "libdemo.a", "-lm", "-o", tmp_path / "main"]
        subprocess.run(["cc", f"-I{sources}", tmp_path / "main.c", *objects], check=True)
        said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
        assert said.startswith(expected), said


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.xdist_group("cross")
@pytest.mark.parametrize("name", ["rpi4", "rpi5", "armv7", "riscv64-generic", "x86-sse41"])
def test_a_binary_with_its_program_gives_the_bits_under_its_emulator(
    demo_programs, require_tools, tmp_path: Path, picture: Path, name: str
) -> None:
    target, program = load_target(name), demo_programs(name)
    assert target.emulator is not None
    require_tools(target.emulator.qemu)
    made = embed.build_exe(
        program, target, tmp_path / "net", compiler=find_compiler(target, "zig"), cache_dir=context.current.cache_dir
    )
    assert made.code_bytes is not None
    # Row kernels of both NEON and dot products are in a binary for the latter: 252 kB (zig 0.17.1, 2026-11-24); rpi4 has 194.
    assert made.code_bytes < (260_000 if "dotprod" in target.isa else 200_000)
    emulated = [target.emulator.qemu, "-cpu", target.emulator.cpu, tmp_path / "net"]
    answer = json.loads(subprocess.run([*emulated, "verify"], capture_output=True, text=True, check=True).stdout)
    assert (answer["isa"], answer["passed"], answer["mismatched_bytes"]) == (target.isa[0], len(program.vectors), 0)
    subprocess.run([*emulated, "run", picture, "--output", tmp_path], check=True, capture_output=True)
    image = np.frombuffer(picture.read_bytes(), np.float32).reshape(1, 1, 28, 28)
    expected = next(iter(ReferenceSession(program).run({"image": image}).values()))
    assert (tmp_path / "OUT_0.bin").read_bytes() == expected.tobytes()


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.xdist_group("cross")
def test_a_library_links_into_the_users_own_program(demo_programs, require_tools, tmp_path: Path, picture: Path) -> None:
    target, program = load_target("rpi4"), demo_programs("rpi4")
    assert target.emulator is not None
    require_tools(target.emulator.qemu)
    compiler = find_compiler(target, "zig")
    made = embed.build_lib(program, target, tmp_path / "lib", "demo", compiler=compiler, cache_dir=context.current.cache_dir)
    assert sorted(path.name for path in (tmp_path / "lib").iterdir()) == ["demo.h", "libdemo.a"]
    assert made.bytes == (tmp_path / "lib" / "libdemo.a").stat().st_size
    example = [EXAMPLES / "c" / "classify.c", tmp_path / "lib" / "libdemo.a", "-lm", "-o", tmp_path / "classify"]
    subprocess.run([*compiler.link, "-static", f"-I{tmp_path / 'lib'}", *example], check=True, capture_output=True)
    emulated = [target.emulator.qemu, "-cpu", target.emulator.cpu, tmp_path / "classify", picture]
    said = subprocess.run(emulated, capture_output=True, text=True, check=True).stdout
    image = np.frombuffer(picture.read_bytes(), np.float32).reshape(1, 1, 28, 28)
    scores = next(iter(ReferenceSession(program).run({"image": image}).values())).ravel()
    assert said.startswith(f"class {scores.argmax()}, score {scores.max():.4f}, ")


@pytest.mark.slow
@pytest.mark.xdist_group("cross")
def test_a_binary_for_an_older_glibc_is_dynamic_and_runs_here(demo_programs, tmp_path: Path) -> None:
    target = load_target("x86-sse41")
    embed.build_exe(
        demo_programs("x86-sse41"),
        target,
        tmp_path / "net",
        compiler=find_compiler(target, "zig"),
        cache_dir=context.current.cache_dir,
        libc="gnu.2.28",
    )
    answer = json.loads(subprocess.run([tmp_path / "net", "verify"], capture_output=True, text=True, check=True).stdout)
    assert (answer["isa"], answer["mismatched_bytes"]) == ("portable", 0)
    symbols = subprocess.run(["nm", "-D", tmp_path / "net"], capture_output=True, text=True, check=True).stdout
    wanted = {tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([\d.]+)", symbols)}
    assert wanted
    assert max(wanted) <= (2, 28)


def test_a_binary_that_cannot_be_placed_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"binary")
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError):
        embed._move(tmp_path / "made", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "out"]
