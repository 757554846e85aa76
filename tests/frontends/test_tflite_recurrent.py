"""Recurrent layers and variables of TensorFlow Lite: run by run the answers of LiteRT, whose state stays too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from test_tflite import mutated
from tflite_writer import Writer

import edgezip
from edgezip import graph
from edgezip.errors import EdgeZipError, InvalidModelError, UnsupportedModelError
from edgezip.frontends import onnx, tflite
from edgezip.frontends.tflite import schema
from edgezip.program import Op

Array = np.ndarray[Any, Any]
TANH, RELU = 4, 1
RUNS = 3


class Layer:
    """Constants and variables of a recurrent layer."""

    def __init__(self, int8: bool = False, seed: int = 0) -> None:
        self.w, self.rng, self.int8 = Writer(), np.random.default_rng(seed), int8

    def x(self, *shape: int) -> int:
        index = self.w.tensor(shape)
        self.w.inputs.append(index)
        return index

    def matrix(self, rows: int, columns: int) -> int:
        if self.int8:
            return self.w.constant(self.rng.integers(-127, 128, (rows, columns)).astype(np.int8), scale=0.5 / 127)
        return self.w.constant(self.rng.normal(0, 0.4, (rows, columns)).astype(np.float32))

    def row(self, size: int) -> int:
        return self.w.constant(self.rng.normal(0, 0.3, size).astype(np.float32))

    def variable(self, *shape: int) -> int:
        return self.w.tensor(shape, is_variable=True)

    def end(self, op: str, inputs: Sequence[int], shapes: Sequence[tuple[int, ...]], options: str, **fields: Any) -> bytes:
        results = [self.w.tensor(shape) for shape in shapes]
        self.w.op(op, list(inputs), results, options, **fields)
        self.w.outputs += results
        return self.w.to_bytes()


def gates(layer: Layer, inputs: int, hidden: int, coupled: bool, peephole: bool) -> list[int]:
    """Operands 1 to 17 of one direction: weights, peepholes, biases, no projection."""
    first = [-1] if coupled else [layer.matrix(hidden, inputs)]
    w = first + [layer.matrix(hidden, inputs) for _ in range(3)]
    r = ([-1] if coupled else [layer.matrix(hidden, hidden)]) + [layer.matrix(hidden, hidden) for _ in range(3)]
    p = [layer.row(hidden) if peephole and not (coupled and gate == 0) else -1 for gate in range(3)]
    b = [-1 if coupled and gate == 0 else layer.row(hidden) for gate in range(4)]
    return [*w, *r, *p, *b, -1, -1]


def lstm(time_major: bool = True, steps: int = 4, batch: int = 2, inputs: int = 5, hidden: int = 6, coupled: bool = False,
         peephole: bool = False, clip: float = 0.0, int8: bool = False, activation: int = TANH) -> bytes:  # fmt: skip
    layer = Layer(int8)
    order = (steps, batch) if time_major else (batch, steps)
    x = layer.x(*order, inputs)
    operands = gates(layer, inputs, hidden, coupled, peephole)
    state = [layer.variable(batch, hidden), layer.variable(batch, hidden)]
    return layer.end(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *operands, *state, -1, -1, -1, -1], [(*order, hidden)],
        "UnidirectionalSequenceLSTMOptions", TimeMajor=time_major, CellClip=clip, FusedActivationFunction=activation,
    )  # fmt: skip


def lstm_both_ways(merge: bool) -> bytes:
    layer, steps, batch, inputs, hidden = Layer(), 4, 2, 5, 6
    x = layer.x(steps, batch, inputs)
    ways = [operand for _ in range(2) for operand in gates(layer, inputs, hidden, False, False)]
    state = [layer.variable(batch, hidden) for _ in range(4)]
    shapes = [(steps, batch, 2 * hidden)] if merge else [(steps, batch, hidden)] * 2
    return layer.end(
        "BIDIRECTIONAL_SEQUENCE_LSTM", [x, *ways, *state, *[-1] * 9], shapes, "BidirectionalSequenceLSTMOptions",
        TimeMajor=True, MergeOutputs=merge, FusedActivationFunction=TANH,
    )  # fmt: skip


def rnn(time_major: bool, activation: int = TANH, int8: bool = False) -> bytes:
    layer, steps, batch, inputs, hidden = Layer(int8), 4, 2, 5, 6
    order = (steps, batch) if time_major else (batch, steps)
    operands = [layer.x(*order, inputs), layer.matrix(hidden, inputs), layer.matrix(hidden, hidden), layer.row(hidden)]
    operands.append(layer.variable(batch, hidden))
    return layer.end(
        "UNIDIRECTIONAL_SEQUENCE_RNN", operands, [(*order, hidden)], "SequenceRNNOptions", TimeMajor=time_major,
        FusedActivationFunction=activation,
    )  # fmt: skip


def svdf(rank: int, bias: bool = True, activation: int = RELU) -> bytes:
    layer, batch, inputs, units, memory = Layer(), 2, 5, 4, 3
    operands = [layer.x(batch, inputs), layer.matrix(units * rank, inputs), layer.matrix(units * rank, memory)]
    operands += [layer.row(units) if bias else -1, layer.variable(batch, units * rank * memory)]
    return layer.end("SVDF", operands, [(batch, units)], "SVDFOptions", Rank=rank, FusedActivationFunction=activation)


def counter(initial: Array | None) -> bytes:
    """y = 2 * v + x with the variable v, which becomes y; ``initial``: what CALL_ONCE gives it."""
    layer = Layer()
    w, shape = layer.w, (2, 3)
    x, handle, value, product, y = layer.x(*shape), w.tensor((), "resource"), w.tensor(shape), w.tensor(shape), w.tensor(shape)
    once = Writer()
    if initial is not None:
        there = once.tensor((), "resource")
        once.op("VAR_HANDLE", [], [there], "VarHandleOptions", Container="", SharedName="v")
        once.op("ASSIGN_VARIABLE", [there, once.constant(initial)], [], "AssignVariableOptions")
        w.others.append(once)
        w.op("CALL_ONCE", [], [], "CallOnceOptions", InitSubgraphIndex=1)
    w.op("VAR_HANDLE", [], [handle], "VarHandleOptions", Container="", SharedName="v")
    w.op("READ_VARIABLE", [handle], [value], "ReadVariableOptions")
    w.op("MUL", [value, w.constant(np.float32([2]))], [product], "MulOptions")
    w.op("ADD", [product, x], [y], "AddOptions")
    w.op("ASSIGN_VARIABLE", [handle, y], [], "AssignVariableOptions")
    w.outputs.append(y)
    return w.to_bytes()


def int8_lstm() -> bytes:
    """As the full int8 conversion writes it: int16 cell state, int32 biases, the result's parameters as those of the state."""
    layer, steps, batch, inputs, hidden = Layer(int8=True), 5, 2, 8, 12
    w, result = layer.w, {"scale": 1 / 127, "zero_point": 0}
    x = w.tensor((steps, batch, inputs), "int8", scale=1 / 40, zero_point=3)
    w.inputs.append(x)
    weights = [layer.matrix(hidden, columns) for columns in (inputs, hidden) for _ in range(4)]
    step = np.float32(1 / 40) * np.float32(0.5 / 127)
    biases = [w.constant(layer.rng.integers(-3000, 3000, hidden).astype(np.int32), scale=step) for _ in range(4)]
    state = w.tensor((batch, hidden), "int8", is_variable=True, **result)
    cell = w.tensor((batch, hidden), "int16", is_variable=True, scale=2.0**-11, zero_point=0)
    inner = [w.tensor((0,), "int16", scale=2.0**-12, zero_point=0) for _ in range(4)]
    inner.append(w.tensor((0,), "int8", **result))
    y = w.tensor((steps, batch, hidden), "int8", **result)
    operands = [x, *weights, -1, -1, -1, *biases, -1, -1, state, cell, -1, -1, -1, -1]
    w.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, [y], "UnidirectionalSequenceLSTMOptions", TimeMajor=True,
         FusedActivationFunction=TANH, CellClip=10.0)  # fmt: skip
    w.intermediates[0] = inner
    w.outputs.append(y)
    return w.to_bytes()


FLOAT = {
    "lstm": lstm(),
    "lstm batch first": lstm(time_major=False),
    "lstm peephole": lstm(peephole=True),
    "lstm coupled": lstm(coupled=True),
    "lstm coupled, peephole": lstm(coupled=True, peephole=True),
    "lstm cell clip": lstm(clip=0.2, steps=6),
    "lstm relu": lstm(activation=RELU, steps=2),
    "lstm both ways": lstm_both_ways(False),
    "lstm both ways, merged": lstm_both_ways(True),
    "rnn": rnn(True),
    "rnn batch first, relu": rnn(False, RELU),
    "svdf": svdf(1),
    "svdf rank 2, no bias": svdf(2, bias=False, activation=0),
    "variable": counter(np.zeros((2, 3), np.float32)),
    "variable with a first value": counter(np.arange(6, dtype=np.float32).reshape(2, 3)),
}
HYBRID = {"lstm": lstm(int8=True, inputs=16, hidden=24), "rnn": rnn(False, int8=True)}


def both(data: bytes, folder: Path) -> list[tuple[list[Array], list[Array]]]:
    """What we and LiteRT give in each of some runs that follow each other."""
    (folder / "m.tflite").write_bytes(data)
    program = edgezip.compile(folder / "m.tflite", "host", vectors=2)
    session = edgezip.Session(program)
    assert session.verify_vectors() == (2, 2)
    session.reset()
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    rng, results = np.random.default_rng(5), []
    for _ in range(RUNS):
        (detail,), (info,) = interpreter.get_input_details(), session.inputs
        x = rng.normal(0, 1, tuple(detail["shape"])).astype(np.float32)
        interpreter.set_tensor(detail["index"], x)
        interpreter.invoke()
        got = session.run({info.name: x})
        want = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
        results.append(([got[info.name] for info in session.outputs], want))
    return results


@pytest.mark.parametrize("name", FLOAT)
def test_float_layer_and_its_state_equal_litert_run_by_run(name: str, tmp_path: Path) -> None:
    for number, (got, want) in enumerate(both(FLOAT[name], tmp_path)):
        for mine, theirs in zip(got, want, strict=True):
            # float32 on both sides, their sigmoid and tanh a few units apart, carried through some steps
            np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=5e-6, err_msg=f"run {number}")


@pytest.mark.parametrize("name", HYBRID)
def test_int8_weights_on_float_rows_are_near_litert(name: str, tmp_path: Path) -> None:
    for got, want in both(HYBRID[name], tmp_path):
        # both round each row to 1 in 127, they half away from zero and not at the same places
        np.testing.assert_allclose(got[0], want[0], atol=0.03)
    steps = edgezip.compile(tmp_path / "m.tflite", "host", vectors=0).steps
    assert [step.op for step in steps if step.op in (Op.LINEAR, Op.RECURRENT)] == [Op.LINEAR, Op.RECURRENT]


def test_int8_layer_is_within_a_few_steps_of_litert(tmp_path: Path) -> None:
    data = int8_lstm()
    (tmp_path / "m.tflite").write_bytes(data)
    program = edgezip.compile(tmp_path / "m.tflite", "host", vectors=0)
    assert [step.op for step in program.steps if step.op in (Op.LINEAR, Op.RECURRENT)] == [Op.LINEAR, Op.RECURRENT]
    session, interpreter = edgezip.Session(program), Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(3)
    for _ in range(RUNS):
        x = rng.integers(-128, 128, (5, 2, 8)).astype(np.int8)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        want = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        got = session.run({session.inputs[0].name: x})[session.outputs[0].name]
        assert got.dtype == want.dtype == np.int8
        # LiteRT rounds its gates to 2^-15 and the state to 2^-7 at each step, we quantise the state anew: a few steps in 255
        assert np.abs(got.astype(int) - want).max() <= 4
        assert np.ptp(want.astype(int)) > 60


def test_model_names_its_states(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(FLOAT["lstm"])
    model = edgezip.load(tmp_path / "m.tflite")
    assert len(graph.input_values(model)) == 3
    program = edgezip.compile(model, "host", vectors=0)
    assert len(program.states) == 2
    assert len(program.inputs) == len(program.outputs) == 1


def test_projection_is_refused(tmp_path: Path) -> None:
    layer = Layer()
    operands = gates(layer, 5, 6, False, False)
    operands[15] = layer.matrix(6, 6)
    state = [layer.variable(2, 6), layer.variable(2, 6)]
    data = layer.end("UNIDIRECTIONAL_SEQUENCE_LSTM", [layer.x(4, 2, 5), *operands, *state, -1, -1, -1, -1], [(4, 2, 6)],
                     "UnidirectionalSequenceLSTMOptions", TimeMajor=True, FusedActivationFunction=TANH)  # fmt: skip
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(UnsupportedModelError, match="projection"):
        edgezip.load(tmp_path / "m.tflite")


def test_state_that_is_no_variable_is_refused(tmp_path: Path) -> None:
    layer = Layer()
    operands = [layer.x(4, 2, 5), layer.matrix(6, 5), layer.matrix(6, 6), layer.row(6), layer.row(12)]
    data = layer.end("UNIDIRECTIONAL_SEQUENCE_RNN", operands, [(4, 2, 6)], "SequenceRNNOptions", TimeMajor=True)
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(InvalidModelError, match="no variable"):
        edgezip.load(tmp_path / "m.tflite")


HOSTILE = ("lstm", "variable with a first value", "svdf rank 2, no bias")


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_1500_mutations_give_a_model_or_a_typed_error(name: str) -> None:
    rng, data, refused = np.random.default_rng(7), FLOAT[name], 0
    for _ in range(1500):
        try:
            onnx.load(tflite.to_onnx(schema.parse(mutated(data, rng))))
        except EdgeZipError:
            refused += 1
    assert 300 < refused < 1500


@pytest.mark.parametrize("name", HOSTILE)
def test_every_truncation_is_refused(name: str) -> None:
    data = FLOAT[name]
    for length in range(0, len(data) - 8, 3):
        with pytest.raises(EdgeZipError):
            tflite.to_onnx(schema.parse(data[:length]))
