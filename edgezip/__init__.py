"""EdgeZip: a neural network made small and fast on a small machine, and proved so.

    import edgezip as ez
    model = ez.load("model.onnx")
    small = ez.compress(model, ez.Recipe.int8(), calibration="images/")
    program = ez.compile(small, target="rpi4")
    session = ez.Session(program)
    logits = session.run({"input": x})["logits"]

Names are loaded when first used, so that ``import edgezip`` costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "load": "edgezip.frontends",
    "compress": "edgezip.compression",
    "Recipe": "edgezip.recipe",
    "compile": "edgezip.compilation",
    "Program": "edgezip.program",
    "Session": "edgezip.runtime.backends",
    "load_target": "edgezip.target",
}
__all__ = ["Program", "Recipe", "Session", "__version__", "compile", "compress", "load", "load_target"]

if TYPE_CHECKING:
    from edgezip.compilation import compile
    from edgezip.compression import compress
    from edgezip.frontends import load
    from edgezip.program import Program
    from edgezip.recipe import Recipe
    from edgezip.runtime.backends import Session
    from edgezip.target import load_target


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgezip' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
