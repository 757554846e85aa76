"""Weights of few values on rows that become int8 at run time: the CODES step, whose codes stay packed."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from pack_graphs import TARGETS, build, feeds_for, node, ops_of, run_everywhere, weights
from test_linear import mark_dynamic

from edgezip import graph, pack
from edgezip.errors import ProgramError
from edgezip.kernels import codes, reference
from edgezip.kernels.codes import Codes, Form
from edgezip.program import Op, read
from edgezip.runtime.numba_session import NumbaSession
from edgezip.runtime.reference import ReferenceSession
from edgezip.runtime.session import Session
from edgezip.target import load_target

Array = np.ndarray[Any, Any]
NF4 = np.array([-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127], np.int8)


def model_of(
    values: Array, scales: Array, block: int, rows: int = 3, dtype: Any = np.int8, zero: Array | None = None
) -> graph.Model:
    """y = x w + b, w (K, N) of ``values`` in blocks along K, or of one scale an output."""
    k, n = values.shape
    model = build(
        [node("MatMul", ["x", "w"], "t"), node("Add", ["t", "b"])],
        {"w": weights(k, n), "b": weights(n)},
        {"x": (rows, k)},
        opset=25,
    )
    zeros = np.zeros_like(scales, dtype) if zero is None else zero.astype(dtype)
    graph.quantize_weight(
        model, graph.find_value(model, "w"), values.astype(dtype), scales, zeros, axis=0 if block else 1, block=block
    )
    mark_dynamic(model)
    return model


def scales_of(k: int, n: int, block: int, seed: int = 0) -> Array:
    shape = (-(-k // block), n) if block else (n,)
    return np.random.default_rng(seed).uniform(0.01, 0.05, shape).astype(np.float16).astype(np.float32)


def draw(kind: str, k: int, n: int) -> tuple[Array, Any]:
    random = np.random.default_rng(k + n)
    if kind == "int4":
        return random.integers(-8, 8, (k, n)).astype(np.int8), ml_dtypes.int4
    if kind == "int2":
        return random.integers(-2, 2, (k, n)).astype(np.int8), ml_dtypes.int2
    if kind == "ternary":
        return random.integers(-1, 2, (k, n)).astype(np.int8), np.int8
    return random.choice(NF4, (k, n)), np.int8


def exact(model: graph.Model, feeds: dict[str, Array]) -> Array:
    """What ONNX computes from the rows as they are after quantisation."""
    q, scale = reference.quantize_rows(feeds["x"])
    result: Array = graph.run(model, {"x": (q * scale[:, None]).astype(np.float32)}, optimize=False)["y"]
    return result


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", ["int4", "int2", "ternary", "nf4"])
@pytest.mark.parametrize(("k", "n", "block"), [(96, 40, 32), (100, 17, 64), (300, 7, 128)])
def test_block_scales_run_packed(kind: str, k: int, n: int, block: int, rows: int) -> None:
    values, dtype = draw(kind, k, n)
    model = model_of(values, scales_of(k, n, block), block, rows, dtype)
    feeds = feeds_for(model)
    program, results = run_everywhere(model, feeds)
    assert ops_of(program) == [Op.CODES]
    bits = 2 if kind in ("int2", "ternary") else 4
    packed = program.tensors[program.steps[0].inputs[1]].bytes
    assert packed == -(-n // 16) * -(-k // block) * (32 + 2 * bits * block)
    np.testing.assert_allclose(results["y"], exact(model, feeds), rtol=2e-5, atol=2e-5)
    with NumbaSession(program) as session:
        np.testing.assert_array_equal(session.run(feeds)["y"], results["y"])


def test_one_row_of_one_scale_an_output_gives_the_bits_of_int8() -> None:
    values, dtype = draw("int4", 100, 33)
    by_codes, by_int8 = model_of(values, scales_of(100, 33, 0), 0, 1, dtype), model_of(values, scales_of(100, 33, 0), 0, 2, dtype)
    row = feeds_for(by_codes)["x"]
    packed, few = run_everywhere(by_codes, {"x": row})
    plain, many = run_everywhere(by_int8, {"x": np.concatenate([row, row])})
    assert ops_of(packed) == [Op.CODES]
    assert ops_of(plain) == [Op.LINEAR]
    np.testing.assert_array_equal(many["y"], np.concatenate([few["y"], few["y"]]))


def test_a_zero_point_of_each_block_is_a_codebook_while_sixteen_values_are_enough() -> None:
    random = np.random.default_rng(3)
    values, zero = random.integers(0, 8, (64, 20)), random.integers(0, 8, (2, 20))
    model = model_of(values, scales_of(64, 20, 32), 32, dtype=ml_dtypes.uint4, zero=zero)
    program, results = run_everywhere(model, feeds_for(model))
    assert ops_of(program) == [Op.CODES]
    np.testing.assert_allclose(results["y"], exact(model, feeds_for(model)), rtol=2e-5, atol=2e-5)
    wide = model_of(random.integers(0, 16, (64, 20)), scales_of(64, 20, 32), 32, dtype=ml_dtypes.uint4, zero=2 * zero)
    assert Op.CODES not in ops_of(run_everywhere(wide, feeds_for(wide))[0])


@pytest.mark.parametrize("block", [16, 32])
def test_blocks_of_no_packed_form_run_in_float_and_say_so(block: int) -> None:
    values = np.random.default_rng(0).integers(-127, 128, (64, 20)) if block == 32 else draw("int4", 64, 20)[0]
    model = model_of(values, scales_of(64, 20, block), block)
    program = pack.compile(model, load_target("x86-64"))
    assert Op.CODES not in ops_of(program)
    assert "no packed form" in str(program.metadata)


def test_rows_that_were_int8_run_packed_too() -> None:
    """Behind a pooling in int8, as in every classifier of pictures: such a layer ran in float32, its weights unpacked."""
    values, dtype = draw("int4", 64, 20)
    model = build(
        [
            node("QuantizeLinear", ["x", "s", "z"], "q"), node("DequantizeLinear", ["q", "s", "z"], "d"),
            node("MatMul", ["d", "w"], "t"), node("Add", ["t", "b"]),
        ],
        {"w": weights(64, 20), "b": weights(20), "s": np.float32(0.03), "z": np.int8(3)},
        {"x": (2, 64)},
        opset=25,
    )  # fmt: skip
    w, zeros = graph.find_value(model, "w"), np.zeros((2, 20), dtype)
    graph.quantize_weight(model, w, values.astype(dtype), scales_of(64, 20, 32), zeros, axis=0, block=32)
    mark_dynamic(model)
    program, _ = run_everywhere(model, feeds_for(model))
    assert Op.CODES in ops_of(program)


def test_a_product_without_the_mark_stays_float() -> None:
    values, dtype = draw("int4", 64, 20)
    model = model_of(values, scales_of(64, 20, 32), 32, dtype=dtype)
    for each in graph.nodes(model):
        each.metadata_props.clear()
    assert Op.CODES not in ops_of(run_everywhere(model, feeds_for(model))[0])


@pytest.mark.parametrize("name", TARGETS)
def test_the_file_is_read_back_and_says_the_form(name: str, tmp_path: Any) -> None:
    values, dtype = draw("int4", 96, 40)
    model = model_of(values, scales_of(96, 40, 32), 32, dtype=dtype)
    program = pack.compile(model, load_target(name))
    path = tmp_path / "small.ez"
    program.save(path)
    again = read(path)
    np.testing.assert_array_equal(Session(again).run(feeds_for(model))["y"], ReferenceSession(program).run(feeds_for(model))["y"])


def test_packing_and_unpacking_are_inverse() -> None:
    random = np.random.default_rng(1)
    for bits, table in ((4, tuple(range(-8, 8))), (4, tuple(int(v) for v in NF4)), (2, (-1, 0, 1, 2)), (2, (127, -127, 3, 3))):
        form = Form(bits, 64, table)
        held = Codes(
            random.choice(np.array(table, np.int8), (37, 150)),
            random.uniform(0, 2, (37, 3)).astype(np.float16).astype(np.float32),
        )
        again = codes.unpack(codes.pack(held, form), form, 37, 150)
        np.testing.assert_array_equal(again.values, held.values)
        np.testing.assert_array_equal(again.scales, held.scales)
        assert codes.form_of(form.params()) == form


@pytest.mark.parametrize(
    ("used", "bits", "uniform"),
    [
        (range(-8, 8), 4, True), ([-2, 1], 2, True), ([-1, 0, 1], 2, True), (range(16), 4, True), ([3, 90, -90], 2, False),
        (range(-120, 121, 15), None, False), (NF4, 4, False), ([-128], None, False), ([5], 2, True),
    ],
)  # fmt: skip
def test_the_narrowest_table_is_chosen(used: Any, bits: int | None, uniform: bool) -> None:
    values = np.array(list(used), np.int32)
    chosen = codes.choose_table(values)
    if bits is None:
        assert chosen is None
        return
    assert chosen is not None
    assert chosen[0] == bits
    assert set(values.tolist()) <= set(chosen[1])
    assert len(chosen[1]) == 1 << bits
    assert Form(bits, 32, chosen[1]).is_uniform == uniform


BAD: list[tuple[str, Any]] = [
    ("bits", 3), ("bits", 0), ("bits", 8), ("block", 0), ("block", 16), ("block", 33), ("block", -32), ("block", 2**31 - 32),
    ("block", 131104), ("block", 64), ("low", (-128,) * 8), ("high", (0, 0, 0, 0, 0, 0, 0, 128)),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD, ids=str)
def test_the_verifier_refuses_other_forms(field: str, value: Any) -> None:
    values, dtype = draw("int4", 96, 40)
    program = pack.compile(model_of(values, scales_of(96, 40, 32), 32, dtype=dtype), load_target("x86-64"))
    Session(program)
    program.steps[0].params[field] = value
    with pytest.raises(ProgramError):
        Session(program)
