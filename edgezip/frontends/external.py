"""External tensor data, contained: a regular file of one link below the model's folder, reached through no symlink.

``onnx_ir.load`` follows paths out of the folder (reliability.md 1.3), so the bytes are read here and put inside the protobuf.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgezip.errors import InvalidModelError, MissingFileError
from edgezip.frontends import structure

if TYPE_CHECKING:
    import onnx


def load(proto: onnx.ModelProto, path: Path | None, where: str) -> None:
    """Moves the bytes of every external tensor into ``proto``. Raises InvalidModelError, MissingFileError."""
    import onnx

    for tensor in tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            if tensor.external_data:
                raise _refused(where, tensor, "external_data", "a tensor that is not external names an external file")
            continue
        if path is None:
            raise _refused(where, tensor, "location", "external data needs a model file with a folder, not bytes")
        tensor.raw_data = _bytes_of(tensor, path.parent, where)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the model: initializers and attributes, subgraphs and functions included."""
    for body in structure.graphs(proto):
        yield from getattr(body, "initializer", ())
        for node in body.node:
            for attr in node.attribute:
                if attr.HasField("t"):
                    yield attr.t
                yield from attr.tensors


def _bytes_of(tensor: onnx.TensorProto, folder: Path, where: str) -> bytes:
    fields = {}
    for entry in tensor.external_data:
        if entry.key in fields:
            raise _refused(where, tensor, entry.key, "given twice")
        fields[entry.key] = entry.value
    expected = structure.tensor_bytes(tensor)
    offset = _number(fields, "offset", 0, tensor, where)
    length = _number(fields, "length", expected, tensor, where)
    if length != expected:
        raise _refused(where, tensor, "length", f"expected {expected} bytes for shape {list(tensor.dims)}, got {length}")
    handle = _open_below(folder, fields.get("location", ""), tensor, where)
    with os.fdopen(handle, "rb") as file:
        _check_file(os.fstat(file.fileno()), offset, length, tensor, where)
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise _refused(where, tensor, "length", "the file became shorter while it was read")
    return data


def _number(fields: dict[str, str], key: str, default: int, tensor: onnx.TensorProto, where: str) -> int:
    text = fields.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _refused(where, tensor, key, f"expected a whole number of bytes, got {text[:40]!r}")
    return int(text)


def _open_below(folder: Path, location: str, tensor: onnx.TensorProto, where: str) -> int:
    """A descriptor of ``location``, opened step by step below ``folder``; no step may be a symlink."""
    parts = PurePosixPath(location).parts
    if not parts or location.startswith(("/", "\\")) or "\0" in location or "\\" in location or ":" in parts[0] or ".." in parts:
        raise _refused(where, tensor, "location", f"expected a file below the model's folder, got {location[:200]!r}")
    current = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = deeper
        # O_NONBLOCK: opening a FIFO must not wait for its writer
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=current)
    except FileNotFoundError as error:
        raise MissingFileError(f"external data file '{location}' of tensor '{tensor.name}' is missing", where=where,
                               hint="copy it beside the model") from error  # fmt: skip
    except OSError as error:
        raise _refused(where, tensor, "location", f"{location!r} is a symlink or cannot be opened ({error.strerror})") from error
    finally:
        os.close(current)


def _check_file(status: os.stat_result, offset: int, length: int, tensor: onnx.TensorProto, where: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(where, tensor, "location", "expected a regular file, got a device, FIFO or folder")
    if status.st_nlink != 1:
        raise _refused(where, tensor, "location", f"expected a file with one link, got {status.st_nlink} (hard link)")
    if offset + length > status.st_size:
        raise _refused(
            where, tensor, "offset", f"offset {offset} + length {length} passes the end of the file ({status.st_size} bytes)"
        )


def _refused(where: str, tensor: onnx.TensorProto, field: str, what: str) -> InvalidModelError:
    return InvalidModelError(f"external data, {field}: {what}", where=f"{where}: tensor '{tensor.name[:80]}'",
                             hint="save the model with its data file in the same folder")  # fmt: skip
