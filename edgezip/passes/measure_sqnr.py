"""How much of each layer's signal survives: signal to quantisation-noise ratio of every quantised tensor, always measured.

Both models run over the same samples; only running sums are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph

if TYPE_CHECKING:
    from edgezip.graph import Model

Array = np.ndarray[Any, Any]
MAX_DB = 200.0


def measure_sqnr(
    float_model: Model, model: Model, pairs: Mapping[str, str], feeds: Sequence[Mapping[str, Array]]
) -> dict[str, float]:
    """Decibels for each float tensor in ``pairs`` (float name -> name in ``model``) over all ``feeds``; 200 when equal."""
    exact = graph.run_many(float_model, iter(feeds), list(pairs))
    return compare(exact, graph.run_many(model, iter(feeds), list(pairs.values())), pairs)


def compare(
    exact: Iterable[Mapping[str, Array]], rounded: Iterable[Mapping[str, Array]], pairs: Mapping[str, str]
) -> dict[str, float]:
    """The same from results at hand: one mapping a sample, ``exact`` by the names of ``pairs``, ``rounded`` by their values."""
    signal = dict.fromkeys(pairs, 0.0)
    noise = dict.fromkeys(pairs, 0.0)
    for wanted, got in zip(exact, rounded, strict=True):
        for name, other in pairs.items():
            reference = wanted[name].astype(np.float64)
            signal[name] += float((reference**2).sum())
            noise[name] += float(((reference - got[other]) ** 2).sum())
    return {name: decibels(signal[name], noise[name]) for name in pairs}


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), within [-200, 200]."""
    if noise <= 0:
        return MAX_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -MAX_DB, MAX_DB))
