"""Looks through a .pt2 file before torch loads it: torch's reader runs pickles, evaluates expressions, calls what they name.

A file passes when it holds plain tensors and a graph of ordinary operators. Format: a zip archive as ``torch.export.save`` of
torch 2.8 and later writes it (models/model.json, data/weights, data/constants, data/sample_inputs).
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

from edgezip.errors import InvalidModelError, MissingFileError, UnsupportedModelError

MAX_ENTRIES = 100_000
MAX_NESTING = 64
MODEL = "models/model.json"
CONFIGS = {"data/weights/model_weights_config.json": "weights", "data/constants/model_constants_config.json": "constants"}
SAMPLES = "data/sample_inputs/model.pt"
TARGETS = re.compile(r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\._?sym_\w+")
SYMBOL = re.compile(r"[a-z_]*\d+|True|False|int_oo|oo")
FUNCTIONS = {
    "Symbol", "Integer", "Float", "Rational", "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv", "IntTrueDiv", "FloatTrueDiv",
    "Max", "Min", "Abs", "Pow", "PowByNatural", "FloatPow", "Where", "Piecewise", "ToFloat", "TruncToInt", "CeilToInt",
    "FloorToInt", "RoundToInt", "Add", "Mul", "Eq", "Ne", "Le", "Lt", "Ge", "Gt", "And", "Or", "Not", "VR", "Identity",
}  # fmt: skip
AGAIN = "save it again with torch.export.save(torch.export.export(module, example_inputs), 'model.pt2')"


def check(path: Path, where: str) -> None:
    """Raises MissingFileError, InvalidModelError (damaged or hostile), UnsupportedModelError (holds more than tensors)."""
    if not path.is_file():
        raise MissingFileError("no such model file", where=where, hint="check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive, path.stat().st_size, where)
            files = {name.split("/", 1)[1]: name for name in archive.namelist() if "/" in name}
            _check_kind(archive, files, where)
            for config, what in CONFIGS.items():
                _check_payloads(_json(archive, files[config], where), what, path.stat().st_size, where)
            _check_samples(archive.read(files[SAMPLES]), where)
            _check_graph(_json(archive, files[MODEL], where), where)
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidModelError(
            f"damaged .pt2 file: {error}", where=where, expected="what torch.export.save writes", hint=AGAIN
        ) from error


def _check_entries(archive: zipfile.ZipFile, size: int, where: str) -> None:
    """Stored, not compressed, each once: no bomb, and one meaning a file."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(entries) > MAX_ENTRIES or len(set(names)) != len(names):
        raise InvalidModelError("too many entries, or one twice", where=where, hint=AGAIN)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(entry.file_size for entry in entries) > size:
        raise InvalidModelError("compressed or overlapping entries", where=where, expected="stored entries", hint=AGAIN)
    if len({name.split("/")[0] for name in names}) != 1 or any(".." in name.split("/") for name in names):
        raise InvalidModelError("entries outside of one folder", where=where, hint=AGAIN)


def _check_kind(archive: zipfile.ZipFile, files: dict[str, str], where: str) -> None:
    if "archive_format" not in files or archive.read(files["archive_format"]) != b"pt2":
        raise InvalidModelError("a PyTorch archive of another kind", where=where, expected="an exported program", hint=AGAIN)
    if any(name.startswith("data/aotinductor") for name in files):
        raise UnsupportedModelError("holds compiled code (AOTInductor)", where=where, hint=AGAIN)
    models = [name for name in files if name.startswith("models/")]
    if models != [MODEL]:
        raise UnsupportedModelError(f"{len(models)} models in one file", where=where, expected="one, called model", hint=AGAIN)
    old = [name for name in files if name in ("data/weights/model.pt", "data/constants/model.pt")]
    if old:
        raise UnsupportedModelError(f"{old[0]} is a pickle, as older versions of torch wrote it", where=where, hint=AGAIN)


def _json(archive: zipfile.ZipFile, name: str, where: str) -> Any:
    return json.loads(archive.read(name).decode())


def _check_payloads(document: Any, what: str, size: int, where: str) -> None:
    """Raw tensors only, none larger than the file."""
    for name, payload in document["config"].items():
        place = f"{where}, {what} '{name}'"
        path = payload["path_name"]
        plain = not payload["use_pickle"] and (what == "weights" or path.startswith("tensor_"))
        if not plain or "/" in path:
            raise UnsupportedModelError(
                "is not a plain tensor: torch would unpickle it and run code of the file", where=place, hint=AGAIN
            )
        if prod(int(dim["as_int"]) for dim in payload["tensor_meta"]["sizes"]) > size:
            raise InvalidModelError("is larger than the file", where=place, hint=AGAIN)


def _check_samples(data: bytes, where: str) -> None:
    """torch unpickles the example inputs, without its safe mode when that fails: it must not."""
    import torch

    try:
        torch.load(BytesIO(data), weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError ...
        raise UnsupportedModelError(
            "its example inputs are not plain tensors: torch would unpickle them and run code of the file",
            where=where,
            hint=AGAIN,
        ) from error


def _check_graph(document: Any, where: str) -> None:
    """Operators from torch alone, and expressions of dimensions that hold numbers, symbols and arithmetic."""
    for key, value in _strings(document, 0):
        if key == "target" and not TARGETS.fullmatch(value):
            raise UnsupportedModelError(
                "an operator that is not one of torch's own", where=where, got=value[:80], hint="write it with operators of torch"
            )
        if key == "expr_str" and not is_arithmetic(value):
            raise InvalidModelError("an expression that is no arithmetic of dimensions", where=where, got=value[:80], hint=AGAIN)


def _strings(part: Any, depth: int) -> Iterator[tuple[str, str]]:
    """Every string of the document with its key."""
    if depth > MAX_NESTING:
        raise ValueError("nested too deep")
    if isinstance(part, dict):
        for key, value in part.items():
            if isinstance(value, str):
                yield key, value
            else:
                yield from _strings(value, depth + 1)
    elif isinstance(part, list):
        for value in part:
            yield from _strings(value, depth + 1)


def is_arithmetic(text: str) -> bool:
    """Whether sympy may evaluate it: no attribute, no index, no name but symbols, no call but of arithmetic."""
    if len(text) > 4096:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return _is_plain(tree.body)


def _is_plain(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=bool() | int() | float()):
            return True
        case ast.Name(id=name):
            return SYMBOL.fullmatch(name) is not None
        case ast.UnaryOp(operand=inner):
            return _is_plain(inner)
        case ast.BinOp(left=left, right=right):
            return _is_plain(left) and _is_plain(right)
        case ast.BoolOp(values=parts):
            return all(map(_is_plain, parts))
        case ast.Compare(left=left, comparators=parts):
            return _is_plain(left) and all(map(_is_plain, parts))
        case ast.Tuple(elts=parts):
            return all(map(_is_plain, parts))
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=facts):
            return SYMBOL.fullmatch(name) is not None and all(isinstance(fact.value, ast.Constant) for fact in facts)
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]):
            return name in FUNCTIONS and all(map(_is_plain, parts))
    return False
