"""RNN, GRU and LSTM nodes of every form against ONNX Runtime; interpreter and C to the bit on both layouts."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnxruntime
import pytest
from pack_graphs import run_everywhere
from recurrent_graphs import Net

from edgezip.errors import InvalidModelError, UnsupportedModelError
from edgezip.frontends.onnx import load

Array = np.ndarray[Any, np.dtype[Any]]
CASES: dict[str, Net] = {}
for _kind, _direction in product(("RNN", "GRU", "LSTM"), ("forward", "reverse", "bidirectional")):
    _name = f"{_kind} {_direction}"
    CASES[_name] = Net(_kind, direction=_direction)
    CASES[f"{_name} lengths"] = Net(_kind, batch=3, direction=_direction, lengths=(5, 2, 3))
    CASES[f"{_name} lengths at run time"] = Net(_kind, batch=3, direction=_direction, lengths=(1, 5, 4), runtime_lengths=True)
    CASES[f"{_name} no steps"] = Net(_kind, direction=_direction, lengths=(0, 5))
    CASES[f"{_name} bare"] = Net(_kind, direction=_direction, bias=False, state=False, outputs=("Y",), opset=14)
    CASES[f"{_name} last state"] = Net(_kind, direction=_direction, outputs=("Y_h",), steps=3, batch=1, hidden=16)
    CASES[f"{_name} clip"] = Net(_kind, direction=_direction, attributes={"clip": 0.4})
CASES |= {
    "GRU before": Net("GRU", attributes={"linear_before_reset": 1}),
    "GRU before, both ways, many": Net("GRU", batch=18, direction="bidirectional", attributes={"linear_before_reset": 1}),
    "GRU many": Net("GRU", batch=18, hidden=17),
    "LSTM peephole": Net("LSTM", peephole=True),
    "LSTM peephole, both ways, clip": Net("LSTM", peephole=True, direction="bidirectional", attributes={"clip": 0.5}),
    "LSTM input_forget": Net("LSTM", attributes={"input_forget": 1}),
    "LSTM one step": Net("LSTM", steps=1, batch=1, hidden=20),
    "LSTM cell only": Net("LSTM", outputs=("Y_c",)),
    "RNN relu": Net("RNN", attributes={"activations": ["Relu"]}),
    "RNN leaky relu": Net("RNN", attributes={"activations": ["LeakyRelu"], "activation_alpha": [0.3]}),
    "RNN two functions": Net("RNN", direction="bidirectional", attributes={"activations": ["Elu", "HardSigmoid"],
                             "activation_alpha": [0.7, 0.3], "activation_beta": [0.4]}),
    "GRU other functions": Net("GRU", attributes={"activations": ["HardSigmoid", "Softplus"]}),
    "LSTM other functions": Net("LSTM", attributes={"activations": ["HardSigmoid", "Relu", "Tanh"],
                                "activation_alpha": [0.25], "activation_beta": [0.4]}),
}  # fmt: skip


def by_onnx_runtime(net: Net, feeds: dict[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(net.model(), options, providers=["CPUExecutionProvider"])
    return dict(zip((out.name for out in session.get_outputs()), session.run(None, feeds), strict=True))


def assert_close(got: dict[str, Array], want: dict[str, Array]) -> None:
    assert set(got) == set(want)
    for name, array in want.items():
        # both round in float32, up to 5 steps of sums of 20 products of size one
        np.testing.assert_allclose(got[name], array, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_node_gives_the_answers_of_onnx_runtime(name: str) -> None:
    net = CASES[name]
    feeds = net.feeds()
    _, results = run_everywhere(load(net.model()), feeds)
    assert_close(results, by_onnx_runtime(net, feeds))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_batch_first_is_time_first_turned(kind: str, direction: str) -> None:
    first, plain = (Net(kind, direction=direction, layout=layout, lengths=(4, 5)) for layout in (1, 0))
    feeds = first.feeds()
    turned = {name: array.transpose(1, 0, 2) if array.ndim == 3 else array for name, array in feeds.items()}
    _, results = run_everywhere(load(first.model()), feeds)
    want = by_onnx_runtime(plain, turned)
    perms = {"Y": (2, 0, 1, 3), "Y_h": (1, 0, 2), "Y_c": (1, 0, 2)}
    assert_close(results, {name: array.transpose(perms[name]) for name, array in want.items()})


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_steps_one_by_one_give_what_all_steps_give(kind: str) -> None:
    whole, single = Net(kind, steps=4, batch=1), Net(kind, steps=1, batch=1)
    feeds = whole.feeds()
    _, want = run_everywhere(load(whole.model()), feeds)
    model = load(single.model())
    state = {name: array for name, array in feeds.items() if name != "X"}
    for step in range(4):
        _, got = run_everywhere(model, {"X": feeds["X"][step : step + 1], **state})
        state = {name: got[f"Y_{name[0]}"] for name in state}
        np.testing.assert_array_equal(got["Y"][0], want["Y"][step])
    for name, array in state.items():
        np.testing.assert_array_equal(array, want[f"Y_{name[0]}"])


@pytest.mark.parametrize("function", ["Affine", "ThresholdedRelu", "ScaledTanh", "Softsign", "Nonsense"])
def test_other_activations_are_refused_by_name(function: str) -> None:
    from edgezip import pack

    attributes = {"activations": [function, "Tanh", "Tanh"], "activation_alpha": [1.0], "activation_beta": [1.0]}
    with pytest.raises(UnsupportedModelError, match=f"net.*{function}"):
        pack.compile(load(Net("LSTM", attributes=attributes).model()), "host")


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"hidden_size": 8}, "hidden_size"),
        ({"clip": -1.0}, "clip"),
        ({"clip": float("nan")}, "clip"),
        ({"direction": "up"}, "direction"),
    ],
)
def test_contradictory_attributes_are_refused(attributes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidModelError, match=field):
        load(Net("LSTM", attributes=attributes).model())
