"""Bytes of a file -> ``onnx.ModelProto``, or a typed error that says what the bytes are instead."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgezip.errors import InvalidModelError, MissingFileError

if TYPE_CHECKING:
    import onnx

MAX_BYTES = (1 << 31) - 1  # protobuf cannot hold more in one message


def read(path: str | Path | bytes, where: str) -> onnx.ModelProto:
    """The protobuf message of a file or of bytes. Raises MissingFileError, InvalidModelError."""
    data = path if isinstance(path, bytes) else _file_bytes(Path(path), where)
    if not data:
        raise InvalidModelError(
            "the file is empty", where=where, expected="an ONNX model", got="0 bytes", hint="copy or export it again"
        )
    return _parsed(data, where)


def _file_bytes(path: Path, where: str) -> bytes:
    if not path.exists():
        raise MissingFileError("no such model file", where=where, hint="check the path")
    if not path.is_file():
        raise MissingFileError("not a regular file", where=where, expected="an ONNX file", got="a folder or a device")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InvalidModelError("file too large for one protobuf message", where=where, expected=f"at most {MAX_BYTES} bytes",
                                got=f"{size} bytes", hint="save the weights as external data")  # fmt: skip
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"cannot be read: {error.strerror}", where=where) from error


def _parsed(data: bytes, where: str) -> onnx.ModelProto:
    import onnx

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError; its stubs are not a dependency
        raise InvalidModelError(_what_it_is(data), where=where, expected="an ONNX model", got=f"{len(data)} bytes",
                                hint="copy or export the file again") from error  # fmt: skip
    if not proto.HasField("graph") or not proto.opset_import:
        raise InvalidModelError("the file holds no ONNX graph", where=where, expected="fields graph and opset_import",
                                got=_what_it_is(data), hint="copy or export the file again")  # fmt: skip
    return proto


def _what_it_is(data: bytes) -> str:
    known = {
        b"PK\x03\x04": "a zip or PyTorch archive",
        b"\x89HDF": "an HDF5 (Keras) file",
        b"version ": "a Git LFS pointer, not the file itself",
    }
    for magic, name in known.items():
        if data.startswith(magic):
            return name
    if data[4:8] == b"TFL3":
        return "a TFLite model"
    printable = sum(32 <= byte < 127 or byte in b"\r\n\t" for byte in data[:512])
    return "a text file" if printable >= 0.97 * len(data[:512]) else "damaged or cut protobuf"
