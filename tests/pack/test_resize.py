"""Resize in every form: the numbers of ONNX's own reference, interpreter and C alike, and what the tables hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from pack_graphs import build, feeds_for, ints, node, ops_of, run_everywhere

import edgezip as ez
from edgezip import graph, pack
from edgezip.errors import InvalidModelError, UnsupportedModelError
from edgezip.frontends.onnx import load
from edgezip.pack.lower.resize_tables import Along, Kernel, coordinates, taps
from edgezip.program import Op
from edgezip.runtime.session import Session

Build = Callable[[], Any]
IMAGE = (2, 3, 6, 7)
CROP = {"coordinate_transformation_mode": "tf_crop_and_resize"}
f32 = np.float32


def scaled(*scales: float, x: tuple[int, ...] = IMAGE, **attrs: Any) -> Build:
    return lambda: build([node("Resize", ["x", "", "scales"], **attrs)], {"scales": np.array(scales, f32)}, {"x": x})


def sized(*sizes: int, x: tuple[int, ...] = IMAGE, **attrs: Any) -> Build:
    return lambda: build([node("Resize", ["x", "", "", "sizes"], **attrs)], {"sizes": ints(*sizes)}, {"x": x})


def cropped(region: tuple[float, ...], *sizes: int, **attrs: Any) -> Build:
    held = {"roi": np.array(region, f32), "sizes": ints(*sizes)}
    mode = "tf_crop_and_resize"
    return lambda: build(
        [node("Resize", ["x", "roi", "", "sizes"], coordinate_transformation_mode=mode, **attrs)], held, {"x": IMAGE}
    )


WHOLE = (0.0, 0.0, 0.1, 0.2, 1.0, 1.0, 0.8, 0.9)
BEYOND = (0.0, 0.0, -0.2, 0.5, 1.0, 1.0, 0.8, 1.3)
CASES: dict[str, Build] = {
    **{
        f"cubic_{mode}": scaled(1, 1, 2.5, 0.6, mode="cubic", coordinate_transformation_mode=mode)
        for mode in ("half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric")
    },
    "cubic_align_corners": sized(2, 3, 9, 4, mode="cubic", coordinate_transformation_mode="align_corners"),
    "cubic_half_coefficient": scaled(1, 1, 1.5, 2, mode="cubic", cubic_coeff_a=-0.5),
    "cubic_without_the_outside": scaled(1, 1, 1.5, 0.7, mode="cubic", exclude_outside=1),
    "cubic_of_channels_and_batch": scaled(2, 2, 2, 0.5, mode="cubic"),
    "cubic_line": scaled(1, 1, 3, x=(1, 4, 7), mode="cubic"),
    "cubic_matrix": scaled(2, 1.5, x=(5, 8), mode="cubic"),
    "cubic_volume": scaled(1, 1, 2, 2, 2, x=(1, 2, 3, 4, 3), mode="cubic"),
    "linear_volume": scaled(1, 1, 2, 0.5, 2, x=(1, 2, 3, 4, 3), mode="linear"),
    "linear_of_channels": scaled(1, 2, 1, 1, mode="linear"),
    "linear_without_the_outside": scaled(1, 1, 1.5, 0.7, mode="linear", exclude_outside=1),
    "linear_fraction_align_corners": scaled(1, 1, 0.6, 1.7, mode="linear", coordinate_transformation_mode="align_corners"),
    "linear_antialias": scaled(1, 1, 0.4, 0.6, mode="linear", antialias=1),
    "linear_antialias_growing": scaled(1, 1, 2.5, 1.2, mode="linear", antialias=1),
    "linear_antialias_without_the_outside": scaled(1, 1, 0.4, 0.6, mode="linear", antialias=1, exclude_outside=1),
    "cubic_antialias": scaled(1, 1, 0.4, 0.6, mode="cubic", antialias=1),
    "cubic_antialias_to_one_pixel": sized(2, 3, 1, 1, mode="cubic", antialias=1),
    "nearest_volume": scaled(1, 1, 2, 0.5, 3, x=(1, 2, 3, 4, 3), mode="nearest", coordinate_transformation_mode="asymmetric"),
    "nearest_of_channels": scaled(1, 2, 1, 2, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "axes": scaled(2, 1.5, axes=[3, 1], mode="cubic"),
    "axes_and_sizes": sized(9, 4, axes=[3, 2], mode="linear"),
    "not_larger": sized(9, 13, axes=[2, 3], mode="linear", keep_aspect_ratio_policy="not_larger"),
    "not_smaller": sized(9, 13, axes=[3, 2], mode="cubic", keep_aspect_ratio_policy="not_smaller"),
    **{f"crop_{mode}": cropped(WHOLE, 2, 3, 4, 9, mode=mode) for mode in ("nearest", "linear", "cubic")},
    **{
        f"crop_beyond_{mode}": cropped(BEYOND, 2, 3, 4, 9, mode=mode, extrapolation_value=7.5)
        for mode in ("nearest", "linear", "cubic")
    },
    "crop_to_one_pixel": cropped(WHOLE, 2, 3, 1, 1, mode="linear"),
}  # fmt: skip


def expected_of(model: graph.Model, feeds: dict[str, Any]) -> Any:
    return ReferenceEvaluator(graph.to_proto(model)).run(None, feeds)[0]


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_of_the_reference(name: str) -> None:
    model = CASES[name]()
    feeds = feeds_for(model)
    _, got = run_everywhere(model, feeds)
    # places in float32, at most 20 from the origin: 2e-6 of a pixel of size 4, three axes, weights up to 2
    np.testing.assert_allclose(got["y"], expected_of(model, feeds), rtol=3e-5, atol=3e-5)


def test_a_crop_reads_nothing_where_it_fills() -> None:
    """An infinity under a tap of weight 0 leaves the fill and the neighbours finite."""
    model = CASES["crop_beyond_linear"]()
    x = np.full(IMAGE, 2.0, f32)
    x[:, :, 0, 0] = np.inf
    _, got = run_everywhere(model, {"x": x})
    assert not np.isnan(got["y"]).any()
    assert (got["y"][:, :, 0] == 7.5).all()


def test_a_picture_of_whole_places_costs_no_step() -> None:
    model = build(
        [node("Resize", ["x", "", "scales"], "r", mode="cubic"), node("Relu", ["r"])],
        {"scales": np.array([1, 1, 1, 1], f32)}, {"x": IMAGE},
    )  # fmt: skip
    assert Op.INTERPOLATE not in ops_of(pack.compile(model))


def test_taps_sum_to_one_and_keep_a_constant() -> None:
    for along, kernel in [
        (Along(9, 4, 4 / 9), Kernel(True, antialias=True)),
        (Along(5, 13, 2.6), Kernel(True, exclude_outside=True)),
    ]:
        _, weight = taps(coordinates("half_pixel", along), along, kernel)
        np.testing.assert_allclose(weight.sum(1), 1, rtol=1e-6)


def test_cubic_of_a_dynamic_picture() -> None:
    made = onnx.helper.make_graph(
        [node("Resize", ["x", "", "scales"], mode="cubic"), node("Relu", ["y"], "z")], "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 4, "w"])], [onnx.helper.make_tensor_value_info("z", 1, None)],
        [onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], f32), "scales")],
    )  # fmt: skip
    data = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=8).SerializeToString()
    session = Session(ez.compile(data, dims={"w": (2, 40)}))
    for width in (2, 3, 11, 40):
        x = np.random.default_rng(width).standard_normal((1, 3, 4, width)).astype(f32)
        alone = Session(pack.compile(load(data, shapes={"x": x.shape}))).run({"x": x})["z"]
        np.testing.assert_array_equal(session.run({"x": x})["z"], alone)


HOSTILE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "an axis twice": ({"sizes": ints(4, 4)}, {"axes": [2, -2]}, "more than once"),
    "an axis beyond the rank": ({"sizes": ints(4, 4)}, {"axes": [2, 4]}, "axes|range"),
    "too few sizes": ({"sizes": ints(4, 4, 4)}, {}, "sizes"),
    "a coefficient that is none": ({"sizes": ints(2, 3, 4, 4)}, {"cubic_coeff_a": math.nan}, "cubic_coeff_a"),
    "a region without end": (
        {"roi": np.full(8, np.inf, f32), "sizes": ints(2, 3, 4, 4)}, CROP, "roi"
    ),
    "half a region": (
        {"roi": np.zeros(3, f32), "sizes": ints(2, 3, 4, 4)}, CROP, "roi"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_numbers_are_refused_by_name(case: str) -> None:
    constants, attrs, says = HOSTILE[case]
    with pytest.raises(InvalidModelError, match=says):
        build([node("Resize", ["x", "roi" if "roi" in constants else "", "", "sizes"], **attrs)], constants, {"x": IMAGE})


def test_regions_of_run_time_are_refused() -> None:
    resize = node("Resize", ["x", "r", "", "sizes"], mode="linear", **CROP)
    model = build([resize], {"sizes": ints(2, 3, 4, 4)}, {"x": IMAGE, "r": (8,)})
    with pytest.raises(UnsupportedModelError, match="regions that are computed at run time"):
        pack.compile(model)
