"""The import table of the architecture, checked by parsing every module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "edgezip"

# room -> rooms it may import (errors and its own room always)
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "kernels": set(),
    "dynamic": {"program"},  # its types
    "program": {"dynamic", "coded"},
    "coded": {"kernels"},
    "graph": set(),
    "counted": {"graph"},
    "target": set(),
    "recipe": {"yaml_keys"},
    "yaml_keys": set(),
    "samples": set(),
    "data": set(),
    "cost": {"target", "graph"},
    "frontends": {"graph", "counted", "dynamic"},
    "passes": {"graph", "target", "cost", "kernels", "samples"},
    "train": {"graph", "kernels"},
    "pack": {"graph", "counted", "target", "cost", "kernels", "program", "dynamic"},
    "runtime": {"kernels", "program", "dynamic"},
    "deploy": {"target", "program", "yaml_keys"},
    "measure": {"deploy", "runtime", "program", "dynamic"},
    "search": {"passes", "pack", "measure", "target", "cost", "graph"},
    "report": set(),
}
TOP = {
    "cli",
    "__init__",
    "__main__",
    "compilation",
    "compression",
    "pass_cache",
    "pipeline",
    "tuning",
    "tuning_blocks",
}  # compose everything above
TORCH_ROOMS = {"train"}


def room_of(module: str) -> str:
    """``edgezip.passes.calibrate`` -> ``passes``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_name(path: Path) -> str:
    base = PACKAGE.parent
    parts = list(path.relative_to(base).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str) -> set[str]:
    """Every module that ``source`` imports, also inside functions; ``from edgezip import x`` counts as ``edgezip.x``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import; write the full name"
            found.add(node.module or "")
            if node.module and node.module.startswith("edgezip"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(module: str, source: str) -> list[str]:
    room = room_of(module)
    if room in TOP:
        return []
    wrong = []
    for name in sorted(imports_of(source, module)):
        if not name.startswith("edgezip"):
            continue
        other = room_of(name)
        if other in {room, "errors", "__init__", "__version__"}:
            if room == "passes" and other == "passes" and crosses_passes(module, name):
                wrong.append(f"{module} imports the pass {name}")
            continue
        if other not in ALLOWED[room]:
            wrong.append(f"{module} imports {name}: {room} may import {sorted(ALLOWED[room]) or 'nothing'}")
    return wrong


def crosses_passes(module: str, name: str) -> bool:
    """Passes never import passes: a module that defines ``run`` as a pass is not imported by another such module."""
    target = PACKAGE / "passes" / f"{name.split('.')[2]}.py" if name.count(".") >= 2 else None
    return bool(
        target
        and is_pass(target)
        and is_pass(PACKAGE / "passes" / f"{module.split('.')[2]}.py" if module.count(".") >= 2 else PACKAGE)
    )


def is_pass(path: Path) -> bool:
    return path.is_file() and path.stem.split("_")[0] in {
        "quantize",
        "fuse",
        "correct",
        "prune",
        "cluster",
        "factorize",
        "equalize",
    }


def modules() -> list[Path]:
    found = [p for p in PACKAGE.rglob("*.py") if "kernels" not in p.relative_to(PACKAGE).parts[:1]]
    return sorted(found) + sorted((PACKAGE / "kernels").glob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=module_name)
def test_module_imports_only_what_the_table_allows(path: Path) -> None:
    assert violations(module_name(path), path.read_text()) == []


def test_a_pass_that_imports_pack_is_caught() -> None:
    assert violations("edgezip.passes.calibrate", "def f():\n    from edgezip.pack import compile\n") != []


def test_a_room_that_the_table_does_not_know_is_caught() -> None:
    rooms = {
        p.name.removesuffix(".py")
        for p in PACKAGE.iterdir()
        if (p.is_dir() or p.suffix == ".py") and not p.name.startswith("__py")
    }
    rooms -= {p.name for p in PACKAGE.iterdir() if p.is_dir() and not list(p.rglob("*.py"))} | {"py.typed"}
    assert rooms <= set(ALLOWED) | TOP, f"rooms without a row: {sorted(rooms - set(ALLOWED) - TOP)}"


def test_only_graph_and_frontends_touch_onnx_ir() -> None:
    users = {module_name(p) for p in modules() if any(n.split(".")[0] == "onnx_ir" for n in imports_of(p.read_text(), str(p)))}
    assert {room_of(u) for u in users} <= {"graph", "frontends"}


def test_torch_is_imported_by_train_and_its_front_end_only() -> None:
    users = {module_name(p) for p in modules() if any(n.split(".")[0] == "torch" for n in imports_of(p.read_text(), str(p)))}
    assert all(room_of(u) in TORCH_ROOMS or u.startswith("edgezip.frontends.torch") for u in users)


def test_c_includes_only_libc_and_itself() -> None:
    libc = "assert ctype errno fcntl fenv float inttypes limits math pthread sched signal stdarg stdatomic stdbool stddef stdint"
    libc += " stdio stdlib string time unistd sys/auxv sys/mman sys/resource sys/stat sys/syscall sys/types asm/hwcap"
    allowed = {f"{name}.h" for name in f"{libc} immintrin arm_neon arm_acle cpuid".split()}
    for path in sorted((ROOT / "csrc").rglob("*.[ch]")):
        for line in path.read_text().splitlines():
            if line.startswith("#include <"):
                name = line.split("<")[1].split(">")[0]
                assert name in allowed, f"{path}: includes <{name}>"
