"""Hostile ONNX files: a typed error names what is wrong; none crashes, hangs or reads outside its folder."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphs as graphs
import pytest
from onnx import TensorProto, helper

from edgezip import frontends
from edgezip.errors import EdgeZipError, InvalidModelError, MissingFileError, UnsupportedModelError
from edgezip.frontends import onnx as front

LIMIT_S = 10  # of processor time for one file; reliability.md M1
MEMORY_BYTES = 4 << 30  # address space of a child: libraries and thread stacks, not the model

# ---------------------------------------------------------------- damaged bytes


def _outcomes(mutants: list[bytes]) -> Counter[str]:
    """Loads every mutant in this process; the outcome is ``accepted``, the class of the typed error, or the class of a leak."""
    found: Counter[str] = Counter()
    for data in mutants:
        start = time.process_time()
        try:
            front.load(data)
            found["accepted"] += 1
        except EdgeZipError as error:
            found[type(error).__name__] += 1
        except Exception as error:
            found[f"LEAK {type(error).__name__}: {error}"[:200]] += 1
        if time.process_time() - start > LIMIT_S:
            found["SLOW"] += 1
    return found


def _child(mutants: list[bytes], queue: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    queue.put(_outcomes(mutants))


def outcomes_in_child(mutants: list[bytes]) -> Counter[str]:
    """The same in a forked child with a memory limit: a signal or a hang there is a failure here."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(mutants, queue))
    child.start()
    try:
        found: Counter[str] = queue.get(timeout=60)
    except Exception:
        child.kill()
        child.join()
        pytest.fail(f"the child died or hung (exit code {child.exitcode})")
    child.join()
    assert child.exitcode == 0
    return found


def assert_only_typed(found: Counter[str]) -> None:
    wrong = {name: count for name, count in found.items() if name.startswith(("LEAK", "SLOW"))}
    assert not wrong


def flips(data: bytes, count: int, seed: int) -> list[bytes]:
    mutants = []
    for bit in np.random.default_rng(seed).choice(len(data) * 8, min(count, len(data) * 8), replace=False):
        mutant = bytearray(data)
        mutant[bit // 8] ^= 1 << (bit % 8)
        mutants.append(bytes(mutant))
    return mutants


def test_every_prefix_of_the_tiny_convolution_is_refused() -> None:
    data = graphs.tiny_conv().SerializeToString()
    found = outcomes_in_child([data[:length] for length in range(len(data))])
    assert_only_typed(found)
    assert found["accepted"] == 0


def test_every_single_bit_flip_of_the_tiny_convolution_gives_a_typed_error_or_a_loadable_model() -> None:
    data = graphs.tiny_conv().SerializeToString()
    assert_only_typed(outcomes_in_child(flips(data, len(data) * 8, seed=0)))


@pytest.mark.parametrize("family", ["shape_arithmetic", "conv_add_bn_relu", "split_concat", "resize_linear"])
def test_single_bit_flips_give_a_typed_error_or_a_loadable_model(family: str) -> None:
    found = outcomes_in_child(flips(graphs.FAMILIES[family](17).SerializeToString(), 500, seed=1))
    assert_only_typed(found)
    assert found["InvalidModelError"] > 50


def test_an_untyped_error_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front.structure, "check", lambda *_: 1 / 0)
    with pytest.raises(AssertionError):
        assert_only_typed(_outcomes([graphs.tiny_conv().SerializeToString()]))


# ---------------------------------------------------------------- attributes and structure


def conv(**attrs: Any) -> onnx.ModelProto:
    weight = graphs.weights("w", 4, 4, 3, 3)
    return graphs.model([graphs.node("Conv", ["x", "w"], name="c1", **attrs)], [weight])


def unary(op: str, **attrs: Any) -> onnx.ModelProto:
    return graphs.model([graphs.node(op, ["x"], name="c1", **attrs)])


def constant(name: str, *numbers: int) -> onnx.TensorProto:
    return graphs.tensor(name, np.array(numbers, np.int64))


BAD_ATTRIBUTES: dict[str, tuple[onnx.ModelProto, str]] = {
    "stride 0": (conv(strides=[0, 1]), "strides"),
    "negative stride": (conv(strides=[-1, 1]), "strides"),
    "dilation 0": (conv(dilations=[0, 0]), "dilations"),
    "group 0": (conv(group=0), "group"),
    "group does not divide": (conv(group=3), "group"),
    "group contradicts channels": (conv(group=2), "channels"),
    "kernel 0": (unary("MaxPool", kernel_shape=[0, 3]), "kernel_shape"),
    "absurd kernel": (unary("MaxPool", kernel_shape=[1 << 40, 3]), "kernel_shape"),
    "negative pads": (conv(pads=[-1, 0, 0, 0]), "pads"),
    "kernel contradicts weight": (conv(kernel_shape=[5, 5]), "kernel_shape"),
    "too many strides": (conv(strides=[1, 1, 1]), "strides"),
    "pads of another rank": (conv(pads=[1, 1]), "pads"),
    "unknown auto_pad": (conv(auto_pad="SOMEHOW"), "auto_pad"),
    "pool stride 0": (unary("AveragePool", kernel_shape=[2, 2], strides=[0, 0]), "strides"),
    "perm is no permutation": (unary("Transpose", perm=[0, 1, 1, 2]), "perm"),
    "perm of another rank": (unary("Transpose", perm=[1, 0]), "perm"),
    "axis out of range": (unary("Softmax", axis=7), "axis"),
    "blocksize 0": (unary("DepthToSpace", blocksize=0), "blocksize"),
    "epsilon NaN": (
        graphs.model(
            [graphs.node("BatchNormalization", ["x", *"abcd"], name="c1", epsilon=float("nan"))],
            [graphs.weights(n, 4) for n in "abcd"],
        ),
        "epsilon",
    ),
    "scale 0": (
        graphs.model(
            [graphs.node("QuantizeLinear", ["x", "s", "z"], name="c1")],
            [graphs.tensor("s", np.float32(0)), graphs.tensor("z", np.int8(0))],
            out_kind=TensorProto.INT8,
        ),
        "scale",
    ),
    "scale NaN": (
        graphs.model(
            [graphs.node("QuantizeLinear", ["x", "s", "z"], name="c1")],
            [graphs.tensor("s", np.float32("nan")), graphs.tensor("z", np.int8(0))],
            out_kind=TensorProto.INT8,
        ),
        "scale",
    ),
    "reshape to more elements": (
        graphs.model([graphs.node("Reshape", ["x", "s"], name="c1")], [constant("s", 1, 4, 8, 9)]),
        "256 elements",
    ),
    "slice in steps of 2^40": (
        graphs.model(
            [graphs.node("Slice", ["x", "s", "e", "a", "t"], name="c1")],
            [constant("s", 0), constant("e", 8), constant("a", 2), constant("t", 1 << 40)],
        ),
        "steps",
    ),
    "gemm of other columns": (
        graphs.model(
            [graphs.node("Flatten", ["x"], "f"), graphs.node("Gemm", ["f", "w"], name="c1", transB=1)],
            [graphs.weights("w", 9, 128)],
            opset=12,
        ),
        "128 columns.*--shape",
    ),
    "gemm adds another shape": (
        graphs.model(
            [graphs.node("Gemm", ["x", "w", "c"], name="c1")], [graphs.weights("w", 5, 3), graphs.weights("c", 4, 3)], x=(2, 5)
        ),
        "broadcasts",
    ),
    "gemm transposed twice over": (
        graphs.model([graphs.node("Gemm", ["x", "w"], name="c1", transB=2)], [graphs.weights("w", 5, 3)], x=(2, 5)),
        "transB",
    ),
    "scales of another axis": (
        graphs.model(
            [graphs.node("DequantizeLinear", ["w", "s", "z"], "d", name="c1", axis=1), graphs.node("Conv", ["x", "d"])],
            [
                graphs.tensor("w", np.ones((3, 4, 1, 1), np.int8)),
                graphs.tensor("s", np.ones(3, np.float32)),
                graphs.tensor("z", np.zeros(3, np.int8)),
            ],
        ),
        r"scale.*\(4,\)",
    ),
    "bias with a zero point": (
        graphs.model(
            [graphs.node("DequantizeLinear", ["b", "s", "z"], "d", name="c1"), graphs.node("Conv", ["x", "w", "d"])],
            [
                graphs.weights("w", 3, 4, 1, 1),
                graphs.tensor("b", np.ones(3, np.int32)),
                graphs.tensor("s", np.float32(1)),
                graphs.tensor("z", np.int32(7)),
            ],
        ),
        "zero_point",
    ),
    "denormal scale": (
        graphs.model(
            [graphs.node("QuantizeLinear", ["x", "s", "z"], name="c1")],
            [graphs.tensor("s", np.float32(1e-40)), graphs.tensor("z", np.int8(0))],
            out_kind=TensorProto.INT8,
        ),
        "scale",
    ),
    "activations of astronomic scale": (
        graphs.model(
            [graphs.node("QuantizeLinear", ["x", "s", "z"], name="c1")],
            [graphs.tensor("s", np.float32(1e38)), graphs.tensor("z", np.int8(0))],
            out_kind=TensorProto.INT8,
        ),
        "scale",
    ),
    "output padding without end": (
        graphs.model(
            [graphs.node("ConvTranspose", ["x", "w"], name="c1", strides=[2, 2], output_padding=[0, 100000])],
            [graphs.weights("w", 4, 3, 3, 3)],
        ),
        "output_padding",
    ),
    "integer division by zero": (
        graphs.model(
            [graphs.node("Div", ["a", "b"], "d", name="c1"), graphs.node("Reshape", ["x", "d"])],
            [constant("a", 8, -8), constant("b", 1, 0)],
        ),
        "zero",
    ),
}


@pytest.mark.parametrize("case", BAD_ATTRIBUTES)
def test_a_hostile_attribute_is_refused_with_node_and_field(case: str) -> None:
    proto, field = BAD_ATTRIBUTES[case]
    with pytest.raises(InvalidModelError, match=field) as caught:
        front.load(proto.SerializeToString())
    assert "c1" in str(caught.value)


def test_an_input_too_small_for_its_windows_is_refused() -> None:
    """Elsewhere a value without elements is a constant; here it says that --shape is wrong."""
    kernel = helper.make_tensor("w", TensorProto.FLOAT, [2, 4, 9, 1], np.zeros(72, np.float32))
    nodes = [graphs.node("Conv", ["x", "w"], "t", name="c1"), graphs.node("Relu", ["t"])]
    with pytest.raises(UnsupportedModelError, match=r"no elements.*c1.*1x2x0x8"):
        front.load(graphs.model(nodes, [kernel]).SerializeToString())


def _cycle() -> onnx.ModelProto:
    return graphs.model(
        [graphs.node("Add", ["x", "b"], "a", name="n1"), graphs.node("Relu", ["a"], "b", name="n2"), graphs.node("Relu", ["b"])]
    )


def _two_values() -> onnx.ModelProto:
    proto = graphs.tiny_conv()
    proto.graph.initializer[0].float_data.extend([1.0] * 9)
    return proto


def _wild_dims(dims: list[int]) -> onnx.ModelProto:
    proto = graphs.tiny_conv()
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(dims)
    return proto


def _function(name: str, calls: list[str]) -> onnx.FunctionProto:
    body = [helper.make_node(call, ["a" if i == 0 else f"t{i - 1}"], [f"t{i}"], domain="f") for i, call in enumerate(calls)]
    body = body or [graphs.node("Relu", ["a"], "t0")]
    return helper.make_function(
        "f", name, ["a"], [f"t{len(body) - 1}"], body, [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    )


def _functions(calls: dict[str, list[str]]) -> onnx.ModelProto:
    proto = graphs.model([helper.make_node("F0", ["x"], ["y"], domain="f", name="call")])
    proto.opset_import.append(helper.make_opsetid("f", 1))
    proto.functions.extend(_function(name, called) for name, called in calls.items())
    return proto


def _nested(depth: int) -> onnx.ModelProto:
    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [1])
    leaf = body = helper.make_graph([graphs.node("Identity", ["x"], "o")], "b", [], [helper.make_tensor_value_info("o", 1, None)])
    for _ in range(depth):
        inner = helper.make_node("If", ["flag"], ["o"], then_branch=body, else_branch=leaf)
        body = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("o", 1, None)])
    proto = graphs.model([graphs.node("Relu", ["x"])], [flag])
    proto.graph.node.append(helper.make_node("If", ["flag"], ["z"], then_branch=body, else_branch=leaf))
    return proto


def _duplicate_output() -> onnx.ModelProto:
    return graphs.model([graphs.node("Relu", ["x"], name="n1"), graphs.node("Abs", ["x"], name="n2")])


def _edited(change: Callable[[onnx.ModelProto], Any]) -> onnx.ModelProto:
    proto = graphs.tiny_conv()
    change(proto)
    return proto


STRUCTURES: dict[str, tuple[onnx.ModelProto, str]] = {
    "cycle": (_cycle(), "cycle.*n1.*n2|n1.*cycle"),
    "self loop": (graphs.model([graphs.node("Add", ["x", "y"], name="n1")]), "cycle"),
    "missing input": (graphs.model([graphs.node("Add", ["x", "nothing"], name="n1")]), "n1.*nothing"),
    "output assigned twice": (_duplicate_output(), "n2.*twice"),
    "two value fields": (_two_values(), "two value fields"),
    "dims 2^62 x 8": (_wild_dims([1 << 62, 8]), "dimension out of range"),
    "negative dim": (_wild_dims([-1, 1, 3, 3]), "dimension out of range"),
    "too many elements": (_wild_dims([1 << 30, 1 << 30]), "too many elements"),
    "rank 9": (_wild_dims([1] * 8 + [9]), "too many dimensions"),
    "bytes contradict dims": (_wild_dims([1, 1, 3, 4]), "disagree"),
    "unknown dtype": (_edited(lambda p: setattr(p.graph.initializer[0], "data_type", 99)), "data_type"),
    "input of rank 9": (graphs.model([graphs.node("Relu", ["x"])], x=[1] * 9), "too many dimensions"),
    "absurd input": (graphs.model([graphs.node("Relu", ["x"])], x=[1, 1 << 40]), "out of range"),
    "huge input": (graphs.model([graphs.node("Relu", ["x"])], x=[1 << 30, 1 << 30]), "too many elements"),
    "no output": (_edited(lambda p: p.graph.ClearField("output")), "no output"),
    "output of nobody": (_edited(lambda p: setattr(p.graph.output[0], "name", "q")), "'q'"),
    "initializer twice": (_edited(lambda p: p.graph.initializer.append(p.graph.initializer[0])), "twice"),
    "attribute twice": (_edited(lambda p: p.graph.node[0].attribute.append(p.graph.node[0].attribute[0])), "attribute"),
    "opset twice": (_edited(lambda p: p.opset_import.append(helper.make_opsetid("", 18))), "twice"),
    "function calls itself": (_functions({"F0": ["F0"]}), "calls itself"),
    "functions call each other": (_functions({"F0": ["F1"], "F1": ["F2"], "F2": ["F1"]}), "calls itself"),
    "3000 functions deep": (_functions({f"F{i}": [f"F{i + 1}"] if i < 2999 else [] for i in range(3000)}), "too deep"),
    "2^30 nodes by functions": (_functions({f"F{i}": [f"F{i + 1}"] * 2 if i < 29 else [] for i in range(30)}), "too many nodes"),
    "33 graphs deep": (_nested(31), "too deep"),
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_a_broken_structure_is_refused_by_name(case: str) -> None:
    proto, says = STRUCTURES[case]
    start = time.monotonic()
    with pytest.raises(InvalidModelError, match=says):
        front.load(proto.SerializeToString())
    assert time.monotonic() - start < LIMIT_S


def test_more_than_a_hundred_thousand_nodes_are_refused() -> None:
    proto = graphs.model([graphs.node("Relu", ["x"])])
    proto.graph.node.extend([graphs.node("Relu", ["x"], "z")] * 100_001)
    with pytest.raises(InvalidModelError, match="too many nodes"):
        front.load(proto.SerializeToString())


# ---------------------------------------------------------------- bombs


def _bomb(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> bytes:
    return graphs.model(
        [*nodes, graphs.node("ReduceMax", ["big"], "m", keepdims=0), graphs.node("Add", ["x", "m"])], constants
    ).SerializeToString()


ONE = graphs.tensor("one", np.float32(1))
BOMBS = {
    "ConstantOfShape": _bomb([graphs.node("ConstantOfShape", ["dims"], "big")], [constant("dims", 1 << 15, 1 << 15)]),
    "Expand": _bomb([graphs.node("Expand", ["one", "dims"], "big")], [ONE, constant("dims", 1 << 15, 1 << 15)]),
    "Tile": _bomb([graphs.node("Tile", ["row", "dims"], "big")], [graphs.weights("row", 8), constant("dims", 1 << 27)]),
    "Range": _bomb(
        [graphs.node("Range", ["zero", "end", "one"], "big")],
        [ONE, graphs.tensor("zero", np.float32(0)), graphs.tensor("end", np.float32(1 << 30))],
    ),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_constant_bomb_is_not_computed(case: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    with contextlib.suppress(EdgeZipError):  # left or refused, both are right
        front.load(BOMBS[case])
    assert time.monotonic() - start < LIMIT_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 << 10  # kB; the tensor would take 4 GiB


# ---------------------------------------------------------------- external data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with ``w.bin`` of the right size, and a secret beside the folder."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "w.bin").write_bytes(np.arange(9, dtype=np.float32).tobytes())
    (tmp_path / "secret.bin").write_bytes(b"s" * 36)
    return home


def external(folder: Path, location: str, **fields: int | str) -> Path:
    proto = graphs.tiny_conv()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **fields}.items():
        weight.external_data.add(key=key, value=str(value))
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_beside_the_model_is_read(folder: Path) -> None:
    from edgezip import graph

    model = frontends.load(external(folder, "w.bin", offset=0, length=36))
    assert np.array_equal(graph.constant(graph.find_value(model, "w")).ravel(), np.arange(9))


def test_external_data_in_a_subfolder_is_read(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "w.bin").rename(folder / "sub" / "w.bin")
    frontends.load(external(folder, "sub/w.bin"))


def _symlinked_file(folder: Path) -> Path:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    return external(folder, "link.bin")


def _symlinked_folder(folder: Path) -> Path:
    (folder / "up").symlink_to(folder.parent)
    return external(folder, "up/secret.bin")


def _hard_link(folder: Path) -> Path:
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    return external(folder, "hard.bin")


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return external(folder, "pipe")


def _twice(folder: Path) -> Path:
    path = external(folder, "w.bin")
    proto = onnx.load(str(path), load_external_data=False)
    proto.graph.initializer[0].external_data.add(key="location", value="other.bin")
    path.write_bytes(proto.SerializeToString())
    return path


ATTACKS: dict[str, Callable[[Path], Path]] = {
    "parent folder": lambda f: external(f, "../secret.bin"),
    "parent in the middle": lambda f: external(f, "a/../../secret.bin"),
    "absolute path": lambda f: external(f, str(f.parent / "secret.bin")),
    "backslash": lambda f: external(f, "..\\secret.bin"),
    "empty location": lambda f: external(f, ""),
    "the folder itself": lambda f: external(f, "."),
    "symlinked file": _symlinked_file,
    "symlinked folder": _symlinked_folder,
    "hard link": _hard_link,
    "fifo": _fifo,
    "negative offset": lambda f: external(f, "w.bin", offset=-4),
    "offset past the end": lambda f: external(f, "w.bin", offset=4),
    "length of 1 TiB": lambda f: external(f, "w.bin", length=1 << 40),
    "length contradicts dims": lambda f: external(f, "w.bin", length=32),
    "offset is no number": lambda f: external(f, "w.bin", offset="0x10"),
    "location twice": _twice,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_external_data_attack_is_refused_with_the_tensor(attack: str, folder: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"tensor 'w'.*external data"):
        frontends.load(ATTACKS[attack](folder))


def test_a_missing_external_file_is_named(folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gone\.bin"):
        frontends.load(external(folder, "gone.bin"))


def test_external_data_of_a_model_in_memory_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidModelError, match="external data"):
        front.load(external(folder, "w.bin").read_bytes())


def test_sparse_initializers_are_refused() -> None:
    proto = graphs.tiny_conv()
    proto.graph.sparse_initializer.add()
    with pytest.raises(UnsupportedModelError, match="sparse"):
        front.load(proto.SerializeToString())
