"""Names of dimensions, outputs and weights: those of the module, not those of the exporter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir
import torch
from torch.utils import _pytree as pytree

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model

Origins = dict[str, tuple[str, ...]]  # value -> the parameters and buffers that it is computed from
Axes = dict[int, str]  # axis of an input -> the name of its dimension
SHAPES_ONLY = {"Shape", "Size"}  # constants in the end, whatever they read
PARAMETERS = "edgezip.parameters"  # metadata of a weight: the names that its numbers come from


# ---------------------------------------------------------------- dimensions


def with_dims(dynamic_shapes: Any) -> Any:
    """The same with torch's "whatever it may be" in the place of each plain name: torch finds the bounds itself."""
    if isinstance(dynamic_shapes, str):
        return torch.export.Dim.DYNAMIC
    if isinstance(dynamic_shapes, Mapping):
        return {key: with_dims(value) for key, value in dynamic_shapes.items()}
    if isinstance(dynamic_shapes, (tuple, list)):
        return type(dynamic_shapes)(map(with_dims, dynamic_shapes))
    return dynamic_shapes


def of_dimensions(module: torch.nn.Module, call: tuple[Any, ...], dynamic_shapes: Any) -> list[Axes]:
    """For each tensor among the inputs, in order, the names that its dynamic axes were given."""
    arguments, keywords = call
    bound = inspect.signature(module.forward).bind(*arguments, **keywords).arguments
    named = dynamic_shapes if isinstance(dynamic_shapes, Mapping) else dict(zip(bound, dynamic_shapes or (), strict=False))
    return list(_axes(bound, named))


def _axes(value: Any, spec: Any) -> Iterator[Axes]:
    if isinstance(value, torch.Tensor):
        pairs = spec.items() if isinstance(spec, Mapping) else enumerate(spec or ())
        names = ((axis, dim if isinstance(dim, str) else getattr(dim, "__name__", None)) for axis, dim in pairs)
        yield {axis: name for axis, name in names if isinstance(name, str)}
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _axes(inner, spec.get(key) if isinstance(spec, Mapping) else None)
    elif isinstance(value, (tuple, list)):
        for index, inner in enumerate(value):
            yield from _axes(inner, spec[index] if isinstance(spec, Sequence) and index < len(spec) else None)


def name_dimensions(model: onnx_ir.Model, axes: Sequence[Axes]) -> None:
    """Symbols of the exporter (``s77``) take the user's names, or that of the input and axis where they are first seen."""
    known: dict[str, str] = {}
    for position, value in enumerate(model.graph.inputs):
        given = axes[position] if position < len(axes) else {}
        dims: list[int | str] = []
        for axis, dim in enumerate(value.shape or ()):
            name = given.get(axis) or f"{value.name}_dim_{axis}"
            dims.append(dim if isinstance(dim, int) else known.setdefault(str(dim.value), name))
        value.shape = onnx_ir.Shape(dims)


# ---------------------------------------------------------------- outputs


def of_outputs(program: torch.export.ExportedProgram) -> list[str]:
    """``output``, ``output_0`` ... of a tuple, the keys of a dictionary; nested ones joined by an underscore."""
    spec = program.call_spec.out_spec
    tree = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    kinds = [kind.arg for kind in program.graph_signature.output_specs if kind.kind.name == "USER_OUTPUT"]
    named = {leaf: _written(path) for path, leaf in pytree.tree_flatten_with_path(tree)[0]}
    return [named[index] for index, kind in enumerate(kinds) if type(kind).__name__ == "TensorArgument"]


def _written(path: Sequence[Any]) -> str:
    parts = [re.sub(r"\W", "_", str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))) for key in path]
    first = path[0] if path else None
    return "_".join(["output", *parts] if first is None or hasattr(first, "idx") else parts)


def name_outputs(model: onnx_ir.Model, names: Sequence[str]) -> None:
    """Gives the outputs their names; one that is an input, a constant or there twice gets a node of its own."""
    outputs = model.graph.outputs
    if len(names) != len(outputs):
        return
    for index, value in enumerate(list(outputs)):
        if value.producer() is None or any(value is earlier for earlier in outputs[:index]):
            copied = onnx_ir.Node("", "Identity", [value], name=f"output_{index}")
            copied.outputs[0].type, copied.outputs[0].shape = value.type, value.shape
            model.graph.append(copied)
            outputs[index] = copied.outputs[0]
    inner = {value.name for node in model.graph for value in node.outputs if not value.is_graph_output()}
    taken = inner | {value.name for value in model.graph.inputs} | set(model.graph.initializers)
    for value, name in zip(outputs, names, strict=True):
        value.name = name if name not in taken else f"{name}_out"


# ---------------------------------------------------------------- weights


def origins(model: onnx_ir.Model) -> Origins:
    """For every value that depends on weights alone, which; read before anything is folded."""
    found: Origins = {name: (name,) for name in model.graph.initializers}
    for node in model.graph:
        above = [found.get(value.name or "") if value is not None else () for value in node.inputs]
        if node.op_type in SHAPES_ONLY:
            above = []
        elif any(names is None for names in above):
            continue
        names = tuple(dict.fromkeys(name for held in above for name in held or ()))
        found.update({value.name: names for value in node.outputs if value.name})
    return {name: names for name, names in found.items() if names}


def restore_weights(model: Model, found: Origins) -> None:
    """Folded weights (transposed, joined, reordered) take the name of the parameter they are made of; metadata lists all."""
    taken = set(graph.values(model))
    for value in graph.initializers(model):
        name = str(value.name)
        names = found.get(name)
        if names is None:
            continue
        graph.set_metadata(value, PARAMETERS, " ".join(names))
        if name not in names and names[0] not in taken:
            taken.add(names[0])
            graph.rename(value, names[0])
