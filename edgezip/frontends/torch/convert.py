"""torch.export.ExportedProgram -> ONNX bytes, by torch's own exporter and onnxscript's optimiser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import onnx_ir
import torch
from onnx_ir.passes import common as passes

from edgezip.errors import UnsupportedModelError
from edgezip.frontends.torch import names
from edgezip.frontends.torch.missing import masked_select
from edgezip.frontends.torch.module import first_line, quiet

OPSET = 20  # the first with Gelu; LayerNormalization is older
ROUNDS = 2  # of folding and rewriting, as onnxscript's own optimiser
OWN = {"aten", "prims", "prim"}
MUTATIONS = ("BUFFER_MUTATION", "PARAMETER_MUTATION", "USER_INPUT_MUTATION")


def to_onnx(program: torch.export.ExportedProgram, axes: Sequence[names.Axes], where: str) -> tuple[bytes, names.Origins]:
    """The bytes of an ONNX model with the module's names, and from which weights each constant value of it comes.

    Raises UnsupportedModelError: operators of other libraries, operators that torch does not export, buffers that are written.
    """
    _check_mutations(program, where)
    _check_operators(program, where)
    try:
        with quiet():
            exported = torch.onnx.export(
                program, opset_version=OPSET, dynamo=True, verbose=False, optimize=False,
                custom_translation_table={torch.ops.aten.masked_select.default: masked_select},
            )  # fmt: skip
    except Exception as error:  # OnnxExporterError wraps whatever came up
        raise UnsupportedModelError(
            f"torch cannot write it as ONNX: {_culprit(error)}", where=where, hint="write that part with other operators of torch"
        ) from error
    assert exported is not None
    model = exported.model
    names.name_dimensions(model, axes)
    found = names.origins(model)
    _optimise(model)
    names.name_outputs(model, names.of_outputs(program))
    return onnx_ir.to_proto(model).SerializeToString(), found


def _optimise(model: onnx_ir.Model) -> None:
    """onnxscript's optimiser without the pass that makes one weight of two equal ones: training tells them apart."""
    from onnxscript import optimizer, rewriter

    passes.InlinePass()(model)
    for _ in range(ROUNDS):
        optimizer.fold_constants(model, onnx_shape_inference=True)
        rewriter.rewrite(model)
        passes.RemoveUnusedNodesPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.LiftSubgraphInitializersToMainGraphPass()(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.NameFixPass()(model)


def _check_mutations(program: torch.export.ExportedProgram, where: str) -> None:
    """A buffer that a call writes would be a constant in the next one; only the functional form of a program says which it is."""
    if not any(_writes(node.target) for node in program.graph.nodes if node.op == "call_function"):
        return
    with quiet():
        signature = program.run_decompositions({}).graph_signature
    written = [spec.target or spec.arg.name for spec in signature.output_specs if spec.kind.name in MUTATIONS]
    if written:
        raise UnsupportedModelError(
            f"forward writes {', '.join(map(str, written[:8]))}",
            where=where,
            hint="make such state an input and an output of forward; a program carries it from run to run",
        )


def _writes(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _check_operators(program: torch.export.ExportedProgram, where: str) -> None:
    """Operators that torch.library or another package registered: their names say more than the exporter's error."""
    called = {node.target for node in program.graph.nodes if node.op == "call_function"}
    foreign = sorted(
        str(target) for target in called if isinstance(target, torch._ops.OpOverload) and target.namespace not in OWN
    )
    if foreign:
        raise UnsupportedModelError(
            f"operators of other libraries: {', '.join(foreign[:8])}",
            where=where,
            hint="write them with operators of torch, or cut them off the module",
        )


def _culprit(error: BaseException) -> str:
    """The innermost cause that names an operator, else the innermost at all."""
    chain: list[BaseException] = []
    step: Any = error
    while step is not None and step not in chain:
        chain.append(step)
        step = step.__cause__ or step.__context__
    for link in reversed(chain):
        named = re.search(r"OpOverload\(op='([^']+)'", str(link))
        if named:
            return f"no ONNX form of {named.group(1)}"
    return first_line(chain[-1])
