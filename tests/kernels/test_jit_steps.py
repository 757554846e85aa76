"""Convolution and depthwise steps in Numba equal the NumPy interpreter, on vpdpbusd of both widths and in plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conv_cases import FORMATS, by_reference, conv_program, random_arena
from llvmlite import binding

from edgezip.errors import ProgramError
from edgezip.kernels import jit_vnni
from edgezip.program import Layout, Op, Program
from edgezip.runtime.numba_session import NumbaSession

CASES = 60
FEATURES = binding.get_host_cpu_features()
WIDTHS = [0, *([8] if FEATURES.get("avxvnni") else []), *([16] if FEATURES.get("avx512vnni") else [])]


@pytest.fixture(params=WIDTHS, ids=lambda width: f"{width} lanes" if width else "plain")
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    lanes = int(request.param)
    monkeypatch.setattr(jit_vnni, "lanes", lambda: lanes)
    return lanes


def by_numba(program: Program, arena: np.ndarray, threads: int) -> np.ndarray:
    with NumbaSession(program, threads=threads) as session:
        session._arena[: arena.size] = arena
        session._execute(session._steps[0])
        assert not session._arena[arena.size :].any(), "wrote past the arena"
        return session._arena[: arena.size].copy()


@pytest.mark.usefixtures("width")
@pytest.mark.parametrize("quantised", [True, False], ids=["s8", "f32"])
@pytest.mark.parametrize("op", [Op.CONV, Op.DEPTHWISE], ids=lambda op: op.name.lower())
@pytest.mark.parametrize(("layout", "act_sign"), FORMATS, ids=["K4N16-unsigned", "K4N16-signed", "K8N16-signed"])
def test_step_equals_reference(layout: Layout, act_sign: int, op: Op, quantised: bool) -> None:
    rng = np.random.default_rng([layout, act_sign, op, quantised])
    for case in range(CASES):
        program = conv_program(rng, op, layout, act_sign, quantised)
        arena = random_arena(rng, program)
        got = by_numba(program, arena, threads=1 + case % 3)
        np.testing.assert_array_equal(got, by_reference(program, arena), f"case {case}: {program.steps[0].params}")


@pytest.mark.usefixtures("width")
def test_a_changed_weight_is_seen() -> None:
    rng = np.random.default_rng(3)
    seen = 0
    for _ in range(30):
        program = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, True)
        arena = random_arena(rng, program)
        want = by_reference(program, arena)
        damaged = bytearray(program.weights)
        damaged[program.tensors[program.steps[0].inputs[2]].offset + 1] ^= 0x40  # 16384 steps of the first sum
        program.weights = bytes(damaged)
        seen += not np.array_equal(by_numba(program, arena, 1), want)
    assert seen >= 10  # a clamp may hide it in some


@pytest.mark.parametrize("lanes", [width for width in WIDTHS if width])
def test_the_self_test_sees_wrong_products(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert jit_vnni._self_test(lanes)
    right = jit_vnni.product_tile(lanes, 2, 2)

    def one_bias_too_many(a: int, w: int, bias: int, *rest: int) -> None:
        right(a, w, bias + 4, *rest)

    monkeypatch.setattr(jit_vnni, "product_tile", lambda *_: one_bias_too_many)
    assert not jit_vnni._self_test(lanes)


@pytest.mark.parametrize("variable", ["NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"])
def test_no_vnni_when_numba_compiles_for_another_cpu(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "generic")
    assert jit_vnni.lanes.__wrapped__() == 0


BAD = {
    "grid outside of y": ({"out_offset_h": 1000}, "output grid"),
    "no groups": ({"groups": 0}, "groups"),
    "stride 0": ({"stride_w": 0}, "sizes"),
    "negative kernel": ({"kernel_h": -1}, "sizes"),
}


@pytest.mark.parametrize(("params", "fact"), BAD.values(), ids=BAD)
def test_contradictory_steps_are_refused(params: dict[str, int], fact: str) -> None:
    program = conv_program(np.random.default_rng(5), Op.CONV, Layout.K4N16, 0x80, True)
    program.steps[0].params |= params
    with pytest.raises(ProgramError, match=fact):
        NumbaSession(program)


@pytest.mark.parametrize(("place", "sign"), list(itertools.product(range(6), (-1, 1))))
def test_tensors_outside_of_memory_are_refused(place: int, sign: int) -> None:
    rng = np.random.default_rng(place)
    program = conv_program(rng, Op.CONV, Layout.K4N16, 0x80, True)
    tensor = program.tensors[place % len(program.tensors)]
    tensor.offset += sign * (program.arena_bytes + len(program.weights))
    with pytest.raises(ProgramError, match=r"outside of its memory|contradictory dims"):
        NumbaSession(program)
