"""A model that was changed at one size, as compression does, given in every size of the file that it came from.

What the file gives at two sizes differs in constants (shapes, tables cut to length) and in the shapes of values, not in its
nodes. These differences are carried over, by name, to the changed model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import ShapeError, UnsupportedModelError
from edgezip.frontends import dimensions

if TYPE_CHECKING:
    from edgezip.frontends.resizable import Resizable
    from edgezip.graph import Model

Array = np.ndarray[Any, Any]


class Transferred:
    """``changed`` (loaded, or what ``compress`` gave) at the sizes of ``source``, whose nodes bear the same names.

    Raises ShapeError when ``changed`` has a size that ``source`` cannot have.
    """

    def __init__(self, changed: Model, source: Resizable) -> None:
        self._changed, self._source = changed, source
        self.symbols, self.shown_by = source.symbols, source.shown_by
        before = source.at(self._own_sizes())
        self._nodes = _nodes(before)
        self._constants = _constants(before)

    def _own_sizes(self) -> list[int]:
        inputs = {str(value.name): graph.shape(value) for value in graph.input_values(self._changed)}
        sizes = []
        for symbol, (name, axis) in zip(self.symbols, self.shown_by, strict=True):
            shape = inputs.get(name, ())
            if axis >= len(shape):
                raise ShapeError("the model and its source have different inputs", where=name, got=str(shape))
            sizes.append(shape[axis])
            if shape[axis] < 1:
                raise ShapeError("a size is not known", where=name, expected=symbol.bounds, got=str(shape))
        return sizes

    def at(self, sizes: Sequence[int]) -> Model:
        """The changed model at one size of each symbol. Raises UnsupportedModelError when the source has other nodes there."""
        after = self._source.at(sizes)
        if _nodes(after) != self._nodes:
            own, there = next(((a, b) for a, b in zip(self._nodes, _nodes(after), strict=False) if a != b), ("other nodes", ""))
            raise UnsupportedModelError(
                f"the source has other nodes at {tuple(sizes)} than at the size of the compressed model",
                got=f"{own}, {there}", hint="leave that size out (often 1): --dim NAME=2..HIGH",
            )  # fmt: skip
        model = graph.clone(self._changed)
        self._carry_constants(model, _constants(after))
        self._infer_shapes(model, after)
        return model

    def _carry_constants(self, model: Model, after: Mapping[str, Array]) -> None:
        held = {str(value.name): value for value in graph.initializers(model)}
        for name, array in after.items():
            before = self._constants[name]
            if before is array or (before.shape == array.shape and np.array_equal(before, array)):
                continue
            mine = graph.constant(held.get(name))
            if mine is None or mine.shape != before.shape or not np.array_equal(mine, before):
                raise UnsupportedModelError(
                    "compression changed a constant that depends on a dynamic dimension", where=name,
                    hint="keep the node that reads it in float: --keep NODE",
                )  # fmt: skip
            graph.replace_uses(held[name], graph.add_initializer(model, f"{name}.sized", array), outputs=True)

    def _infer_shapes(self, model: Model, after: Model) -> None:
        known = graph.values(after)
        for value in graph.input_values(model):
            graph.set_type(value, graph.dtype(value), graph.shape(known[str(value.name)]))
        made = [value for node in graph.nodes(model) for value in node.outputs if value.name]
        for value in made:
            value.shape = None
        dimensions.infer(model, "compressed model")
        for value in made:
            if not graph.has_static_shape(value) and str(value.name) in known:
                graph.set_type(value, graph.dtype(value), graph.shape(known[str(value.name)]))
        dimensions.learn_missing(model, "compressed model")


def _nodes(model: Model) -> list[str]:
    return [f"{node.op_type} '{node.name}'" for node in graph.nodes(model)]


def _constants(model: Model) -> dict[str, Array]:
    held = {str(value.name): graph.constant(value) for value in graph.initializers(model)}
    return {name: array for name, array in held.items() if array is not None}
