"""Data that comes with the package: the demo model and its samples."""

from __future__ import annotations

from pathlib import Path

DEMO = Path(__file__).parent / "demo"
DEMO_MODEL = DEMO / "fashion_cnn.onnx"
DEMO_SAMPLES = DEMO / "samples.npz"
