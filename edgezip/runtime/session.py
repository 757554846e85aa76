"""A program run in this process by the C runtime, on NumPy arrays without copies."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from edgezip.dynamic import Symbol, SymbolAxis, sizes_of
from edgezip.errors import MissingFileError, ProgramError, RuntimeUnavailableError, ShapeError, UsageError
from edgezip.program import DType, Program
from edgezip.runtime.carried import CarriedState, StateInfo
from edgezip.runtime.feeds import array_of, shapes_of

Array = np.ndarray[Any, Any]
BAD_ARGUMENT, BAD_PROGRAM, BAD_VERSION, BAD_ISA = 1, 2, 3, 4
MAX_THREADS = 64
MAX_WAIT_US = 1_000_000


def load_native() -> tuple[Any, Any]:
    """(ffi, lib) of the compiled runtime. Raises RuntimeUnavailableError when it was not built."""
    try:
        from edgezip.kernels._native import ffi, lib
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"the C runtime is not built ({error})",
            hint='run `make build`, or `pip install .` with a C compiler, or use Session(program, backend="numba")',
        ) from error
    return ffi, lib


def isas() -> list[tuple[str, bool]]:
    """The ISA paths built into the runtime, best first, and whether this CPU offers each."""
    ffi, lib = load_native()
    return [(ffi.string(lib.ez_isa_name(i)).decode(), bool(lib.ez_isa_supported(i))) for i in range(lib.ez_isa_count())]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, element type and shape of an input, output or inner tensor; scale is 0 when it is not quantised."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    scale: float
    zero_point: int


class Session:
    """One loaded program; one user at a time. ``threads`` 1..64; ``isa`` forces a path, as ``EDGEZIP_ISA`` does.

    ``affinity``: "none", "big" (the fastest kind of cores), "all", or CPUs such as "0,2-3", one a thread; by default the
    workers keep to the big cores where cores differ. ``spin_us``: how long an idle worker looks for work before it sleeps (0
    on batteries). ``solo_us``: steps of less estimated work run on one thread (0: all are shared).

    Raises ProgramError (damaged file, naming step, tensor and field), UsageError (ISA or thread count), MissingFileError.
    """

    def __init__(
        self,
        program: Program | bytes | str | os.PathLike[str],
        *,
        threads: int = 1,
        isa: str | None = None,
        profile: bool = False,
        affinity: str | None = None,
        spin_us: int | None = None,
        solo_us: int | None = None,
    ) -> None:
        self._ffi, self._lib = load_native()
        self._session: Any = None
        self._program: Any = None
        self._keep: Array | None = None
        self._open(program)
        options = self._ffi.new("ez_session_options *", {"threads": _thread_count(threads), "profile": int(profile)})
        options.spin_us, options.solo_us = _microseconds("spin_us", spin_us), _microseconds("solo_us", solo_us)
        name, cpus = self._c_text(isa), self._c_text(affinity)
        options.isa, options.affinity = name, cpus
        error, out = self._ffi.new("ez_error *"), self._ffi.new("ez_session **")
        if self._lib.ez_session_create(self._program, options, out, error):
            self._raise(error)
        self._session = out[0]
        info = self._ffi.new("ez_program_info *")
        self._lib.ez_program_get_info(self._program, info)
        self.arena_bytes, self.scratch_bytes = int(info.arena_bytes), int(info.scratch_bytes)
        self.act_sign, self._n_vectors = int(info.act_sign), int(info.n_vectors)
        self._n_inputs, self._n_outputs = int(info.n_inputs), int(info.n_outputs)
        self._describe()
        self._axes = [self._axis(i) for i in range(info.n_symbols)]
        self.sizes: tuple[int, ...] = tuple(known.symbol.high for known in self._axes)
        self._states = [self._tensor(self._lib.ez_program_state, i) for i in range(info.n_states)]

    def _describe(self) -> None:
        """Steps, inputs and outputs as the present sizes have them."""
        self.n_steps = int(self._lib.ez_session_steps(self._session))
        self.inputs = [self._tensor(self._lib.ez_session_input, i, self._session) for i in range(self._n_inputs)]
        self.outputs = [self._tensor(self._lib.ez_session_output, i, self._session) for i in range(self._n_outputs)]

    def _axis(self, index: int) -> SymbolAxis:
        info = self._ffi.new("ez_symbol_info *")
        self._lib.ez_program_symbol(self._program, index, info)
        symbol = Symbol(self._text(info.name, info.name_bytes), int(info.low), int(info.high), int(info.step))
        return SymbolAxis(symbol, self.inputs[info.input].name, int(info.axis))

    def resize(self, sizes: Sequence[int]) -> None:
        """The sizes of the dynamic dimensions from now on, in the order of ``dims``; nothing is allocated in the runtime.

        ``run`` does it by itself from what it is fed. Raises UsageError (out of bounds) and ProgramError (a damaged file).
        """
        if tuple(sizes) == self.sizes:
            return
        error = self._ffi.new("ez_error *")
        if self._lib.ez_session_resize(self._handle(), list(sizes), len(sizes), error):
            if error.status != BAD_ARGUMENT:
                self.sizes = ()  # none is in force
            self._raise(error)
        self.sizes = tuple(sizes)
        self._describe()

    def _fit(self, arrays: Mapping[str, Array]) -> None:
        """Resize to what is fed."""
        if self._axes:
            self.resize(sizes_of(self._axes, shapes_of(arrays)))

    def _open(self, program: Program | bytes | str | os.PathLike[str]) -> None:
        error, out = self._ffi.new("ez_error *"), self._ffi.new("ez_program **")
        if isinstance(program, (str, os.PathLike)):
            self._where = os.fspath(program)
            if not Path(program).is_file():
                raise MissingFileError(
                    "no such program file", where=self._where, hint="make one with: edgezip compile MODEL -o OUT.ez"
                )
            status = self._lib.ez_program_open_file(os.fsencode(program), out, error)
        else:
            self._where = "program"
            data = program.plain_bytes() if isinstance(program, Program) else program
            self._keep = aligned_copy(data)
            status = self._lib.ez_program_open(self._ffi.from_buffer(self._keep), len(data), out, error)
        if status:
            self._raise(error)
        self._program = out[0]

    def _raise(self, error: Any) -> None:
        place = "".join(f", {kind} {index}" for kind, index in (("step", error.step), ("tensor", error.tensor)) if index >= 0)
        text = f"{self._ffi.string(error.field).decode()}: {self._ffi.string(error.message).decode()}"
        where = f"{self._where}{place}"
        if error.status in (BAD_PROGRAM, BAD_VERSION):
            raise ProgramError(text, where=where, hint="compile the model again, or copy the file again")
        if error.status == BAD_ISA:
            built = ", ".join(f"{name}{'' if here else ' (not on this CPU)'}" for name, here in isas())
            raise UsageError(text, where=where, hint=f"this runtime has: {built}")
        raise UsageError(text, where=where)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One inference: feeds and results by name, in declared dtype and shape. Raises ShapeError when a feed does not fit."""
        self._fit(feeds)
        results = {info.name: np.empty(info.shape, info.dtype.numpy) for info in self.outputs}
        inputs = [self._fitting(feeds, info, "input") for info in self.inputs]
        self._call(self._views(inputs), self._views(results.values()))
        return results

    def run_into(self, feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """The same into arrays of the caller (C-contiguous, declared dtype and shape): nothing is allocated or copied.

        Raises ShapeError also when an output shares memory with an input or with another output.
        """
        inputs, results = self._apart(feeds, outputs)
        self._call(self._views(inputs), self._views(results))

    def bind(self, feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> Callable[[], None]:
        """A function whose every call is one inference from what ``feeds`` then hold; arrays are checked only here.

        The shortest way in from Python (0.4 us and the computation). Raises ShapeError as ``run_into``, and for a feed that is
        not C-contiguous and aligned.
        """
        inputs, results = self._apart(feeds, outputs)
        for info, array in zip(self.inputs, inputs, strict=True):
            if array is not feeds[info.name]:
                raise ShapeError("input must be a C-contiguous and aligned array to be bound", where=info.name)
        views = self._views([*inputs, *results])  # they keep the arrays where they are
        pointers, sizes = self._ffi.new("void *[]", views), self.sizes

        def bound(_keep: list[Any] = views) -> None:
            if sizes != self.sizes:
                self.resize(sizes)
            self._call(pointers, pointers + len(inputs))

        return bound

    def _apart(self, feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> tuple[list[Array], list[Array]]:
        """Inputs and outputs in order, of which no output shares memory with another array."""
        self._fit(feeds)
        inputs = [self._fitting(feeds, info, "input") for info in self.inputs]
        results = [self._fitting(outputs, info, "output") for info in self.outputs]
        for i, (info, result) in enumerate(zip(self.outputs, results, strict=True)):
            if any(np.may_share_memory(result, other) for other in [*inputs, *results[:i]]):
                raise ShapeError(
                    "output shares memory with an input or another output", where=info.name, hint="give it its own array"
                )
        return inputs, results

    def _call(self, inputs: Any, outputs: Any) -> None:
        if self._lib.ez_session_run(self._handle(), inputs, outputs):
            raise UsageError("the runtime refused the buffers", where=self._where)

    @property
    def state(self) -> CarriedState:
        """What goes into the next run, by the name of its graph input: arrays to get and to set."""
        infos = [StateInfo(info.name, info.dtype.numpy, info.shape) for info in self._states]
        return CarriedState(infos, self._get_state, self._set_state)

    def reset(self) -> None:
        """All states back to their initial values."""
        self._lib.ez_session_reset(self._handle())

    def _get_state(self, index: int) -> Array:
        data = np.empty(self._states[index].shape, self._states[index].dtype.numpy)
        if self._lib.ez_session_state_get(self._handle(), index, self._ffi.from_buffer(data), data.nbytes):
            raise UsageError("the runtime cannot show this state", where=self._states[index].name)
        return data

    def _set_state(self, index: int, values: Array) -> None:
        if self._lib.ez_session_state_set(self._handle(), index, self._ffi.from_buffer(values), values.nbytes):
            raise UsageError("the runtime cannot set this state", where=self._states[index].name)

    def steps(self, feeds: Mapping[str, Array]) -> Iterator[tuple[int, str, dict[int, Array]]]:
        """Run step by step; yields (index, name, {output tensor: its stored bytes, contiguous}).

        Exhausted, it has advanced the states as ``run`` does; given up before, the next run starts from the same states.
        """
        self._fit(feeds)
        inputs = [self._fitting(feeds, info, "input") for info in self.inputs]
        results = [np.empty(info.shape, info.dtype.numpy) for info in self.outputs]
        self._lib.ez_session_begin(self._handle(), self._views(inputs), self._views(results))
        info = self._ffi.new("ez_step_info *")
        for index in range(self.n_steps):
            self._lib.ez_session_step(self._handle(), index)
            self._lib.ez_session_step_info(self._handle(), index, info)
            tensors = [int(info.outputs[i]) for i in range(info.n_outputs)]
            yield index, self._text(info.name, info.name_bytes), {t: self._stored(t) for t in tensors}
        self._lib.ez_session_end(self._handle())

    def _stored(self, index: int) -> Array:
        info = self._tensor(self._lib.ez_session_tensor_info, index, self._session)
        data = np.empty(info.shape, np.uint8 if info.dtype is DType.S8 else info.dtype.numpy)
        if self._lib.ez_session_tensor(
            self._handle(), index, self._ffi.from_buffer("char[]", data.reshape(-1).view(np.uint8)), data.nbytes
        ):
            raise UsageError("the runtime cannot show this tensor", where=info.name)
        return data

    def verify_vectors(self) -> tuple[int, int]:
        """(passed, total) of the bundled test vectors, compared byte for byte, from the initial states on; then all is reset."""
        self.reset()
        passed = 0
        for vector in range(self._n_vectors):
            self._resize_to_vector(vector)
            feeds = {info.name: self._vector(vector, 0, i, info) for i, info in enumerate(self.inputs)}
            results = self.run(feeds)
            wanted = [self._vector(vector, 1, i, info) for i, info in enumerate(self.outputs)]
            passed += all(results[info.name].tobytes() == want.tobytes() for info, want in zip(self.outputs, wanted, strict=True))
        self.reset()
        return passed, self._n_vectors

    def _resize_to_vector(self, vector: int) -> None:
        sizes = self._ffi.new("int32_t[]", max(len(self._axes), 1))
        self._lib.ez_program_vector_sizes(self._program, vector, sizes, len(self._axes))
        self.resize([int(sizes[i]) for i in range(len(self._axes))])

    def _vector(self, vector: int, is_output: int, index: int, info: TensorInfo) -> Array:
        data, size = self._ffi.new("const void **"), self._ffi.new("size_t *")
        self._lib.ez_program_vector(self._program, vector, is_output, index, data, size)
        raw = bytes(self._ffi.buffer(data[0], size[0]))
        if len(raw) != math.prod(info.shape) * info.dtype.numpy.itemsize:
            raise ProgramError("a test vector does not fit its sizes", where=self._where, hint="compile the model again")
        return np.frombuffer(raw, info.dtype.numpy).reshape(info.shape)

    # --- facts ----------------------------------------------------------------------------------------------------------

    @property
    def isa(self) -> str:
        """The ISA path that was chosen."""
        return str(self._ffi.string(self._lib.ez_session_isa(self._handle())).decode())

    @property
    def threads(self) -> int:
        """Threads that a run uses."""
        return int(self._lib.ez_session_threads(self._handle()))

    @property
    def affinity(self) -> str:
        """The CPUs that the threads are bound to, such as "4-7", or "none"."""
        return str(self._ffi.string(self._lib.ez_session_affinity(self._handle())).decode())

    def step_threads(self) -> list[int]:
        """Threads that each step uses: as many as its estimated work is worth."""
        info = self._ffi.new("ez_step_info *")
        return [
            int(info.threads) for index in range(self.n_steps) if not self._lib.ez_session_step_info(self._handle(), index, info)
        ]

    def profile(self) -> list[tuple[str, str, str, int]]:
        """(name, operator, kernel, nanoseconds) of each step of the last run; needs ``profile=True``."""
        ns = self._ffi.new("uint64_t[]", self.n_steps)
        if self._lib.ez_session_profile(self._handle(), ns, self.n_steps):
            raise UsageError("the session keeps no profile", hint="create it with profile=True")
        rows = []
        info = self._ffi.new("ez_step_info *")
        for index in range(self.n_steps):
            self._lib.ez_session_step_info(self._handle(), index, info)
            op, kernel = (self._ffi.string(text).decode() for text in (info.op, info.kernel))
            rows.append((self._text(info.name, info.name_bytes), op, kernel, int(ns[index])))
        return rows

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _tensor(self, getter: Any, index: int, owner: Any = None) -> TensorInfo:
        info = self._ffi.new("ez_tensor_info *")
        getter(owner or self._program, index, info)
        shape = tuple(int(info.dims[i]) for i in range(info.rank))
        return TensorInfo(
            self._text(info.name, info.name_bytes), DType(info.dtype), shape, float(info.scale), int(info.zero_point)
        )

    def _c_text(self, text: str | None) -> Any:
        return self._ffi.new("char[]", text.encode()) if text else self._ffi.NULL

    def _text(self, start: Any, size: int) -> str:
        return bytes(self._ffi.buffer(start, size)).decode() if size else ""

    def _fitting(self, arrays: Mapping[str, Array], info: TensorInfo, kind: str) -> Array:
        array = array_of(arrays, info.name, kind)
        if array.dtype == info.dtype.numpy and array.shape == info.shape and array.flags.carray:
            return array
        if array.dtype != info.dtype.numpy or array.shape != info.shape:
            raise ShapeError(
                f"{kind} does not fit",
                where=info.name,
                expected=f"{info.dtype.numpy} {info.shape}",
                got=f"{array.dtype} {array.shape}",
            )
        if kind == "output" and not (array.flags.c_contiguous and array.flags.writeable and array.flags.aligned):
            raise ShapeError("output must be writable, C-contiguous and aligned", where=info.name)
        return np.require(array, requirements=["C", "A"])

    def _views(self, arrays: Iterable[Array]) -> list[Any]:
        """What cffi passes as an array of addresses."""
        return [self._ffi.from_buffer(array) for array in arrays]

    def _handle(self) -> Any:
        if self._session is None:
            raise UsageError("the session is closed", where=self._where)
        return self._session

    def close(self) -> None:
        """Free arena, threads and mapping; closing twice is harmless."""
        if self._session is not None:
            self._lib.ez_session_destroy(self._session)
        if self._program is not None:
            self._lib.ez_program_close(self._program)
        self._session = self._program = self._keep = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lib", None) is not None:
            self.close()


def _thread_count(threads: object) -> int:
    if isinstance(threads, (int, np.integer)) and 0 <= threads <= MAX_THREADS:
        return int(threads)
    raise UsageError("threads: must be a whole number", expected=f"1 to {MAX_THREADS}", got=str(threads))


def aligned_copy(data: bytes) -> Array:
    """The bytes in memory that starts at a multiple of 64."""
    block = np.empty(len(data) + 64, np.uint8)
    start = -block.ctypes.data % 64
    view = block[start : start + len(data)]
    view[:] = np.frombuffer(data, np.uint8)
    return view


def _microseconds(name: str, value: int | None) -> int:
    """As the C API wants it: 0 is the default, a negative number is none."""
    if value is None:
        return 0
    if isinstance(value, (int, np.integer)) and 0 <= value <= MAX_WAIT_US:
        return int(value) or -1
    raise UsageError(f"{name}: must be a whole number of microseconds", expected=f"0 to {MAX_WAIT_US}", got=str(value))
