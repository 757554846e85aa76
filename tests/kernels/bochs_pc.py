"""A static program on an x86-64 processor that this machine is not: Bochs, with a firmware and a kernel of our own (c/bochs/).

Nothing else is needed, neither a BIOS nor Linux: ``rom.S`` enables every vector register, ``machine.c`` (linked into the program)
answers its few system calls. A second passes from start to end; the program runs about a hundred times slower than here.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

HERE = Path(__file__).parent / "c/bochs"
MACHINE = (HERE / "machine.c", ["-mgeneral-regs-only", "-mno-red-zone", "-fno-stack-protector", "-fno-sanitize=all"])
LINK_FLAGS = ["-static", "-no-pie", "-Wl,-Ttext-segment=0x400000", "-Wl,-e,machine_start"]
SETTINGS = """\
cpu: model={model}, reset_on_triple_fault=0
memory: guest=512, host=512
romimage: file={rom}, address=0xffff0000
optramimage1: file={image}, address={address:#x}
vgaromimage: file={rom}
vga: extension=none
parport1: enabled=1, file={printed}
display_library: rfb, options="timeout=0"
boot: disk
log: {log}
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
"""


def models() -> list[str]:
    """Processors that the installed Bochs knows."""
    return subprocess.run(["bochs", "--help", "cpu"], capture_output=True, text=True, check=False).stderr.split()


def image_of(program: Path) -> tuple[int, int, bytes]:
    """(address, entry, bytes) of a static ELF: its loaded segments as they lie in memory."""
    elf = program.read_bytes()
    entry, table = struct.unpack_from("<QQ", elf, 24)
    size, count = struct.unpack_from("<HH", elf, 54)
    loaded: dict[int, bytes] = {}
    for at in range(table, table + count * size, size):
        kind, _, offset, address, _, in_file, in_memory = struct.unpack_from("<IIQQQQQ", elf, at)
        if kind == 1:
            loaded[address] = elf[offset : offset + in_file].ljust(in_memory, b"\0")
    start = min(loaded)
    image = bytearray(max(address + len(data) for address, data in loaded.items()) - start)
    for address, data in loaded.items():
        image[address - start : address - start + len(data)] = data
    return start, entry, bytes(image)


def make_rom(out: Path, words: list[str], address: int, entry: int, size: int) -> Path:
    """The firmware, which knows where the program lies in memory and its command line."""
    numbers = {"ENTRY": entry, "IMAGE": address, "IMAGE_BYTES": size}
    defines = [f"-D{name}={value:#x}" for name, value in numbers.items()] + [f'-DARGUMENTS="{" ".join(words)}"']
    subprocess.run(["gcc", *defines, "-c", HERE / "rom.S", "-o", out / "rom.o"], check=True)
    link = ["ld", "--oformat=binary", "-Ttext=0xffff0000", "-e", "0xffff0000", out / "rom.o", "-o", out / "rom"]
    subprocess.run(link, check=True)
    return out / "rom"


def run_on(model: str, program: Path, arguments: list[str], out: Path) -> tuple[int, list[str]]:
    """Exit code and printed lines of ``program`` (linked with MACHINE and LINK_FLAGS) on ``model``; its files go to ``out``."""
    address, entry, image = image_of(program)
    (out / "image").write_bytes(image)
    rom = make_rom(out, [program.name, *arguments], address, entry, len(image))
    printed, log = out / "printed", out / "log"
    for old in (printed, log):
        old.write_text("")
    settings = SETTINGS.format(model=model, rom=rom, image=out / "image", address=address, printed=printed, log=log)
    (out / "settings").write_text(settings)
    command = ["bochs", "-q", "-f", out / "settings"]
    done = subprocess.run(command, input="c\n", capture_output=True, text=True, timeout=1200, check=False)
    *lines, last = printed.read_text().splitlines() or [""]
    if not last.startswith("machine: exit "):
        raise AssertionError("\n".join([*lines[-20:], last, done.stderr[-1000:], log.read_text()[-2000:]]))
    return int(last.split()[-1]), lines
