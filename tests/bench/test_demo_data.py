"""The demo model and samples that come with the package."""

from __future__ import annotations

import numpy as np
import onnx

from edgezip.data import DEMO, DEMO_MODEL, DEMO_SAMPLES
from edgezip.measure.onnx_reference import OnnxSession


def test_demo_stays_under_one_megabyte() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 1_000_000


def test_model_is_valid_and_small() -> None:
    model = onnx.load(str(DEMO_MODEL))
    onnx.checker.check_model(model, full_check=True)
    assert sum(int(np.prod(item.dims)) for item in model.graph.initializer) < 60_000
    assert {node.op_type for node in model.graph.node} == {"Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm"}


def test_model_is_right_on_nine_of_ten_samples() -> None:
    samples, session = np.load(DEMO_SAMPLES), OnnxSession(DEMO_MODEL)
    images = samples["images"][:, None, None].astype(np.float32) / np.float32(255)
    answers = [int(session.run({"image": image})["logits"].argmax()) for image in images]
    assert np.mean(np.array(answers) == samples["labels"]) >= 0.9


def test_every_kind_is_among_the_samples() -> None:
    assert set(np.load(DEMO_SAMPLES)["labels"].tolist()) == set(range(10))


def test_calibration_shares_no_picture_with_the_samples() -> None:
    samples = np.load(DEMO_SAMPLES)
    scored = {image.tobytes() for image in samples["images"]}
    assert not any(image.tobytes() in scored for image in samples["calibration"])
