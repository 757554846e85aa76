"""``edgezip inspect --ops`` without a model: the operators that the compiler takes, from its own registries."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

STRUCTURE = ("QuantizeLinear", "DequantizeLinear", "Constant")


def supported() -> list[dict[str, Any]]:
    """One row an ONNX operator: has it a float32 rule, and is it int8 by a kernel, as a table, by moving bytes, or not at all."""
    from edgezip.pack import tables
    from edgezip.pack.lower import FLOAT, INT8
    from edgezip.pack.plan_graph import MOVEMENT
    from edgezip.passes.place_qdq import RECURRENT

    def int8(name: str) -> str | None:
        forms: dict[str, Container[str]] = {"kernel": INT8, "table": tables.FUNCTIONS, "moved": MOVEMENT, "itself": STRUCTURE}
        forms["by row"] = RECURRENT
        return next((form for form, names in forms.items() if name in names), None)

    names = sorted({*FLOAT, *INT8, *tables.FUNCTIONS, *STRUCTURE})
    return [{"operator": name, "float32": name in FLOAT or name in STRUCTURE, "int8": int8(name)} for name in names]


def show(rows: list[dict[str, Any]]) -> None:
    """A table, and what it means."""
    from edgezip.report import text

    cells = [(row["operator"], "yes" if row["float32"] else None, row["int8"]) for row in rows]
    print(text.table(("operator", "float32", "int8"), cells))
    print(f"\n{len(rows)} operators; table: elementwise on int8 through 256 entries, exact to the step")
    print("by row: int8 weights, each row of the activations quantised at run time")
    print("BatchNormalization folds into the layer before it, Sum becomes Add, STFT a Conv, DFT a MatMul, If a branch;")
    print("shapes, constants and copies are gone before that")


def supported_tflite() -> list[dict[str, Any]]:
    """One row a builtin operator of the schema: is it taken, by a converter, or by the graph that it calls?"""
    from edgezip.frontends.tflite import builtin_operators

    return [{"operator": name, "taken": how is not None, "how": how} for name, how in builtin_operators().items()]


def show_tflite(rows: list[dict[str, Any]]) -> None:
    """What is taken, with how; what is not, by name."""
    from edgezip.report import text

    taken = [row for row in rows if row["taken"]]
    print(text.table(("operator", "becomes"), [(row["operator"], row["how"]) for row in taken]))
    print(f"\n{len(taken)} of {len(rows)} builtin operators; inspect --ops says of those of ONNX which run in int8")
    print("refused by name: " + ", ".join(row["operator"] for row in rows if not row["taken"]))
