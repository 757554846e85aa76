"""How much of the error of a compressed network's outputs each layer brings in: the noise when it alone is changed.

One model holds every layer twice, as it was and as it became, and a switch for each: ``y + s (y' - y)``. So the layers are tried
one after another without loading anything anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.search.swap_layer import copied, same_places

if TYPE_CHECKING:
    from edgezip.graph import Model

Array = np.ndarray[Any, Any]
SWITCH = "edgezip_switch_"


def error_shares(before: Model, after: Model, feeds: Sequence[Mapping[str, Array]], names: Sequence[str]) -> dict[str, float]:
    """Shares, adding up to 1, of those layers of ``names`` whose inputs and results have the same shapes in both models."""
    both, switches = _both(before, after, names)
    if not switches or not feeds:
        return {}
    outputs = [value.name or "" for value in graph.output_values(before)]
    noise = dict.fromkeys(switches, 0.0)
    off = {switch: np.zeros((), np.float32) for switch in switches.values()}
    states = [off, *(off | {switch: np.ones((), np.float32)} for switch in switches.values())]
    runs = graph.run_many(both, ({**feed, **state} for feed in feeds for state in states), outputs)
    for _ in feeds:
        exact = next(runs)
        for name in switches:
            made = next(runs)
            floats = [output for output in outputs if made[output].dtype.kind == "f"]
            noise[name] += sum(float(((made[o].astype(np.float64) - exact[o]) ** 2).sum()) for o in floats)
    total = sum(noise.values())
    return {name: value / total if total > 0 else 0.0 for name, value in noise.items()}


def _both(before: Model, after: Model, names: Sequence[str]) -> tuple[Model, dict[str, str]]:
    """``before`` with the layers of ``after`` beside its own, and the input that switches each on."""
    both = graph.clone(before)
    graph.raise_opset(both, graph.opset(after))
    old, new = ({node.name: node for node in graph.nodes(model)} for model in (both, after))
    current = graph.values(both)
    switches: dict[str, str] = {}
    for name in names:
        if name not in old or name not in new or not same_places(old[name], new[name], current):
            continue
        mine, readers = old[name].outputs[0], graph.consumers(old[name].outputs[0])
        stored = mine.name or ""
        switch = graph.add_input(both, f"{SWITCH}{len(switches)}", np.float32, ())
        made = copied(both, new[name], current).outputs[0]
        changed = mine
        for op, inputs in (("Sub", (made, mine)), ("Mul", (None, switch)), ("Add", (mine, None))):
            inner = [changed if value is None else value for value in inputs]
            changed = graph.new_node(both, op, inner, f"{name}_switched", like=mine)
        graph.replace_uses(mine, changed, uses=readers, outputs=True)
        current[stored] = changed
        switches[name] = switch.name or ""
    graph.sort(both)
    return both, switches
