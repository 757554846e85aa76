"""Reads weight files without the framework that wrote them; only numbers and plain containers are let through."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bench.zoo.task import Array
from edgezip.errors import InvalidModelError

_STORAGE = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class _Lazy:
    """A tensor whose numbers come later in the file: a strided view of a storage."""

    def __init__(self, storage: dict[str, Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> Array:
        data = self.storage["data"][self.offset :]
        return np.lib.stride_tricks.as_strided(data, self.shape, [s * data.itemsize for s in self.strides]).copy()


def _rebuild_tensor(storage: dict[str, Any], offset: int, shape: Any, strides: Any, *_: Any) -> _Lazy:
    return _Lazy(storage, offset, tuple(shape), tuple(strides))


class _TorchUnpickler(pickle.Unpickler):
    """Knows tensors, ordered dictionaries and storages, and refuses every other name."""

    def __init__(self, stream: BinaryIO, storages: dict[str, dict[str, Any]]) -> None:
        super().__init__(stream)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if name in _STORAGE:
            return name
        raise InvalidModelError(f"the weight file asks for {module}.{name}", hint="only tensors are read")

    def persistent_load(self, pid: Any) -> Any:
        _, kind, key, *_ = pid
        return self._storages.setdefault(key, {"dtype": _STORAGE[kind], "data": None})


def read_torch_checkpoint(path: Path) -> dict[str, Array]:
    """State dictionary of a torch file in the layout before torch 1.6: pickles, then the storages one after another."""
    storages: dict[str, dict[str, Any]] = {}
    with path.open("rb") as stream:
        for _ in range(3):  # magic number, protocol version, facts about the writer
            _TorchUnpickler(stream, {}).load()
        state = _TorchUnpickler(stream, storages).load()
        for key in _TorchUnpickler(stream, {}).load():
            count = int.from_bytes(stream.read(8), "little")
            dtype = np.dtype(storages[key]["dtype"])
            storages[key]["data"] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return {name: tensor.array() for name, tensor in state.items()}


class _NumpyUnpickler(pickle.Unpickler):
    """Knows arrays, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Callable[..., Any]] = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": _empty_array}
        if module.split(".")[0] == "numpy" and name in known:
            return known[name]
        raise InvalidModelError(f"the weight file asks for {module}.{name}", hint="only arrays are read")


def _empty_array(kind: type[Array], shape: tuple[int, ...], _: bytes) -> Array:
    return kind.__new__(kind, shape, "b")


def read_pickled_arrays(path: Path) -> dict[str, list[Array]]:
    """A pickled dictionary of lists of NumPy arrays."""
    with path.open("rb") as stream:
        found: dict[str, list[Array]] = _NumpyUnpickler(stream, encoding="bytes").load()
    return found


def read_safetensors(path: Path) -> dict[str, Array]:
    """Every tensor of a safetensors file by name: a length, a JSON table of places, then the numbers."""
    kinds = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    table = json.loads(data[8:start])
    table.pop("__metadata__", None)
    found = {}
    for name, entry in table.items():
        first, last = entry["data_offsets"]
        found[name] = np.frombuffer(data[start + first : start + last], kinds[entry["dtype"]]).reshape(entry["shape"])
    return found
