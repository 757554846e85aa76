"""Blocks skipped against blocks expanded: what is thinned, and that both answer alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import blocks
from bench.one_op import Product
from edgezip import compilation, pack
from edgezip.passes.prune_weights import Pattern
from edgezip.target import load_target


@pytest.mark.parametrize(("pattern", "sparsity"), [("4x16", 0.5), ("4x32", 0.75)])
def test_an_operator_is_measured_in_both_forms(tmp_path: Path, pattern: str, sparsity: float) -> None:
    target = load_target("x86-64")
    model = blocks.thinned(blocks.product_model(Product(13, 64, 128), tmp_path), Pattern(pattern), sparsity)
    told = [step["blocks"] for step in pack.compile(model, target).metadata["steps"] if "blocks" in step]
    assert [entry["kept"] for entry in told] == [1 - sparsity]
    candidates = blocks.sessions(model, target, "portable", profile=True)
    feeds = compilation.noise(pack.compile(model, target), 0)
    kernels = {}
    for name, session in candidates.items():
        blocks.step_us(session, feeds)
        kernels[name] = {kernel for _, op, kernel, _ in session.profile() if op == "conv"}
    assert kernels == {"dense": {"portable"}, "skipped": {"portable-blocks"}, "chosen": {"portable-blocks"}}
    found = blocks.measured(candidates, feeds, 1, blocks.step_us)
    assert set(found["us"]) == set(found["ratio"]) == {"dense", "skipped", "chosen"}
    assert found["ratio"]["dense"] == 1
    assert all(us > 0 for us in found["us"].values())
