"""The C kernels on arrays, through the cffi extension: one step at a time, any ISA table that this CPU supports.

For tests and benchmarks of kernels; a whole program runs through ``edgezip.runtime.session`` in one call.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgezip.errors import ProgramError, RuntimeUnavailableError, UsageError

Array = np.ndarray[Any, Any]
OVERREAD = 64  # bytes past the end of an array that a kernel may read, never write


def _native() -> Any:
    try:
        return importlib.import_module("edgezip.kernels._native")
    except ImportError as error:
        raise RuntimeUnavailableError(
            "the C extension is not built", where="edgezip.kernels._native", hint="make build"
        ) from error


def compiled_isas() -> list[str]:
    """Names of the ISA tables of this build, best first."""
    native = _native()
    return [native.ffi.string(native.lib.ez_isa_name(i)).decode() for i in range(native.lib.ez_isa_count())]


def supported_isas() -> list[str]:
    """Those of ``compiled_isas`` that this CPU can run."""
    return [name for i, name in enumerate(compiled_isas()) if _native().lib.ez_isa_supported(i)]


def readable(array: Array) -> Array:
    """A copy of ``array`` with ``OVERREAD`` readable bytes behind it."""
    memory = np.zeros(array.nbytes + OVERREAD, np.uint8)
    memory[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memory[: array.nbytes].view(array.dtype).reshape(array.shape)


def run_step(
    step: bytes,
    tensors: bytes,
    data: Sequence[Array],
    *,
    layout: int,
    act_sign: int,
    isa: str | None = None,
    threads: int = 1,
    repeats: int = 1,
) -> int:
    """Check and run one step on arrays; returns the shortest of ``repeats`` times in nanoseconds.

    ``step`` is one ``ez_step`` record, ``tensors`` the ``ez_tensor`` records it names (csrc/include/edgezip/ez_format.h), and
    ``data[i]`` holds the stored elements of tensor i, with ``OVERREAD`` readable bytes behind them (see ``readable``). Outputs
    are written in place. ``isa``: a table's name, or None for EDGEZIP_ISA or the best. Raises UsageError for an ISA that is
    unknown or not offered here, ProgramError when the step's check refuses.
    """
    native = _native()
    ffi, lib = native.ffi, native.lib
    pointers = ffi.new("void *[]", [ffi.cast("void *", array.ctypes.data) for array in data])
    error, ns = ffi.new("ez_error *"), ffi.new("uint64_t *")
    name = ffi.NULL if isa is None else isa.encode()
    status = lib.ez_kernel_step(
        ffi.NULL if isa is None else ffi.new("char[]", name), layout, act_sign, threads, ffi.from_buffer(step),
        ffi.from_buffer(tensors), len(data), pointers, repeats, ns, error,
    )  # fmt: skip
    if status == lib.EZ_OK:
        return int(ns[0])
    message = ffi.string(error.message).decode(errors="replace")
    if status == lib.EZ_BAD_ISA:
        raise UsageError(message, where="isa", hint=f"supported here: {', '.join(supported_isas())}")
    raise ProgramError(message, where=ffi.string(error.field).decode(errors="replace"))
