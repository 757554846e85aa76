"""Answers of a device that may be flaky or hostile."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgezip.deploy.answers import BenchAnswer, InfoAnswer, RunAnswer, VerifyAnswer, parse
from edgezip.deploy.runner import Runner
from edgezip.deploy.transports import Reply
from edgezip.errors import DeviceError

COMMON = {"ez_run": "0.1.0", "isa": "neon", "threads": 1, "affinity": "4-7", "load_us": 12.5}
COMMON |= {"arena_bytes": 64, "file_bytes": 640}
TENSOR = {"name": "x", "dtype": "float32", "shape": [1, 3], "bytes": 12}
LATENCY = {"p50": 2.0, "p90": 3.0, "p99": 4.0, "min": 1.0, "mean": 2.5, "stdev": 0.5, "n": 20}
LAYER = {"name": "c", "op": "conv", "kernel": "neon", "threads": 1, "us": 1.0}
INFO = {"numerics": "EZN1", "layout": "k8n16", "act_sign": 0, "steps": 3, "vectors": 2}
EDGES = {"isas": [{"name": "neon", "supported": True}], "inputs": [TENSOR], "outputs": [TENSOR], "states": [TENSOR], "dims": []}
GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    "verify": (VerifyAnswer, {"vectors": 2, "passed": 2, "mismatched_bytes": 0}),
    "bench": (BenchAnswer, {"warmup": 1, "latency_us": LATENCY, "peak_memory_bytes": 1, "layers": [LAYER]}),
    "run": (RunAnswer, {"run_us": 1.0, "outputs": [TENSOR]}),
    "info": (InfoAnswer, {**INFO, **EDGES}),
}


def whole(verb: str, /, **changes: Any) -> dict[str, Any]:
    return {**COMMON, "verb": verb, **GOOD[verb][1], **changes}


def ask(verb: str, text: str) -> Any:
    return parse(text, GOOD[verb][0], verb, "device")


STEP = {"vector": 1, "step": 7, "name": "c", "op": "conv", "kernel": "neon"}


def test_the_first_differing_step_is_read_and_must_have_been_checked() -> None:
    wrong = {"passed": 1, "mismatched_bytes": 4, "steps_checked": 20}
    answer = ask("verify", json.dumps(whole("verify", **wrong, first_difference=STEP)))
    assert answer.first_difference.name == "c"
    assert not answer.is_proof
    for bad in ({"steps_checked": 0}, {"steps_checked": None}, {"first_difference": {**STEP, "vector": 2}}):
        with pytest.raises(DeviceError, match="not checked"):
            ask("verify", json.dumps(whole("verify", **{**wrong, "first_difference": STEP, **bad})))


@pytest.mark.parametrize("verb", GOOD)
def test_an_honest_answer_is_read(verb: str) -> None:
    assert ask(verb, json.dumps(whole(verb))).verb == verb


@pytest.mark.parametrize("verb", GOOD)
def test_what_a_login_shell_prints_before_is_skipped(verb: str) -> None:
    assert ask(verb, "Welcome!\n" + json.dumps(whole(verb)) + "\n").verb == verb


@pytest.mark.parametrize("verb", GOOD)
def test_every_missing_key_and_every_extra_key_is_refused(verb: str) -> None:
    for key in whole(verb):
        if key != "layers":
            with pytest.raises(DeviceError, match="makes no sense"):
                ask(verb, json.dumps({k: v for k, v in whole(verb).items() if k != key}))
    with pytest.raises(DeviceError):
        ask(verb, json.dumps(whole(verb, more=1)))


@pytest.mark.parametrize(
    ("verb", "changes"),
    [
        ("verify", {"passed": 3}), ("verify", {"passed": 1}), ("verify", {"mismatched_bytes": 1}), ("verify", {"vectors": "2"}),
        ("verify", {"threads": True}), ("verify", {"threads": 65}), ("verify", {"verb": "bench"}), ("verify", {"isa": "a b"}),
        ("verify", {"isa": "neon\n"}), ("verify", {"ez_run": "\x1b[2J"}), ("verify", {"arena_bytes": -1}),
        ("verify", {"load_us": -1.0}), ("verify", {"load_us": 1e13}), ("verify", {"passed": 10**30, "vectors": 10**30}),
        ("bench", {"latency_us": {**LATENCY, "p50": 0.5}}), ("bench", {"latency_us": {**LATENCY, "mean": 0.5}}),
        ("bench", {"latency_us": {**LATENCY, "min": -1.0}}), ("bench", {"latency_us": {**LATENCY, "n": 0}}),
        ("info", {"isas": [{"name": {"deep": 1}, "supported": True}]}), ("info", {"act_sign": 300}),
        ("run", {"outputs": [{**TENSOR, "shape": [1] * 9}]}), ("run", {"outputs": [{**TENSOR, "bytes": 1.5}]}),
    ],
)  # fmt: skip
def test_a_figure_that_cannot_be_is_refused(verb: str, changes: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="makes no sense"):
        ask(verb, json.dumps(whole(verb, **changes)))


NO_ANSWER = {
    "empty": "", "newline": "\n", "open": "{", "null": "null", "list": "[]", "number": "1", "deep list": "[" * 200_000,
    "deep object": '{"a":' * 200_000, "long number": "9" * 10_000, "nan": '{"verb": NaN}', "infinity": '{"verb": Infinity}',
    "quote": '{"verb": \'',
}  # fmt: skip


@pytest.mark.parametrize("text", NO_ANSWER.values(), ids=NO_ANSWER)
def test_text_that_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="makes no sense"):
        ask("verify", text)


def test_nan_and_a_key_given_twice_are_refused() -> None:
    text = json.dumps(whole("bench"))
    for bad in (text.replace("2.5", "NaN"), text.replace("2.5", "-Infinity"), '{"isa": "neon", ' + text[1:]):
        with pytest.raises(DeviceError):
            ask("bench", bad)


def test_escapes_of_json_do_not_reach_the_terminal() -> None:
    tensor = {**TENSOR, "name": "a\x1b]0;title\x07\u202eb"}
    assert ask("run", json.dumps(whole("run", outputs=[tensor]))).outputs[0].name == "a]0;titleb"


class Fixed:
    """A device with one answer."""

    name, is_emulated = "device", False

    def __init__(self, code: int, stdout: str, stderr: str = "") -> None:
        self.reply = Reply(code, stdout, stderr)

    def run(self, argv: Any, *, stdin: bytes = b"", timeout_s: float = 1.0) -> Reply:
        return self.reply

    def close(self) -> None:
        pass


def test_an_exit_code_that_contradicts_the_answer_is_refused() -> None:
    failed = json.dumps(whole("verify", passed=1, mismatched_bytes=9))
    assert not Runner(Fixed(3, failed), "d").verify().is_proof
    for code, text in ((0, failed), (3, json.dumps(whole("verify")))):
        with pytest.raises(DeviceError, match="contradict"):
            Runner(Fixed(code, text), "d").verify()


def test_no_vectors_prove_nothing() -> None:
    assert not Runner(Fixed(3, json.dumps(whole("verify", vectors=0, passed=0))), "d").verify().is_proof


DEATHS = [
    (132, "", "SIGILL.*--target"), (137, "Killed", "memory"), (126, "exec format", "exec format.*--target"), (1, "a\nb", "b"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "stderr", "said"), DEATHS)
def test_the_death_of_the_runner_is_explained(code: int, stderr: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        Runner(Fixed(code, "", stderr), "d").info()


KEYS = sorted({*whole("bench"), *whole("info"), *LATENCY, *TENSOR, "x"})
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner), max_leaves=8)


@given(st.sampled_from(sorted(GOOD)), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4), st.integers(0, 400))
@settings(max_examples=400, deadline=None)
def test_no_reply_whatever_raises_anything_else(verb: str, changes: dict[str, Any], cut: int) -> None:
    text = json.dumps(whole(verb, **changes))
    for reply in (text, text[:cut], text[cut:]):
        with suppress(DeviceError):
            ask(verb, reply)


def test_a_large_answer_is_read_quickly() -> None:
    layers = [{"name": f"layer {i}", "op": "conv", "kernel": "neon", "threads": 1, "us": 1.0} for i in range(5000)]
    start = time.monotonic()
    assert len(ask("bench", json.dumps(whole("bench", layers=layers))).layers) == 5000
    assert time.monotonic() - start < 3
