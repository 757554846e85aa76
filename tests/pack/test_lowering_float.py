"""Every lowering rule in float32: both layouts, interpreter and C, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from lowering_cases import FLOAT_CASES
from pack_graphs import feeds_for, run_everywhere

from edgezip import graph


@pytest.mark.parametrize("name", FLOAT_CASES)
def test_float_model_gives_the_answers_of_onnx_runtime(name: str) -> None:
    model = FLOAT_CASES[name]()
    feeds = feeds_for(model)
    _, results = run_everywhere(model, feeds)
    expected = graph.run(model, feeds)
    assert set(results) == set(expected)
    for key, array in expected.items():
        assert results[key].shape == array.shape
        # float32 rounding of sums of at most a few hundred products of size one: well under 1e-5
        np.testing.assert_allclose(results[key], array, rtol=1e-5, atol=1e-5, err_msg=key)
