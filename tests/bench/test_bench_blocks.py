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
def test_an_operator_is_measured_in_every_form(tmp_path: Path, pattern: str, sparsity: float) -> None:
    target, operator = load_target("x86-64"), Product(13, 64, 128)
    program = pack.compile(blocks.thinned(blocks.product_model(operator, tmp_path), Pattern(pattern), sparsity), target)
    assert [step["blocks"]["kept"] for step in program.metadata["steps"] if "blocks" in step] == [1 - sparsity]
    cut = (Pattern(pattern), sparsity)
    candidates = blocks.sessions(lambda: blocks.product_model(operator, tmp_path), cut, target, "portable")
    feeds = compilation.noise(program, 0)
    kernels = {}
    for name, session in candidates.items():
        assert sum(blocks.step_ns(session, feeds)) > 0
        kernels[name] = {kernel for _, op, kernel, _ in session.profile() if op == "conv"}
    dense, skips = {"portable"}, {"portable-blocks"}
    assert kernels == {"unpruned": dense, "dense": dense, "skipped": skips, "chosen": skips}
    found = blocks.measured(candidates, feeds, 1, whole=False)
    assert set(found["us"]) == set(found["ratio"]) == set(kernels)
    assert found["ratio"]["unpruned"] == 1
    assert all(us > 0 for us in found["us"].values())
