"""Networks of the usual architectures, small, written as their users write them: what the PyTorch front end is tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Case = tuple[Callable[[], nn.Module], Any]


class Residual(nn.Module):
    """ResNet: two convolutions with BatchNorm, a shortcut, global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(3, 2, 1))
        self.a, self.b = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.Conv2d(16, 16, 3, 1, 1, bias=False)
        self.norm_a, self.norm_b = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
        self.pool, self.head, self.drop = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 10), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.norm_b(self.b(functional.relu(self.norm_a(self.a(x)))))
        return self.head(self.drop(self.pool(functional.relu(y + self.shortcut(x))).flatten(1)))


class Mobile(nn.Module):
    """MobileNetV3: depthwise, squeeze-excite, hard-swish, ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 12, 1), nn.BatchNorm2d(12), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(12, 12, 5, 2, 2, groups=12), nn.BatchNorm2d(12), nn.ReLU6())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1), nn.Hardsigmoid()
        )
        self.project = nn.Conv2d(12, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.expand(x))
        return self.project(x * self.squeeze(x)).mean((2, 3))


class Detector(nn.Module):
    """A YOLO-like neck: SiLU, split and concat, nearest upsampling, two heads in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.fuse, self.act, self.pool = nn.Conv2d(16, 8, 1), nn.SiLU(), nn.MaxPool2d(5, 1, 2)
        self.box, self.score = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 3, 1)

    def forward(self, image: torch.Tensor) -> dict[str, Any]:
        fine = self.act(self.stem(image))
        a, b = self.act(self.down(fine)).chunk(2, 1)
        deep = self.fuse(torch.cat([a, self.pool(b)], 1))
        neck = torch.cat([functional.interpolate(deep, scale_factor=2.0), fine], 1)
        return {"boxes": self.box(neck).flatten(2).transpose(1, 2), "scores": (self.score(neck).sigmoid(), deep)}


class Segmenter(nn.Module):
    """A U-Net: ConvTranspose, bilinear upsampling, LeakyReLU, PReLU, reflect padding."""

    def __init__(self) -> None:
        super().__init__()
        self.pad, self.down = nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3, 2)
        self.mid, self.act = nn.Conv2d(8, 8, 3, 1, 2, 2), nn.PReLU(8)
        self.up, self.out = nn.ConvTranspose2d(8, 6, 2, 2), nn.Conv2d(14, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = functional.leaky_relu(self.down(self.pad(x)), 0.1)
        high = self.up(self.act(self.mid(low)))
        wide = functional.interpolate(low, size=high.shape[2:], mode="bilinear", align_corners=False)
        return self.out(torch.cat([high, wide], 1)).softmax(1)


class Words(nn.Module):
    """Embedding, one-dimensional convolution, GELU, a mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(30, 8), nn.Conv1d(8, 12, 3, padding=1)
        self.out = nn.Linear(12, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(functional.gelu(self.conv(self.embedding(ids).transpose(1, 2))).mean(2)).log_softmax(-1)


class Groups(nn.Module):
    """GroupNorm, InstanceNorm and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.each = nn.Conv2d(4, 8, 3, groups=2), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.each(functional.elu(self.norm(self.conv(x))))


def encoder(norm_first: bool = False) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Attention(nn.Module):
    """nn.MultiheadAttention of a query over a memory, with the causal mask of a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(16, 2, batch_first=True), nn.LayerNorm(16)

    def forward(self, query: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask = torch.triu(torch.full((5, 5), float("-inf")), 1)
        y, weights = self.attention(query, memory, memory, attn_mask=mask)
        return self.norm(query + y), weights


class Recurrent(nn.Module):
    """A recurrent layer over a sequence; its last state too."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor, state: Any = None) -> Any:
        return self.layer(x, state) if state is not None else self.layer(x)


IMAGE = (torch.randn(1, 3, 32, 32),)
SEQUENCE = (torch.randn(1, 6, 16),)
STATE = {"x": torch.randn(1, 6, 5), "state": (torch.randn(1, 1, 8), torch.randn(1, 1, 8))}
CASES: dict[str, Case] = {
    "residual": (Residual, IMAGE),
    "mobile": (Mobile, IMAGE),
    "detector": (Detector, {"image": torch.randn(1, 3, 32, 32)}),
    "segmenter": (Segmenter, IMAGE),
    "words": (Words, (torch.randint(0, 30, (1, 7)),)),
    "groups": (Groups, (torch.randn(1, 4, 9, 7),)),
    "encoder": (encoder, SEQUENCE),
    "encoder, norm first": (lambda: encoder(norm_first=True), SEQUENCE),
    "attention": (Attention, (torch.randn(1, 5, 16), torch.randn(1, 5, 16))),
    "lstm with a state": (lambda: Recurrent(nn.LSTM(5, 8, batch_first=True)), STATE),
    "bidirectional lstm": (lambda: Recurrent(nn.LSTM(5, 8, 2, bidirectional=True)), (torch.randn(6, 1, 5),)),
    "gru": (lambda: Recurrent(nn.GRU(5, 8, batch_first=True)), (torch.randn(1, 6, 5),)),
}


def trained(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The module with numbers in its BatchNorms as training leaves them, in training mode still."""
    torch.manual_seed(seed)
    module = make()
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.normal_(part.running_mean, 0, 0.3)
    return module
