"""Networks of the published latencies, layer by layer: shapes alone are needed, so the papers' tables are enough.

MobileNet 1.0/224 (Howard 2017, table 1), SqueezeNet 1.1 at 227 (Iandola 2016 and its repository), ResNet-18 and ResNet-50 at
224 with the stride in the 1x1 convolution (He 2015, table 1), EfficientNet-B0 (Tan 2019, table 1). Batch norm and ReLU are
folded, as every runtime does; Swish, squeeze-and-excite products and residual sums are steps of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from edgezip.cost import FIRST_CHANNELS, LayerCost

CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Layer:
    """Multiplications, and elements of weights and activations (read and written)."""

    macs: int
    weights: int
    activations: int
    is_depthwise: bool = False
    is_square: bool = False
    is_first: bool = False


@dataclass
class Network:
    """Grows layer by layer; ``size`` and ``channels`` are those of the present activation, which is square."""

    size: int
    channels: int = 3
    layers: list[Layer] = field(default_factory=list)

    def conv(self, outputs: int, kernel: int = 1, stride: int = 1, *, pad: int | None = None, depthwise: bool = False) -> None:
        """A convolution with everything that folds into it."""
        before = self.size**2 * self.channels
        depth = 1 if depthwise else self.channels
        self.size = (self.size + 2 * (kernel // 2 if pad is None else pad) - kernel) // stride + 1
        weights = outputs * kernel**2 * depth
        self.layers.append(
            Layer(
                macs=self.size**2 * weights,
                weights=weights,
                activations=before + self.size**2 * outputs,
                is_depthwise=depthwise,
                is_square=kernel == 3 and stride == 1 and not depthwise,
                is_first=self.channels <= FIRST_CHANNELS and not depthwise,
            )
        )
        self.channels = outputs

    def pool(self, kernel: int, stride: int, pad: int = 0, *, ceil: bool = False) -> None:
        """Largest of each window."""
        before = self.size**2 * self.channels
        steps = (self.size + 2 * pad - kernel) / stride
        self.size = (math.ceil(steps) if ceil else math.floor(steps)) + 1
        self.layers.append(Layer(0, 0, before + self.size**2 * self.channels))

    def elementwise(self, operands: int) -> None:
        """A step that reads and writes ``operands`` activations of the present shape in all."""
        self.layers.append(Layer(0, 0, operands * self.size**2 * self.channels))

    def average(self) -> None:
        """The mean of each channel."""
        self.layers.append(Layer(0, 0, self.size**2 * self.channels))
        self.size = 1

    def full(self, outputs: int) -> None:
        """A fully connected layer."""
        self.layers.append(Layer(self.channels * outputs, self.channels * outputs, self.channels + outputs))
        self.channels = outputs


def mobilenet() -> list[Layer]:
    """MobileNet 1.0 at 224: 569 million multiplications."""
    net = Network(224)
    net.conv(32, 3, 2)
    strided = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for outputs, stride in strided:
        net.conv(net.channels, 3, stride, depthwise=True)
        net.conv(outputs)
    net.average()
    net.full(CLASSES)
    return net.layers


def squeezenet() -> list[Layer]:
    """SqueezeNet 1.1 at 227: 388 million multiplications."""
    net = Network(227)
    net.conv(64, 3, 2, pad=0)
    for position, (squeeze, expand) in enumerate([(16, 64)] * 2 + [(32, 128)] * 2 + [(48, 192)] * 2 + [(64, 256)] * 2):
        if position in (0, 2, 4):
            net.pool(3, 2, ceil=True)
        net.conv(squeeze)
        net.conv(expand)
        net.channels = squeeze
        net.conv(expand, 3)
        net.channels = 2 * expand
    net.conv(CLASSES)
    net.average()
    return net.layers


def resnet(blocks: tuple[int, ...], bottleneck: bool) -> list[Layer]:
    """A residual network at 224 with so many blocks a stage."""
    net = Network(224)
    net.conv(64, 7, 2)
    net.pool(3, 2, 1)
    for stage, count in enumerate(blocks):
        for block in range(count):
            _residual(net, 64 << stage, 2 if stage and not block else 1, bottleneck)
    net.average()
    net.full(CLASSES)
    return net.layers


def _residual(net: Network, width: int, stride: int, bottleneck: bool) -> None:
    size, channels = net.size, net.channels
    outputs = 4 * width if bottleneck else width
    if bottleneck:
        net.conv(width, 1, stride)
        net.conv(width, 3)
        net.conv(outputs)
    else:
        net.conv(width, 3, stride)
        net.conv(width, 3)
    if stride > 1 or channels != outputs:
        net.size, net.channels = size, channels
        net.conv(outputs, 1, stride)
    net.elementwise(3)


def efficientnet_b0() -> list[Layer]:
    """EfficientNet-B0 at 224: 386 million multiplications."""
    net = Network(224)
    net.conv(32, 3, 2)
    net.elementwise(2)
    for expansion, outputs, repeats, stride, kernel in (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ):  # fmt: skip
        for repeat in range(repeats):
            _inverted(net, expansion, outputs, 1 if repeat else stride, kernel)
    net.conv(1280)
    net.elementwise(2)
    net.average()
    net.full(CLASSES)
    return net.layers


def _inverted(net: Network, expansion: int, outputs: int, stride: int, kernel: int) -> None:
    inputs = net.channels
    if expansion > 1:
        net.conv(inputs * expansion)
        net.elementwise(2)
    net.conv(net.channels, kernel, stride, depthwise=True)
    net.elementwise(2)
    size, width = net.size, net.channels
    net.average()
    net.full(max(1, inputs // 4))
    net.full(width)
    net.size = size
    net.elementwise(2)
    net.conv(outputs)
    if stride == 1 and inputs == outputs:
        net.elementwise(3)


NETWORKS: dict[str, Callable[[], list[Layer]]] = {
    "mobilenet": mobilenet,
    "squeezenet": squeezenet,
    "resnet18": lambda: resnet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: resnet((3, 4, 6, 3), bottleneck=True),
    "efficientnet_b0": efficientnet_b0,
}
BYTES = {"float32": 4, "float16": 2, "int8": 1}


def costs(name: str, form: str) -> list[LayerCost]:
    """The layers of a network in a form, as ``edgezip.cost`` prices them."""
    size = BYTES[form]
    return [
        LayerCost(
            name=f"{name}.{number}",
            op="Conv" if layer.macs else "Elementwise",
            form=form,
            output_shape=(),
            macs=layer.macs,
            params=layer.weights,
            weight_bytes=size * layer.weights,
            activation_bytes=size * layer.activations,
            is_depthwise=layer.is_depthwise,
            is_square=layer.is_square,
            is_first=layer.is_first,
        )
        for number, layer in enumerate(NETWORKS[name]())
    ]
