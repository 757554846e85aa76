"""The network for data-free quantisation: another spread of channels, the same answers, and what equalising is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import edgezip
from bench.rescale import rescaled
from bench.zoo import load_task
from edgezip import graph
from edgezip.passes.products import find_products

PER_TENSOR = {"quantize_weights": {"bits": 8, "per": "tensor", "method": "nearest"}}


def _right(model: Any, feeds: list[tuple[Any, Any]]) -> int:
    results = graph.run_many(model, (feed for feed, _ in feeds))
    return sum(int(next(iter(r.values())).argmax()) == label for r, (_, label) in zip(results, feeds, strict=True))


def test_powers_of_two_change_the_weights_and_no_answer_and_equalising_saves_int8_per_tensor(tmp_path: Path) -> None:
    task = load_task("demo")
    model = edgezip.load(str(task.model(tmp_path)), shapes={})
    feeds = list(task.feeds(tmp_path))
    changed = rescaled(model)
    spread = [np.abs(p.weights()).max(axis=2).ravel() for p in find_products(changed) if p.groups == 1][:2]
    assert max(float(s.max() / s.min()) for s in spread) > 100
    first, second = (next(iter(graph.run(each, feeds[0][0]).values())) for each in (model, changed))
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5)  # kernels may add in another order
    right = {name: _right(edgezip.compress(changed, edgezip.Recipe.of(steps)).model, feeds)
             for name, steps in (("plain", [PER_TENSOR]), ("equal", [{"equalize": {}}, PER_TENSOR]))}  # fmt: skip
    exact = _right(model, feeds)
    assert right["plain"] < 0.9 * exact
    assert right["equal"] >= exact - 2  # half a point of 400
