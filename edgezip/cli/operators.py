"""``edgezip inspect --ops`` without a model: the operators that the compiler takes, from its own registries."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

STRUCTURE = ("QuantizeLinear", "DequantizeLinear", "Constant")


def supported() -> list[dict[str, Any]]:
    """One row an ONNX operator: does it run in float32, by which way, and is it int8 by a kernel, as a table, by moving bytes?"""
    from edgezip.frontends import decompose, standard
    from edgezip.pack import tables
    from edgezip.pack.lower import FLOAT, INT8
    from edgezip.pack.plan_graph import MOVEMENT
    from edgezip.passes.place_qdq import RECURRENT

    def int8(name: str) -> str | None:
        forms: dict[str, Container[str]] = {"kernel": INT8, "table": tables.FUNCTIONS, "moved": MOVEMENT, "itself": STRUCTURE}
        forms["by row"] = RECURRENT
        return next((form for form, names in forms.items() if name in names), None)

    bodies = standard.written_out()

    def how(name: str) -> str | None:
        ways: dict[str, Container[str]] = {"kernel": {*FLOAT, *STRUCTURE}, "others": decompose.RULES, "body": bodies}
        return next((way for way, names in ways.items() if name in names), None)

    names = sorted({*FLOAT, *INT8, *tables.FUNCTIONS, *STRUCTURE, *decompose.RULES, *bodies})
    return [{"operator": name, "float32": how(name) is not None, "how": how(name), "int8": int8(name)} for name in names]


def show(rows: list[dict[str, Any]]) -> None:
    """A table, and what it means."""
    from edgezip.report import text

    cells = [(row["operator"], row["how"], row["int8"]) for row in rows]
    print(text.table(("operator", "float32", "int8"), cells))
    print(f"\n{len(rows)} operators; table: elementwise on int8 through 256 entries, exact to the step")
    print("others: written as operators that have kernels; body: as the function that the standard gives")
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
