"""The pinned scikit-image wheel (BSD-3): its photographs, a page of scanned text, and the English of its docstrings."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from bench.zoo import fetch

PACKAGE = fetch.Package(
    "pip",
    "scikit-image",
    "0.26.0",
    "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    ("--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_24_x86_64", "--platform=manylinux_2_28_x86_64"),
)


def picture(name: str, work: Path) -> Path:
    """Path of one picture of its data folder."""
    return fetch.member(PACKAGE, f"skimage/data/{name}", work)


def docstrings(work: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of every documented function and class, in the order of files and lines; a text met before is left out."""
    seen: set[str] = set()
    for _, source in fetch.contents(PACKAGE, lambda name: name.endswith(".py") and "/tests/" not in name, work):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = inspect.cleandoc(ast.get_docstring(node) or "")
                if text and text not in seen:
                    seen.add(text)
                    yield node.name, text
