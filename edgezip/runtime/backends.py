"""``edgezip.Session``: a program opened by the backend that the caller names; both give the same bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

from edgezip.errors import UsageError
from edgezip.program import Program
from edgezip.runtime import session as native

if TYPE_CHECKING:
    from edgezip.runtime.numba_session import NumbaSession

Source = Program | bytes | str | os.PathLike[str]
BACKENDS = ("native", "numba")


@overload
def Session(program: Source, *, backend: Literal["native"] = "native", threads: int = 1, **options: Any) -> native.Session: ...
@overload
def Session(program: Source, *, backend: Literal["numba"], threads: int = 1) -> NumbaSession: ...
def Session(program: Source, *, backend: str = "native", threads: int = 1, **options: Any) -> native.Session | NumbaSession:  # noqa: N802
    """A loaded program. ``native`` is the C runtime (its options: ``edgezip.runtime.session.Session``); ``numba`` needs no C.

    Numba compiles its kernels at the first run (seconds) and is several times slower than C. Nothing is chosen silently: without
    the C extension ``native`` raises RuntimeUnavailableError. Raises UsageError for another backend or an option it lacks.
    """
    if backend == "native":
        return native.Session(program, threads=threads, **options)
    if backend != "numba":
        raise UsageError("no such backend", where=backend, expected=" or ".join(BACKENDS), got=backend)
    if options:
        raise UsageError("the numba backend has no such option", where=", ".join(sorted(options)), hint="only threads")
    from edgezip.runtime.numba_session import NumbaSession

    return NumbaSession(program, threads=threads)
