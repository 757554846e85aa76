"""Inputs from files: what is accepted, what is refused and with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgezip.cli import feeds
from edgezip.errors import MissingFileError, SampleError, ShapeError, UsageError
from edgezip.samples import Input

IMAGE = Input("image", np.dtype("<f4"), (1, 2, 3))
TOKENS = Input("tokens", np.dtype("<i8"), (1, 4))


def saved(folder: Path, name: str, **arrays: Any) -> Path:
    path = folder / name
    if path.suffix == ".npy":
        np.save(path, arrays["array"])
    else:
        np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(("shape", "count"), [((1, 2, 3), 1), ((2, 3), 1), ((5, 2, 3), 5), ((5, 1, 2, 3), 5)])
def test_leading_axis_counts_samples(tmp_path: Path, shape: tuple[int, ...], count: int) -> None:
    path = saved(tmp_path, "x.npy", array=np.ones(shape, np.float32))
    samples = feeds.read_samples(path, [IMAGE])
    assert len(samples) == count
    assert all(sample["image"].shape == (1, 2, 3) for sample in samples)


def test_folder_is_read_in_the_order_of_names_up_to_the_limit(tmp_path: Path) -> None:
    for k in (2, 0, 1):
        saved(tmp_path, f"{k}.npy", array=np.full((2, 2, 3), k, np.float32))
    samples = feeds.read_samples(tmp_path, [IMAGE], limit=3)
    assert [float(sample["image"][0, 0, 0]) for sample in samples] == [0, 0, 1]


def test_arrays_of_several_inputs_go_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path, "x.npz", tokens=np.ones((2, 4), np.int32), image=np.zeros((2, 2, 3), np.float64))
    sample = feeds.read_samples(path, [IMAGE, TOKENS])[1]
    assert (sample["image"].dtype, sample["tokens"].dtype) == (np.float32, np.int64)


def test_one_input_takes_the_only_array_whatever_its_name(tmp_path: Path) -> None:
    assert len(feeds.read_samples(saved(tmp_path, "x.npz", pictures=np.zeros((7, 2, 3), np.float32)), [IMAGE])) == 7


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"image": np.zeros((3, 2), np.float32)}, ShapeError),
        ({"image": np.zeros((1, 2, 3), np.uint8)}, ShapeError),
        ({"a": np.zeros((1, 2, 3)), "b": np.zeros(1)}, SampleError),
        ({"image": np.zeros((0, 2, 3), np.float32)}, SampleError),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        feeds.read_samples(saved(tmp_path, "x.npz", **arrays), [IMAGE])


def test_different_numbers_of_samples_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "x.npz", tokens=np.ones((2, 4), np.int64), image=np.zeros((3, 2, 3), np.float32))
    with pytest.raises(ShapeError, match="image: 3, tokens: 2"):
        feeds.read_samples(path, [IMAGE, TOKENS])


def test_whole_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    small = Input("x", np.dtype("i1"), (2,))
    with pytest.raises(ShapeError, match="another type"):
        feeds.read_samples(saved(tmp_path, "x.npy", array=np.array([1, 300])), [small])


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01"])
def test_a_file_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(SampleError, match="cannot read"):
        feeds.read_samples(tmp_path / "x.npy", [IMAGE])


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(SampleError, match="cannot read"):
        feeds.read_samples(tmp_path / "x.npy", [IMAGE])


def test_nothing_there_is_said_to_be_missing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.npy"):
        with pytest.raises(MissingFileError):
            feeds.read_samples(path, [IMAGE])


def test_raw_input_must_have_exactly_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(np.arange(6, dtype="<f4").tobytes())
    assert feeds.read_named([f"image={tmp_path / 'x.bin'}"], [IMAGE])["image"][0, 1, 2] == 5
    (tmp_path / "x.bin").write_bytes(b"123")
    with pytest.raises(ShapeError, match="24 bytes"):
        feeds.read_named([f"image={tmp_path / 'x.bin'}"], [IMAGE])


def test_name_may_be_left_out_of_the_only_input(tmp_path: Path) -> None:
    path = saved(tmp_path, "x.npy", array=np.ones((1, 2, 3), np.float32))
    assert "image" in feeds.read_named([str(path)], [IMAGE])
    with pytest.raises(UsageError, match="no such input"):
        feeds.read_named([str(path)], [IMAGE, TOKENS])
    with pytest.raises(UsageError, match="--input tokens=FILE"):
        feeds.read_named([f"image={path}"], [IMAGE, TOKENS])


def test_an_equals_sign_may_stand_in_names_and_paths(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    path = saved(tmp_path / "a=b", "x.npy", array=np.ones((1, 2, 3), np.float32))
    assert "image" in feeds.read_named([str(path)], [IMAGE])
    assert "image" in feeds.read_named([f"image={path}"], [IMAGE])
    odd = Input("in=put", np.dtype("<f4"), (1, 2, 3))
    assert "in=put" in feeds.read_named([f"in=put={path}"], [odd, IMAGE][:1])


def test_a_scalar_input_is_read(tmp_path: Path) -> None:
    sample = feeds.read_samples(saved(tmp_path, "x.npy", array=np.float32(3)), [Input("x", np.dtype("<f4"), ())])[0]
    assert sample["x"].shape == ()
