"""A module (or a .pt2 file) -> torch.export.ExportedProgram, and what torch says when it cannot.

The user's module is never touched: what is exported is a copy that shares the weights' memory and reads it only.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import parametrize, prune

from edgezip.errors import EdgeZipError, InvalidModelError, ShapeError, UnsupportedModelError, UsageError
from edgezip.frontends.torch import names

EXPORT_YOURSELF = "or export it yourself with torch.export.export and give the ExportedProgram"


def export(
    module: torch.nn.Module, example_inputs: Any, dynamic_shapes: Any, where: str
) -> tuple[torch.export.ExportedProgram, list[names.Axes]]:
    """The program of one traced call in evaluation mode, and the names of its inputs' dynamic axes.

    Raises UnsupportedModelError, ShapeError, UsageError.
    """
    arguments, keywords = _call(example_inputs)
    if not any(isinstance(leaf, torch.Tensor) for leaf in torch.utils._pytree.tree_leaves((arguments, keywords))):
        raise UsageError("no tensor among the example inputs", where=where, hint="give example_inputs=(torch.randn(...),)")
    clean = cleaned(module, where)
    _check_call(clean, arguments, keywords, where)
    with quiet(), _explained(where):
        program = torch.export.export(clean, arguments, keywords, dynamic_shapes=names.with_dims(dynamic_shapes))
    return program, names.of_dimensions(clean, (arguments, keywords), dynamic_shapes)


def read(path: Path, where: str) -> torch.export.ExportedProgram:
    """The program of a .pt2 file that ``archive`` found harmless. Raises InvalidModelError."""
    try:
        with quiet():
            return torch.export.load(path)
    except Exception as error:  # torch's readers raise everything, AssertionError and KeyError among it
        raise InvalidModelError(
            f"torch cannot load it: {first_line(error)}", where=where, hint="save it again with torch.export.save"
        ) from error


def _call(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    return (tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)), {}


def cleaned(module: torch.nn.Module, where: str) -> torch.nn.Module:
    """A copy in evaluation mode that shares the weights, with masks, weight_norm and the like worked into them."""
    clean = _copied(module, where)
    clean.eval()
    for part in clean.modules():
        _make_permanent(part)
    return clean


def _copied(module: torch.nn.Module, where: str) -> torch.nn.Module:
    memo: dict[int, Any] = {}
    for part in module.modules():
        for tensor in [*part._parameters.values(), *part._buffers.values(), *vars(part).values()]:
            if isinstance(tensor, torch.Tensor) and id(tensor) not in memo:
                memo[id(tensor)] = _shared(tensor)
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:  # whatever the module holds that cannot be copied: locks, files, generators
        said, hint = f"the module cannot be copied: {first_line(error)}", f"drop what is no weight, {EXPORT_YOURSELF}"
        raise UnsupportedModelError(said, where=where, hint=hint) from error


def _shared(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers without a history: what pruning computed from a mask is no leaf, and deepcopy refuses it."""
    if isinstance(tensor, torch.nn.Parameter):
        return type(tensor)(tensor.detach(), tensor.requires_grad)
    return tensor.detach().clone()  # a buffer, which forward may write


def _make_permanent(part: torch.nn.Module) -> None:
    names = list(getattr(part, "parametrizations", ()))
    if names:  # the class carries the parametrized attributes; removing takes them from it, and it is the user's module's too
        shared = type(part)
        body = {key: value for key, value in vars(shared).items() if key not in ("__dict__", "__weakref__")}
        part.__class__ = type(shared.__name__, shared.__bases__, body)
    for name in names:
        parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    for hook in list(part._forward_pre_hooks.values()):
        kind = type(hook).__name__
        if isinstance(hook, prune.BasePruningMethod):
            prune.remove(part, hook._tensor_name)
        elif kind == "WeightNorm":
            torch.nn.utils.remove_weight_norm(part, hook.name)
        elif kind == "SpectralNorm":
            torch.nn.utils.remove_spectral_norm(part, hook.name)


def _check_call(module: torch.nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], where: str) -> None:
    """Runs the copy once: a wrong shape is told in torch's plain words, not in those of a tracer."""
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()), quiet():
            module(*arguments, **keywords)
    except Exception as error:  # the user's own code runs here
        raise UsageError(
            f"forward fails on the example inputs: {type(error).__name__}: {first_line(error)}", where=where,
            hint="try module(*example_inputs); a dictionary gives keyword arguments",
        ) from error  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """torch's own deprecations and remarks on packages that are not installed are no business of the user."""
    import logging

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx", "torch._export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """What torch.export says, as one of our errors with the way out."""
    try:
        yield
    except EdgeZipError:
        raise
    except Exception as error:  # no common base: UserError, GuardOnDataDependentSymNode, RuntimeError, AssertionError ...
        text, kind = first_line(error), type(error).__name__
        said = f"torch.export says {kind}: {text}"
        whole = f"{kind} {error}"
        if "DataDependent" in kind or "data-dependent" in whole or "data dependent" in whole:
            hint = "choose with torch.where, torch.cond or a fixed size instead of if and .item() on values"
            raise UnsupportedModelError(f"what runs depends on the data; {said}", where=where, hint=hint) from error
        if "Constraints violated" in whole or "dynamic_shapes" in whole or "dynamic dim" in whole:
            hint = "mark as dynamic only what forward takes in every size"
            raise ShapeError(f"dynamic_shapes do not fit; {said}", where=where, hint=hint) from error
        raise UnsupportedModelError(
            f"cannot be traced; {said}", where=where, hint=f"write that part in plain tensor operations, {EXPORT_YOURSELF}"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, short enough for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
