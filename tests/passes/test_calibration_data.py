"""Calibration samples from files and feeds: what is read, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as models

from edgezip import graph
from edgezip.compression import compress
from edgezip.errors import CalibrationError, SampleError, ShapeError, UsageError


def test_nan_in_a_sample_is_named(tmp_path) -> None:
    data = np.zeros((3, 3, 12, 12), np.float32)
    data[1, 2, 4, 5] = np.nan
    np.savez(tmp_path / "a.npz", x=data)
    with pytest.raises(CalibrationError, match=r"a\.npz, sample 1.*'x'.*2, 4, 5"):
        compress(models.conv_net(), calibration=tmp_path)


def test_empty_folder_is_refused(tmp_path) -> None:
    with pytest.raises(CalibrationError, match="no calibration samples"):
        compress(models.conv_net(), calibration=tmp_path)


def test_no_samples_is_refused() -> None:
    with pytest.raises(CalibrationError, match="no calibration samples"):
        compress(models.conv_net(), calibration=[])


@pytest.mark.parametrize("shape", [(3, 12, 11), (1, 3, 12), (4,)])
def test_wrong_shape_names_file_input_and_both_shapes(tmp_path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    with pytest.raises(ShapeError, match=r"a\.npy.*\(1, 3, 12, 12\)"):
        compress(models.conv_net(), calibration=tmp_path)


def test_pickled_arrays_are_never_loaded(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SampleError, match=r"a\.npy"):
        compress(models.conv_net(), calibration=tmp_path)


def test_folder_file_and_feeds_give_the_same_model(tmp_path) -> None:
    feeds = models.samples(count=5)
    np.savez(tmp_path / "all.npz", x=np.concatenate([f["x"] for f in feeds]))
    by_file = compress(models.conv_net(), calibration=tmp_path / "all.npz").model
    by_folder = compress(models.conv_net(), calibration=tmp_path).model
    by_feeds = compress(models.conv_net(), calibration=feeds).model
    assert graph.to_bytes(by_file) == graph.to_bytes(by_folder) == graph.to_bytes(by_feeds)


def test_pictures_are_scaled_to_the_input(tmp_path) -> None:
    from PIL import Image

    for i in range(3):
        Image.fromarray(np.full((30, 40, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")
    small = compress(models.conv_net(), calibration=tmp_path, mean=127.5, std=127.5)
    assert small.report.samples == 3


@pytest.mark.parametrize("damage", ["object", "cut", "bit"])
def test_damaged_npz_is_named(tmp_path, damage: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{}], object) if damage == "object" else np.zeros((4, 3, 12, 12), np.float32))
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    if damage == "bit":
        data[400] ^= 1
        path.write_bytes(data)
    with pytest.raises(SampleError, match=r"a\.npz"):
        compress(models.conv_net(), calibration=path)


def test_one_sample_may_come_without_its_leading_axis(tmp_path) -> None:
    for number, feed in enumerate(models.samples(count=3)):
        np.save(tmp_path / f"{number}.npy", feed["x"][0])
    by_folder = compress(models.conv_net(), calibration=tmp_path).model
    assert graph.to_bytes(by_folder) == graph.to_bytes(compress(models.conv_net(), calibration=models.samples(count=3)).model)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_pictures_are_not_divided_by_nonsense(tmp_path, mean: float, std: float) -> None:
    with pytest.raises(UsageError, match="--std"):
        compress(models.conv_net(), calibration=tmp_path, mean=mean, std=std)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n then nothing", b"text"])
def test_damaged_picture_is_a_calibration_error(tmp_path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(CalibrationError, match=r"a\.png"):
        compress(models.conv_net(), calibration=tmp_path)


def test_whole_numbers_are_never_taken_for_floats(tmp_path) -> None:
    """Bytes of pictures where the network was taught on 0 to 1 would calibrate every range wrongly, without a word."""
    np.save(tmp_path / "a.npy", np.ones((1, 3, 12, 12), np.uint8))
    with pytest.raises(ShapeError, match=r"another type.*uint8.*as in training"):
        compress(models.conv_net(), calibration=tmp_path)
