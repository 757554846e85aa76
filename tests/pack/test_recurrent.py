"""RNN, GRU and LSTM nodes of every form against ONNX Runtime; interpreter and C to the bit on both layouts."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from pack_graphs import run_everywhere
from recurrent_graphs import Net

from edgezip import compilation, compression
from edgezip.errors import InvalidModelError, UnsupportedModelError
from edgezip.frontends.onnx import load
from edgezip.recipe import Recipe
from edgezip.runtime.session import Session

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


def streaming_model(frames: int) -> bytes:
    """What a voice detector does with each frame: STFT as a convolution, magnitude, convolution, LSTM, probability."""
    rng = np.random.default_rng(1)
    constants = {
        "basis": rng.normal(0, 0.3, (18, 1, 16)), "two": np.float32(2), "k": rng.normal(0, 0.3, (12, 9, 3)),
        "W": rng.normal(0, 0.3, (1, 40, 12)), "R": rng.normal(0, 0.3, (1, 40, 10)), "B": rng.normal(0, 0.3, (1, 80)),
        "last": rng.normal(0, 0.5, (10, 1)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"], mode="reflect"), helper.make_node("Unsqueeze", ["p", "one"], ["u"]),
        helper.make_node("Conv", ["u", "basis"], ["c"], strides=[8]),
        helper.make_node("Split", ["c"], ["re", "im"], axis=1, num_outputs=2),
        helper.make_node("Pow", ["re", "two"], ["a"]), helper.make_node("Pow", ["im", "two"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("Sqrt", ["s"], ["m"]),
        helper.make_node("Conv", ["m", "k"], ["e"], pads=[1, 1]), helper.make_node("Relu", ["e"], ["r"]),
        helper.make_node("ReduceMean", ["r", "two_axis"], ["v"], keepdims=1),
        helper.make_node("Transpose", ["v"], ["t"], perm=[0, 2, 1]),
        helper.make_node("LSTM", ["t", "W", "R", "B", "", "h", "c0"], ["y", "hn", "cn"], hidden_size=10),
        helper.make_node("Squeeze", ["y", "ones"], ["z"]), helper.make_node("MatMul", ["z", "last"], ["q"]),
        helper.make_node("Sigmoid", ["q"], ["speech"]),
    ]  # fmt: skip
    tensors = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in constants.items()]
    axes = {"pads": [0, 4, 0, 4], "one": [1], "two_axis": [2], "ones": [1, 2]}
    tensors += [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in axes.items()]
    state = (1, 1, 10)
    inputs = {"x": (frames, 32), "h": state, "c0": state}
    graph = helper.make_graph(
        nodes, "stream", [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("speech", "hn", "cn")], tensors,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(made.SerializeToString())


@pytest.mark.parametrize("form", ["float", "int8"])
def test_frame_by_frame_with_the_state_kept_is_all_frames_at_once(form: str) -> None:
    frames, x = 9, np.random.default_rng(2).normal(0, 1, (9, 32)).astype(np.float32)
    zero = np.zeros((1, 1, 10), np.float32)
    feeds = [{"x": x[i : i + 1], "h": zero, "c0": zero} for i in range(frames)]
    one: Any = load(streaming_model(1))
    if form == "int8":
        one = compression.compress(one, Recipe.int8(), calibration=feeds).model
        single, state, seen = Session(compilation.compile(one, "host", vectors=0)), {"h": zero, "c0": zero}, []
        for feed in feeds:  # a longer model would have other ranges: the caller carries the state instead
            got = single.run({**feed, **state})
            state = {"h": got["hn"], "c0": got["cn"]}
            seen.append(got["speech"])
        expected = np.concatenate(seen).reshape(-1)
    else:
        whole = Session(compilation.compile(load(streaming_model(frames)), "host", vectors=0))
        expected = whole.run({"x": x, "h": zero, "c0": zero})["speech"].reshape(-1)
        assert_close({"s": expected}, {"s": _reference(streaming_model(frames), {"x": x, "h": zero, "c0": zero})})
    stream = Session(compilation.compile(one, "host", vectors=2, state={"h": "hn", "c0": "cn"}))
    assert stream.verify_vectors() == (2, 2)
    stream.reset()
    spoken = [stream.run({"x": x[i : i + 1]})["speech"].reshape(-1) for i in range(frames)]
    np.testing.assert_array_equal(np.concatenate(spoken), expected)


def _reference(data: bytes, feeds: dict[str, Array]) -> Array:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["speech"], feeds)[0]).reshape(-1)
