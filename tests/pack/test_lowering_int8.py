"""Every lowering rule between QuantizeLinear and DequantizeLinear, against ONNX Runtime's float arithmetic on the same graph."""

from __future__ import annotations

from typing import Any

import pytest
from lowering_cases import INT8_CASES
from pack_graphs import assert_same_steps, feeds_for, quantise, run_everywhere

from edgezip import graph


@pytest.mark.parametrize("name", INT8_CASES)
@pytest.mark.parametrize("options", [{}, {"unsigned": True}], ids=["int8", "uint8"])
def test_quantised_model_gives_the_steps_of_onnx_runtime(name: str, options: dict[str, Any]) -> None:
    model = INT8_CASES[name]()
    feeds = feeds_for(model)
    quantise(model, feeds, **options)
    _, results = run_everywhere(model, feeds)
    several = len([n for n in graph.nodes(model) if n.op_type == "QuantizeLinear"]) > 2
    assert_same_steps(model, feeds, results["y"], 0.02 if several else 0)
    assert results["y"].any()
