"""The C structs of ez_format.h lie exactly as the NumPy records of edgezip.program say, and the constants agree."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest

from edgezip import program
from edgezip.program import PARAMS, Op

ROOT = Path(__file__).parents[2]
STRUCTS = {"ez_section": program.SECTION, "ez_header": program.HEADER, "ez_tensor": program.TENSOR, "ez_step": program.STEP}
STRUCTS |= {f"ez_{op.name.lower()}_params": dtype for op, dtype in PARAMS.items() if dtype.names and op is not Op.DEPTHWISE}
ENUMS: dict[str, type[IntEnum]] = {
    "EZ_OP_": program.Op, "EZ_DTYPE_": program.DType, "EZ_IN_": program.Place, "EZ_BINARY_": program.Binary,
    "EZ_UNARY_": program.Unary, "EZ_NORM_": program.Norm,
    "EZ_POOL_": program.Pool, "EZ_REDUCE_": program.Reduce, "EZ_CONVERT_": program.Convert, "EZ_LAYOUT_": program.Layout,
    "EZ_RECURRENT_": program.Recurrent,
}  # fmt: skip
LIMITS = {
    "EZ_MAX_NAME": program.MAX_NAME, "EZ_MAX_RANK": program.MAX_RANK, "EZ_MAX_STEP_INPUTS": program.MAX_STEP_INPUTS,
    "EZ_MAX_STEP_OUTPUTS": program.MAX_STEP_OUTPUTS, "EZ_FORMAT_VERSION": program.FORMAT_VERSION,
    "EZ_OVERREAD": program.OVERREAD, "EZ_SECTION_ALIGN": program.ALIGN,
}  # fmt: skip


def facts_of_c(folder: Path) -> dict[str, int]:
    """Sizes, offsets and constants as the compiler sees them."""
    lines = []
    for struct, dtype in STRUCTS.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof({struct}));')
        for name in dtype.names or ():
            lines.append(f'printf("{struct}.{name} %zu\\n", offsetof({struct}, {name}));')
            lines.append(f'printf("{struct}.{name}.bytes %zu\\n", sizeof((({struct} *)0)->{name}));')
    lines += [f'printf("{name} %d\\n", (int){name});' for name in LIMITS]
    lines += [f'printf("{p}{m.name} %d\\n", (int){p}{m.name});' for p, enum in ENUMS.items() for m in enum]
    source = folder / "facts.c"
    source.write_text(
        '#include <stddef.h>\n#include <stdio.h>\n#include "edgezip/ez_format.h"\nint main(void) {\n'
        + "\n".join(lines)
        + "\nreturn 0;\n}\n"
    )
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler
    subprocess.run([compiler, "-std=c11", f"-I{ROOT}/csrc/include", source, "-o", folder / "facts"], check=True)
    text = subprocess.run([folder / "facts"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def facts_of_numpy() -> dict[str, int]:
    facts = {}
    for struct, dtype in STRUCTS.items():
        facts[struct] = dtype.itemsize
        for name in dtype.names or ():
            field, offset = dtype.fields[name][:2]  # type: ignore[index]
            facts[f"{struct}.{name}"], facts[f"{struct}.{name}.bytes"] = offset, field.itemsize
    return facts | LIMITS | {f"{p}{m.name}": int(m) for p, enum in ENUMS.items() for m in enum}


def test_c_structs_lie_as_the_numpy_records(tmp_path: Path, require_tools: Callable[..., None]) -> None:
    require_tools("gcc")
    assert facts_of_c(tmp_path) == facts_of_numpy()


def test_every_params_struct_fits_its_record() -> None:
    assert all(dtype.itemsize <= program.STEP["params"].itemsize for dtype in PARAMS.values())


def test_records_have_no_hidden_padding() -> None:
    for dtype in STRUCTS.values():
        assert sum(dtype[name].itemsize for name in dtype.names or ()) == dtype.itemsize


@pytest.mark.parametrize("dtype", [program.HEADER, program.TENSOR, program.STEP], ids=["header", "tensor", "step"])
def test_records_are_little_endian(dtype: np.dtype) -> None:  # type: ignore[type-arg]
    kinds = [dtype[name].base for name in dtype.names or ()]
    assert all(kind.byteorder in "<|=" and (kind.names or kind.newbyteorder("<") == kind) for kind in kinds)
