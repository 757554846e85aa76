"""Runs the float model over the samples and remembers a histogram of each wanted tensor; memory does not grow with samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgezip import graph
from edgezip.errors import CalibrationError
from edgezip.passes.histogram import Histogram

if TYPE_CHECKING:
    from edgezip.graph import Model

Array = np.ndarray[Any, Any]


def calibrate(
    model: Model, names: Iterable[str], feeds: Iterable[Mapping[str, Array]], progress: Callable[[int], None] | None = None
) -> dict[str, Histogram]:
    """A histogram for each tensor in ``names`` (float32, of the model or its inputs) over all ``feeds``.

    ``progress`` is told the number of samples done. Raises CalibrationError: no samples, or a value that is not finite.
    """
    histograms = {name: Histogram(name) for name in names}
    from_inputs = {v.name or "" for v in graph.input_values(model)} & set(histograms)
    inner = [name for name in histograms if name not in from_inputs]
    count = 0
    for count, (feed, results) in enumerate(graph.run_beside(model, feeds, inner or None), 1):
        for name, histogram in histograms.items():
            histogram.add(np.asarray(feed[name]) if name in from_inputs else results[name], f"sample {count - 1}")
        if progress is not None:
            progress(count)
    if not count:
        raise CalibrationError("no calibration samples", hint="give some tens of typical inputs")
    return histograms
