"""Which cases the project answers for: models that run on edge devices, on the types that those have.

Decided by the case alone, never by how it went. Cases outside run all the same, and must not crash.
"""

from __future__ import annotations

import onnx

from bench.conformance.cases import Case

TYPES = {"FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8", "INT32", "INT64", "BOOL"}
TRAINING = {
    "Adagrad",
    "Adam",
    "Gradient",
    "Momentum",
    "NegativeLogLikelihoodLoss",
    "SoftmaxCrossEntropyLoss",
}
LOOPS = {"Loop", "Scan"}
RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
TEXT = {"RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"}
CLASSES = {
    "training": TRAINING,
    "loops over subgraphs": LOOPS,
    "random numbers": RANDOM,
    "text": TEXT,
    "reads image files": {"ImageDecoder"},
}


def outside(case: Case) -> str:
    """Why the case is not in scope, or an empty string."""
    graph = case.model.graph
    domains = {node.domain for node in graph.node} - {"", "ai.onnx"}
    if domains:
        return f"operators of {sorted(domains)[0]}"
    for info in [*graph.input, *graph.output]:
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            return "sequences, maps and optional values"
        name = onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type)
        if name not in TYPES:
            return f"type {name.lower()}"
    types = _operators(graph)
    for reason, operators in CLASSES.items():
        if types & operators:
            return reason
    if any("Sequence" in name or "Optional" in name for name in types):
        return "sequences, maps and optional values"
    return "training" if _trains(case) else ""


def _operators(graph: onnx.GraphProto) -> set[str]:
    found, stack = set(), list(graph.node)
    while stack:
        node = stack.pop()
        found.add(node.op_type)
        for attr in node.attribute:
            if attr.HasField("g"):
                stack.extend(attr.g.node)
    return found


def _trains(case: Case) -> bool:
    """Dropout and BatchNormalization in training mode; a loss written out, by the name of its case."""
    for node in case.model.graph.node:
        flags = {attr.name: attr.i for attr in node.attribute}
        if node.op_type == "BatchNormalization" and (flags.get("training_mode") or len([n for n in node.output if n]) > 1):
            return True
        if node.op_type == "Dropout" and len(node.input) > 2 and case.pairs and _is_true(case, node.input[2]):
            return True
    return case.name.startswith(("test_sce_", "test_nllloss_", "test_training_dropout"))


def _is_true(case: Case, name: str) -> bool:
    names = [info.name for info in case.model.graph.input]
    held = case.pairs[0][0][names.index(name)] if name in names else None
    return held is not None and bool(held.any())
