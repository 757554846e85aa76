"""Runs a model over all samples together, piece by piece, so that a layer can be changed before what lies behind it is run.

Each node runs once a sample; what nothing will read again is let go. The bytes held are about ``cost.peak_activation_bytes`` for
each sample, beside values that are still to be asked for. Of a tensor that was quantised the integers are held: pieces begin with
its DequantizeLinear, so ONNX Runtime computes them in integers as it does the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model, Node, Value

Array = np.ndarray[Any, Any]


class Walk:
    """``feeds``: all samples. ``wanted``: names that will be asked for, as often as they are listed."""

    def __init__(self, model: Model, feeds: Sequence[Mapping[str, Array]], wanted: Iterable[str]) -> None:
        self._model, self._at, self._count = model, 0, len(feeds)
        self._nodes = [(_sources(node), [value.name for value in node.outputs]) for node in graph.nodes(model)]
        self._wanted = Counter(wanted)
        self._last = {name: number for number, (read, _) in enumerate(self._nodes) for name in read}
        self._maker = {name: number for number, (_, made) in enumerate(self._nodes) for name in made}
        names = [value.name or "" for value in graph.input_values(model)]
        self._held: dict[str, list[Array]] = {name: [np.asarray(feed[name]) for feed in feeds] for name in names}

    def values(self, name: str) -> list[Array]:
        """The value of that name in every sample. Nodes up to its maker are run with the weights that they have now."""
        if name not in self._held:
            self._run_to(self._maker[name] + 1)
        arrays = self._held[name]
        self._wanted[name] -= 1
        self._let_go()
        return arrays

    def tried(self, name: str) -> Iterator[Array]:
        """The same sample by sample, without going on: the maker of the value runs again when something behind it is asked for.

        So its weights may still be changed.
        """
        maker = self._maker[name]
        self._run_to(maker)
        return (results[name] for results in self._results(maker, maker + 1, [name]))

    def _run_to(self, end: int) -> None:
        made = {name for _, names in self._nodes[self._at : end] for name in names}
        outputs = sorted(name for name in made if name and (self._wanted[name] > 0 or self._last.get(name, -1) >= end))
        found = list(self._results(self._at, end, outputs)) if outputs else []
        self._at = max(end, self._at)
        self._held |= {name: [results[name] for results in found] for name in outputs}
        self._let_go()

    def _results(self, first: int, end: int, outputs: Sequence[str]) -> Iterator[dict[str, Array]]:
        """What the nodes from ``first`` to before ``end`` give for each sample, from what is held."""
        read = {name for names, _ in self._nodes[first:end] for name in names}
        inputs = sorted(name for name in read if name in self._held)
        piece = graph.part(self._model, inputs, outputs)
        rows = ({name: self._held[name][i] for name in inputs} for i in range(self._count))
        return graph.run_many(piece, rows, outputs)

    def _let_go(self) -> None:
        for name in [n for n in self._held if self._wanted[n] <= 0 and self._last.get(n, -1) < self._at]:
            del self._held[name]


def _sources(node: Node) -> list[str | None]:
    """Names that the node reads; of a dequantised tensor, the integers."""
    return [_quantised(value).name for value in node.inputs if value is not None]


def _quantised(value: Value) -> Value:
    maker = graph.producer(value)
    source = maker.inputs[0] if maker is not None and maker.op_type == "DequantizeLinear" else None
    return value if source is None else source
