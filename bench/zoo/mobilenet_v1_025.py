"""MobileNet-v1 0.25/96 (0.5 M parameters, 7.5 M multiplications) with random weights, the size of small cameras: latency only."""

from __future__ import annotations

from functools import partial

from bench.zoo.mobilenet_v1 import build
from bench.zoo.random_net import RandomNet

TASK = RandomNet("mobilenet_v1_025", (1, 3, 96, 96), partial(build, width=0.25, size=96))
