"""A program made part of a binary: ``compile --emit exe | lib | c``.

All three hold the runtime with the operators that the program uses and no others. ``exe`` is the runner with the program inside.
``c`` is a folder: NAME.h and NAME.c with the program as an array, and the runtime's sources, in which one static block takes the
place of the heap; there are no threads and no files. ``lib`` is those, compiled for the target: libNAME.a and NAME.h.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgezip.deploy.build import FLAGS, LINK, STRIP, Compiler, Group, call, compile_all, groups, source_folder
from edgezip.errors import ToolError, UnsupportedModelError, UsageError
from edgezip.program import DType, Op, Program, Tensor
from edgezip.target import Target

OPERATOR = re.compile(r"\[(EZ_OP_\w+)\]\s*=\s*&(ez_op_\w+)")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
# Replaced by csrc/embed: one thread in the caller, no choice of CPUs.
THREADED = frozenset({"pool.c", "affinity.c", "futex.c"})
# What runs once, before the first inference: compiled for size. The rest of core/ is in every inference.
HOT = frozenset(
    {
        "block.c", "blocks.c", "conv_driver.c", "conv_grid.c", "conv_halo.c", "conv_spans.c", "depthwise_driver.c",
        "kernel_step.c", "panels.c", "pool.c", "vectors.c", "winograd_driver.c", "work.c",
    }
)  # fmt: skip
WITHOUT_PRODUCTS = frozenset(
    {Op.BINARY, Op.UNARY, Op.TABLE, Op.POOL, Op.REDUCE, Op.SOFTMAX, Op.RESIZE, Op.COPY, Op.GATHER, Op.PRELU}
)
MEMBER = re.compile(r"(?:\.|->)(\w+)\b")
FROM_ISA = re.compile(r"ez_rows_\w+\.(\w+)")  # a kernel by hand that leaves the rest to the compiled one
SLOT = re.compile(r"^\s+\.(\w+) = \1,$", re.MULTILINE)
EMBEDDED = ("-DEZ_EMBEDDED=1", "-include", "embed/memory.h")
# Beside arena, scratch and states: records of the session (of a step and of a tensor), heads of blocks, what verification holds.
STEP_BYTES, TENSOR_BYTES, FIXED_BYTES = 512, 48, 24 << 10
WORDS_A_LINE = 6


@dataclass(frozen=True, slots=True)
class Artifact:
    """What was written: the file or folder that was asked for, and the code in it without the program (None for sources)."""

    path: Path
    bytes: int
    code_bytes: int | None


def build_exe(
    program: Program, target: Target, output: Path, *, compiler: Compiler, cache_dir: Path, libc: str | None = None
) -> Artifact:
    """One binary with the program inside, static; or for ``libc`` such as ``gnu.2.28`` (zig) dynamic against it."""
    chosen, link = _for_libc(compiler, target, libc)
    data = program.to_bytes()
    with tempfile.TemporaryDirectory(prefix="ez-exe-") as name:
        scratch = Path(name)
        sources = _only_used(groups(target, chosen), program, scratch)
        made = compile_all(
            chosen,
            [(group, [p for p in paths if p.name != "embedded.c"], flags) for group, paths, flags in sources],
            scratch,
            cache_dir,
        )
        (scratch / "model.ez").write_bytes(data)
        (scratch / "embedded.c").write_text(_included(data))
        made += compile_all(chosen, [("embedded", [scratch / "embedded.c"], ())], scratch, cache_dir)
        call(chosen.link, [*map(str, made), *link, STRIP, "-o", str(scratch / "exe")], scratch, cache_dir)
        _move(scratch / "exe", output)
    return Artifact(output, output.stat().st_size, output.stat().st_size - len(data))


def write_sources(program: Program, target: Target, folder: Path, name: str) -> Artifact:
    """NAME.h, NAME.c and the runtime's sources in a new folder. Raises UsageError when there is something of that name."""
    _check(program, name)
    if folder.exists():
        raise UsageError("it is there already", where=str(folder), hint="remove it, or choose another -o")
    partial = Path(tempfile.mkdtemp(prefix=".ez-c-", dir=folder.parent))
    try:
        lines = _copy_runtime(program, target, partial)
        (partial / f"{name}.h").write_text(header(program, name))
        (partial / f"{name}.c").write_text(source(program, target, name))
        (partial / "Makefile").write_text(_makefile(name, lines))
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Artifact(folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), None)


def build_lib(program: Program, target: Target, folder: Path, name: str, *, compiler: Compiler, cache_dir: Path) -> Artifact:
    """libNAME.a and NAME.h in ``folder``, which is made when it is not there."""
    _check(program, name)
    with tempfile.TemporaryDirectory(prefix="ez-lib-") as scratch_name:
        scratch = Path(scratch_name)
        (scratch / f"{name}.h").write_text(header(program, name))
        (scratch / f"{name}.c").write_text(source(program, target, name))
        sources = [
            *_without_threads(_only_used(groups(target, compiler), program, scratch)),
            ("model", [scratch / f"{name}.c"], (f"-I{scratch}",)),
        ]
        made = compile_all(compiler, sources, scratch, cache_dir, EMBEDDED)
        archive = scratch / f"lib{name}.a"
        call(_archiver(compiler), ["rcs", str(archive), *map(str, made)], scratch, cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for file in (scratch / f"{name}.h", archive):
            _move(file, folder / file.name)
    return Artifact(
        folder / f"lib{name}.a",
        archive_bytes := (folder / f"lib{name}.a").stat().st_size,
        archive_bytes - len(program.to_bytes()),
    )


def c_name(text: str) -> str:
    """``text`` as the beginning of C names; raises UsageError when nothing is left of it."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_").lower()[:40]
    if not NAME.fullmatch(name):
        raise UsageError("not a name that C takes", where="-o", expected="a letter first, then letters, digits, _", got=text)
    return name


def _check(program: Program, name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError("not a name that C takes", where="-o", got=name)
    if program.metadata.get("dims"):
        raise UnsupportedModelError(
            "sizes of a compiled-in program are fixed", where=", ".join(program.metadata["dims"]), hint="compile without --dim"
        )


def _move(made: Path, output: Path) -> None:
    """Into place in one step, from another file system too."""
    partial = output.with_name(f".{output.name}.partial")
    try:
        shutil.copy2(made, partial)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def _for_libc(compiler: Compiler, target: Target, libc: str | None) -> tuple[Compiler, tuple[str, ...]]:
    if libc in (None, "musl"):
        return compiler, LINK
    if not re.fullmatch(r"gnu(\.\d{1,2}\.\d{1,2})?", libc or "") or compiler.dialect != "zig":
        raise UsageError("not a C library to link with", where="--libc", expected="musl, or gnu.2.28 with zig", got=str(libc))
    triple = target.triple.replace("musl", "gnu") + (libc or "")[3:]
    command, link = (
        tuple(triple if word == target.triple else word for word in words) for words in (compiler.command, compiler.link)
    )
    return replace(compiler, command=command, link=link), tuple(word for word in LINK if word != "-static")


def _archiver(compiler: Compiler) -> tuple[str, ...]:
    if compiler.dialect == "zig":
        return (*compiler.command[:3], "ar")
    tool = re.sub(r"(gcc|cc)$", "ar", compiler.command[0])
    found = shutil.which(tool) or shutil.which("ar")
    if found is None:
        raise ToolError("no archiver", where=tool, hint="apt install binutils")
    return (found,)


# --- sources ----------------------------------------------------------------------------------------------------


def operators(program: Program) -> str:
    """ops.c with the operators of this program alone: what is not named is not linked."""
    known = dict(OPERATOR.findall((source_folder() / "ops" / "ops.c").read_text()))
    used = sorted({f"EZ_OP_{step.op.name}" for step in program.steps})
    missing = [name for name in used if name not in known]
    if missing:
        raise ToolError("the runtime has no such operator", where="csrc/ops/ops.c", got=", ".join(missing))
    entries = "".join(f"    [{name}] = &{known[name]},\n" for name in used)
    declared = ", ".join(sorted({known[name] for name in used}))
    return (
        '/* The operators of one program; made by edgezip compile. */\n#include "ops/op.h"\n\n'
        + (f"extern const ez_op {declared};\n\n" if used else "")
        + f"static const ez_op *const ops[] = {{\n{entries or '    0,'}\n}};\n\n"
        "const ez_op *ez_op_find(uint16_t opcode) { return opcode < sizeof ops / sizeof *ops ? ops[opcode] : NULL; }\n"
    )


def _only_used(sources: list[Group], program: Program, scratch: Path) -> list[Group]:
    """The groups with this program's table of operators and no row kernels but theirs. What starts up, and operators around
    the kernels, are compiled for size; kernels and their drivers for speed."""
    (scratch / "used.c").write_text(operators(program))
    rows = _rows(program)
    dense: tuple[str, ...] = () if any(tensor.form for tensor in program.tensors) else ("-DEZ_DENSE=1",)
    dense += () if any(step.op is Op.CODES for step in program.steps) else ("-DEZ_NO_CODES=1",)
    isas = [name.removeprefix("isa-") for name, _, _ in sources if name.startswith("isa-")]
    kept: list[Group] = []
    for name, paths, flags in sources:
        if name == "core":
            kept += [
                ("core", [p for p in paths if p.name in HOT], flags),
                ("start", [p for p in paths if p.name not in HOT], (*flags, "-Os")),
            ]
        elif name == "ops":
            kept.append((name, [path for path in paths if path.name != "ops.c"], (*flags, "-Os")))
        elif name.startswith("isa-"):
            if name == "isa-portable" and "neon" in isas:  # which every CPU of 64-bit ARM has, and which lacks nothing
                kept.append((name, paths, (*flags, *dense, "-DEZ_COVERED=1", "-DEZ_CHOSEN_ROWS=.add_s8=0")))
            else:
                kept.append((name, paths, (*flags, *dense, f"-DEZ_CHOSEN_ROWS={rows}")))
        else:
            kept.append((name, paths, (*flags, "-Os")))
    return [*kept, ("used", [scratch / "used.c"], ())]


def _rows(program: Program) -> str:
    """The slots of row kernels that the program's operators, and what they share, name: as an initialiser."""
    root = source_folder()
    known = SLOT.findall((root / "isa" / "rows.inc").read_text())
    named: set[str] = set()
    for path in [*_operator_files(program), *sorted((root / "core").glob("*.[ch]"))]:
        named |= set(MEMBER.findall(path.read_text()))
    for path in sorted((root / "isa").glob("*/*.c")):
        named |= set(FROM_ISA.findall(path.read_text()))
    if "finish_f32" in named:
        named = named - {"finish_f32"} if _has_int8_products_alone(program) else named | {"unary_f32"}  # by which it finishes
    return ",".join(f".{slot}={slot}" for slot in known if slot in named) or ".add_s8=0"


def _operator_files(program: Program) -> list[Path]:
    """Sources of the program's operators, and of what their headers name."""
    folder = source_folder() / "ops"
    wanted = {f"const ez_op {symbol} =" for symbol in re.findall(r"&(ez_op_\w+)", operators(program))}
    found = [path for path in sorted(folder.glob("*.c")) if any(text in path.read_text() for text in wanted)]
    for path in found:  # grows while it is walked
        for name in re.findall(r'#include "ops/(\w+)\.h"', path.read_text()):
            found += [more for more in (folder / f"{name}.h", folder / f"{name}.c") if more.is_file() and more not in found]
    return found


def _has_int8_products_alone(program: Program) -> bool:
    """Whether no step multiplies float matrices: convolutions of int8, and operators that are known to have no products."""
    int8 = {step for step in range(len(program.steps)) if program.tensors[program.steps[step].inputs[0]].dtype is DType.S8}
    return all(
        step.op in WITHOUT_PRODUCTS or (step.op in {Op.CONV, Op.DEPTHWISE} and number in int8)
        for number, step in enumerate(program.steps)
    )


def _without_threads(sources: list[Group]) -> list[Group]:
    kept = [
        (name, [path for path in paths if name not in {"core", "start"} or path.name not in THREADED], flags)
        for name, paths, flags in sources
        if name != "tools"
    ]
    return [*kept, ("embed", sorted((source_folder() / "embed").glob("*.c")), ())]


def _included(data: bytes) -> str:
    """The program by the assembler, which takes megabytes in no time. Compilers that keep their results see the digest."""
    return (
        f"/* {hashlib.sha256(data).hexdigest()} */\n#include <stdint.h>\n"
        '__asm__(".section .rodata\\n.balign 64\\n.globl ez_embedded\\nez_embedded:\\n"\n'
        '        ".incbin \\"model.ez\\"\\n.balign 64\\n.text\\n");\n'
        f"const uint64_t ez_embedded_bytes = {len(data)}u;\n"
    )


def memory_bytes(program: Program, target: Target) -> int:
    """Room that a session takes on the target: an upper bound."""
    states = sum(2 * (program.tensors[state.input].bytes + 192) for state in program.states)
    grains = program.arena_bytes // 64 // 8
    records = STEP_BYTES * (len(program.steps) + 1) + TENSOR_BYTES * len(program.tensors)
    decoded = len(program.plain_bytes()) + 256 if program.coded else 0
    # AVX2 kernels keep a form of their own of some weights, and Winograd's tiles want more scratch than the program states.
    own = 2 * program.metadata["memory"]["weights_bytes"] + (1 << 20) if "avx2" in target.isa else 0
    bound = program.arena_bytes + program.scratch_bytes + states + grains + records + decoded + own + FIXED_BYTES
    return -(-bound // 4096) * 4096


def header(program: Program, name: str) -> str:
    """NAME.h: the sizes and meaning of inputs and outputs, and three functions."""
    up = name.upper()
    sides = (("INPUT", program.inputs), ("OUTPUT", program.outputs))
    lines = [f"#define {up}_{side}S {len(indices)}" for side, indices in sides]
    for side, indices in sides:
        for position, index in enumerate(indices):
            tensor = program.tensors[index]
            lines += [f"/* {_described(tensor)} */", f"#define {up}_{side}_{position}_BYTES {tensor.bytes}"]
    made_for = program.metadata.get("target", "any target")
    return f"""/* {name}: a network that EdgeZip compiled for {made_for}. No heap, no files, no threads; one caller at a time. */
#ifndef {up}_H
#define {up}_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {{
#endif

{chr(10).join(lines)}

/* Checks the network and makes it ready; 0 when it can run. Called by the first {name}_run if it was not before. */
int {name}_init(void);
/* One inference: {up}_INPUTS pointers to what is read, {up}_OUTPUTS to what is written. 0, or what went wrong. */
int {name}_run(const void *const *inputs, void *const *outputs);
/* Runs the {len(program.vectors)} bundled test vectors: how many are not equal to the byte, or -1 when the network cannot run. */
int {name}_self_test(void);
/* Why {name}_init refused; empty when it did not. */
const char *{name}_message(void);
/* Bytes of the static block that were in use at once. */
size_t {name}_memory_used(void);

#ifdef __cplusplus
}}
#endif
#endif
"""


def _described(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.dims)) or "scalar"
    quantized = f", real value = {tensor.scale:.9g} * (byte - {tensor.zero_point})" if tensor.scale else ""
    return f"{re.sub(r'[^ -~]|[*/]', '_', tensor.name)[:60]}: {tensor.dtype.numpy.name} {shape}{quantized}"


def source(program: Program, target: Target, name: str) -> str:
    """NAME.c: the program, its block of memory, and the functions of NAME.h."""
    data = program.to_bytes()
    words = np.frombuffer(data.ljust(-(-len(data) // 8) * 8, b"\0"), "<u8")
    rows = [", ".join(f"0x{word:x}u" for word in words[k : k + WORDS_A_LINE]) for k in range(0, len(words), WORDS_A_LINE)]
    vectors = len(program.vectors)
    made = 64 + sum(-(-program.tensors[i].bytes // 64) * 64 for i in program.outputs)
    return f"""/* {name}: made by edgezip compile; see {name}.h. Little-endian processors. */
#include "{name}.h"

#include <string.h>

#include "edgezip/ez.h"
#include "embed/memory.h"

#ifndef {name.upper()}_MEMORY_BYTES
#define {name.upper()}_MEMORY_BYTES {memory_bytes(program, target)}
#endif

static const _Alignas(64) uint64_t program_words[] = {{
{("," + chr(10)).join(rows)}
}};

_Alignas(64) uint8_t ez_embedded_memory[{name.upper()}_MEMORY_BYTES];
const size_t ez_embedded_memory_bytes = sizeof ez_embedded_memory;

static ez_program *program;
static ez_session *session;
static ez_error error;

int {name}_init(void) {{
  if (session) return 0;
  error = (ez_error){{0}};
  if (!program && ez_program_open(program_words, {len(data)}u, &program, &error)) return (int)error.status;
  const ez_session_options one = {{.threads = 1, .affinity = "none"}};
  return (int)ez_session_create(program, &one, &session, &error);
}}

int {name}_run(const void *const *inputs, void *const *outputs) {{
  const int status = {name}_init();
  return status ? status : (int)ez_session_run(session, inputs, outputs);
}}

const char *{name}_message(void) {{ return error.message; }}
size_t {name}_memory_used(void) {{ return ez_embedded_used(); }}

/* Whether a test vector comes out to the byte. */
static int is_equal(uint32_t vector) {{
  static _Alignas(64) uint8_t made[{made}];
  const void *inputs[{len(program.inputs) or 1}], *expected;
  void *outputs[{len(program.outputs) or 1}];
  size_t bytes, at = 0;
  for (uint32_t i = 0; i < {len(program.inputs)}u; i++)
    if (ez_program_vector(program, vector, 0, i, &inputs[i], &bytes)) return 0;
  for (uint32_t i = 0; i < {len(program.outputs)}u; i++) {{
    outputs[i] = made + at;
    if (ez_program_vector(program, vector, 1, i, &expected, &bytes)) return 0;
    at += (bytes + 63) / 64 * 64;
  }}
  ez_session_reset(session);
  if (ez_session_run(session, inputs, outputs)) return 0;
  for (uint32_t i = 0; i < {len(program.outputs)}u; i++) {{
    ez_program_vector(program, vector, 1, i, &expected, &bytes);
    if (memcmp(expected, outputs[i], bytes)) return 0;
  }}
  return 1;
}}

int {name}_self_test(void) {{
  if ({name}_init()) return -1;
  int wrong = 0;
  for (uint32_t i = 0; i < {vectors}u; i++) wrong += !is_equal(i);
  ez_session_reset(session);
  return wrong;
}}
"""


def _copy_runtime(program: Program, target: Target, folder: Path) -> list[tuple[str, str]]:
    """Copies the runtime's sources that are needed; gives (file, flags) of each to compile, as GCC and Clang take them."""
    root = source_folder()
    listed = _without_threads(_only_used(groups(target, Compiler(("cc",), ("cc",), "gcc", "")), program, folder))
    lines = []
    for _, paths, flags in listed:
        for path in paths:
            inside = path.relative_to(root) if path.is_relative_to(root) else Path("ops") / path.name
            (folder / "runtime" / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / "runtime" / inside)
            lines.append((str(Path("runtime") / inside), " ".join(flags)))
    (folder / "used.c").unlink()
    for path in sorted(
        p
        for p in root.rglob("*")
        if p.suffix in (".h", ".inc") and (p.parent.parent.name != "isa" or p.parent.name in target.isa)
    ):
        inside = folder / "runtime" / path.relative_to(root)
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, inside)
    return lines


def _makefile(name: str, lines: list[tuple[str, str]]) -> str:
    """Rules for lib NAME.a; every file with the flags of its instruction set."""
    objects = [(file, f"build/{file[len('runtime/') :].replace('/', '-')[:-2]}.o", extra) for file, extra in lines]
    rules = "".join(f"{made}: {file} | build\n\t$(CC) $(CFLAGS) $(EZ) {extra} -c $< -o $@\n" for file, made, extra in objects)
    return f"""# make CC=... : lib{name}.a, to be linked with -lm -Wl,--gc-sections
CC ?= cc
AR ?= ar
CFLAGS ?= {" ".join(FLAGS)}
EZ = {" ".join(EMBEDDED)} -fPIC -I. -Iruntime -Iruntime/include
OBJECTS = build/{name}.o {" ".join(made for _, made, _ in objects)}

lib{name}.a: $(OBJECTS)
\trm -f $@
\t$(AR) rcs $@ $^

lib{name}.so: $(OBJECTS)
\t$(CC) -shared -Wl,--gc-sections $^ -lm -o $@

build:
\tmkdir -p build

build/{name}.o: {name}.c {name}.h | build
\t$(CC) $(CFLAGS) $(EZ) -c $< -o $@

{rules}
.PHONY: clean
clean:
\trm -rf build lib{name}.a lib{name}.so
"""
