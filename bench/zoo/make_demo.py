"""Trains the demo model of ``edgezip/data/demo`` and writes its labelled samples. Run once; the repository carries the result.

    pip install torch==2.13.0 numpy onnx          (in an environment of its own: only this script needs torch)
    python -m bench.zoo.make_demo --work .work/zoo -o edgezip/data/demo

Fourteen epochs take a quarter of an hour on two cores. Same seed, same torch build, same thread count: same weights.
"""

# mypy: disable-error-code="import-not-found, misc, no-any-return"
# torch is not installed where the project is checked.
from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.zoo import fashion
from bench.zoo.onnx_writer import GraphWriter

STEM = 16
#         in, expanded, out, stride
BLOCKS = ((16, 48, 24, 2), (24, 72, 24, 1), (24, 72, 40, 2), (40, 120, 40, 1), (40, 120, 40, 1))
HEAD = 160
SAMPLES = 400
CALIBRATION = 64


def conv_unit(cin: int, cout: int, kernel: int, stride: int = 1, group: int = 1, activate: bool = True) -> nn.Sequential:
    """Convolution, batch norm and (if ``activate``) ReLU6."""
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=group, bias=False),
        nn.BatchNorm2d(cout),
    ]
    return nn.Sequential(*layers, nn.ReLU6()) if activate else nn.Sequential(*layers)


class Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise 3x3, project 1x1 (linear), skip when shapes allow."""

    def __init__(self, cin: int, expanded: int, cout: int, stride: int) -> None:
        super().__init__()
        self.expand = conv_unit(cin, expanded, 1)
        self.depthwise = conv_unit(expanded, expanded, 3, stride, expanded)
        self.project = conv_unit(expanded, cout, 1, activate=False)
        self.has_skip = stride == 1 and cin == cout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, cin, h, w] -> [n, cout, h / stride, w / stride]."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_skip else y


class FashionCnn(nn.Module):
    """42,436 parameters (batch norms folded), 2.9 million multiplications a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_unit(1, STEM, 3)
        self.blocks = nn.ModuleList(Block(*spec) for spec in BLOCKS)
        self.head = conv_unit(BLOCKS[-1][2], HEAD, 1)
        self.drop = nn.Dropout(0.2)
        self.classifier = nn.Linear(HEAD, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, 1, 28, 28] in 0..1 -> logits [n, 10]."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.drop(self.head(x).mean((2, 3))))


def augment(x: torch.Tensor) -> torch.Tensor:
    """Random mirror of each picture and a random shift of the batch by up to two pixels."""
    mirrored = torch.rand(len(x)) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    dy, dx = (int(v) for v in torch.randint(0, 5, (2,)))
    return nn.functional.pad(x, (2, 2, 2, 2))[:, :, dy : dy + 28, dx : dx + 28]


def train(model: FashionCnn, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Adam with decay and a one-cycle rate; batch 128."""
    batch, steps = 128, epochs * -(-len(x) // 128)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for epoch in range(epochs):
        model.train()
        start, total = time.time(), 0.0
        for index in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(augment(x[index])), y[index], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(index)
        print(f"epoch {epoch + 1}: loss {total / len(x):.4f}, {time.time() - start:.0f} s", flush=True)


def accuracy(model: FashionCnn, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of right answers, in percent."""
    model.eval()
    with torch.no_grad():
        right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return 100 * right / len(x)


def folded(unit: nn.Sequential) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weight and bias of the unit's convolution with the batch norm folded in."""
    conv: Any = unit[0]
    norm: Any = unit[1]
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale[:, None, None, None]
    bias = norm.bias - norm.running_mean * scale
    return weight.detach().numpy(), bias.detach().numpy()


def export(model: FashionCnn, path: Path) -> None:
    """Writes the network as ONNX, batch norms folded, batch 1: image [1, 1, 28, 28] -> logits [1, 10]."""
    g = GraphWriter("fashion_cnn")
    x = g.relu6("stem.relu6", g.conv("stem", "image", *folded(model.stem), pads=(1, 1, 1, 1)))
    for number, module in enumerate(model.blocks, 1):
        block: Any = module
        stride, group = block.depthwise[0].stride[0], block.depthwise[0].groups
        name = f"block{number}"
        y = g.relu6(f"{name}.expand.relu6", g.conv(f"{name}.expand", x, *folded(block.expand)))
        y = g.conv(f"{name}.depthwise", y, *folded(block.depthwise), stride=stride, pads=(1, 1, 1, 1), group=group)
        y = g.conv(f"{name}.project", g.relu6(f"{name}.depthwise.relu6", y), *folded(block.project))
        x = g.op("Add", f"{name}.add", [x, y]) if block.has_skip else y
    x = g.relu6("head.relu6", g.conv("head", x, *folded(model.head)))
    x = g.op("Flatten", "flatten", [g.op("GlobalAveragePool", "pool", [x])], axis=1)
    g.gemm("classifier", x, model.classifier.weight.detach().numpy(), model.classifier.bias.detach().numpy(), "logits")
    g.save(path, {"image": (1, 1, 28, 28)}, {"logits": (1, 10)})


def main() -> None:
    """Trains, writes model and samples, prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".work/zoo"))
    parser.add_argument("-o", "--output", type=Path, default=Path("edgezip/data/demo"))
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(2)
    train_images, train_labels = fashion.load("train", arguments.work)
    test_images, test_labels = fashion.load("test", arguments.work)
    model = FashionCnn()
    train(model, torch.from_numpy(fashion.as_input(train_images)), torch.from_numpy(train_labels), arguments.epochs)
    percent = accuracy(model, torch.from_numpy(fashion.as_input(test_images)), torch.from_numpy(test_labels))
    export(model, arguments.output / "fashion_cnn.onnx")
    # The first pictures of each part, in the data set's own order: nothing is picked by hand.
    np.savez_compressed(
        arguments.output / "samples.npz",
        images=test_images[:SAMPLES],
        labels=test_labels[:SAMPLES],
        calibration=train_images[:CALIBRATION],
    )
    parameters = sum(p.numel() for p in model.parameters())
    print(json.dumps({"parameters": parameters, "test_accuracy_pct": round(percent, 2), "epochs": arguments.epochs}))


if __name__ == "__main__":
    main()
