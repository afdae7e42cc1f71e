"""Pooling, transposed convolutions, padding and resizing against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.onnx_relax.running import Value, by_converter, check, one_node

RNG = np.random.default_rng(1)


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> Value:
    return np.array(numbers, np.int64)


POOLS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("AveragePool", (1, 2, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", (1, 2, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1,
                                   "count_include_pad": 1}),
    ("AveragePool", (1, 2, 9, 9), {"kernel_shape": [3, 3], "dilations": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", (1, 2, 9), {"kernel_shape": [2], "strides": [2], "auto_pad": "SAME_LOWER"}),
    ("MaxPool", (1, 2, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ("MaxPool", (1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 3], "ceil_mode": 1}),
    ("LpPool", (1, 2, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 1], "p": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "shape", "attributes"), POOLS)
def test_pools(operator: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    check(operator, [values(*shape)], opset=22 if operator == "LpPool" else 19, **attributes)


@pytest.mark.parametrize("storage_order", [0, 1])
def test_indices_of_the_largest(storage_order: int) -> None:
    image = values(2, 3, 7, 8).round(0)  # with ties
    check(
        "MaxPool", [image], (), 2, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], storage_order=storage_order
    )


def test_max_unpool() -> None:
    where = np.array([[[[5, 7], [13, 15]]]], np.int64)
    check("MaxUnpool", [values(1, 1, 2, 2), where], kernel_shape=[2, 2], strides=[2, 2])


def test_max_unpool_into_more_than_the_windows_cover() -> None:
    """The indices are those of the smaller output, as the standard has it."""
    best, where = np.array([[[[1, 2], [3, 4]]]], np.float32), np.array([[[[5, 7], [13, 15]]]], np.int64)
    model, feeds = one_node("MaxUnpool", [best, where, ints(1, 1, 5, 5)], (2,), kernel_shape=[2, 2], strides=[2, 2])
    right = np.zeros((1, 1, 5, 5), np.float32)
    right[0, 0, [1, 1, 3, 3], [1, 3, 1, 3]] = [1, 2, 3, 4]
    np.testing.assert_array_equal(by_converter(model, feeds)[0], right)


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "output_shape": [11, 13]}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [3, 2], "output_shape": [14, 12], "auto_pad": "SAME_UPPER"}),
    ((1, 4, 5, 6), (4, 3, 3, 2), {"strides": [2, 3], "auto_pad": "SAME_LOWER"}),
    ((1, 4, 5, 6), (4, 3, 3, 3), {"dilations": [2, 3], "pads": [1, 2, 0, 1]}),
    ((1, 4, 5, 6), (4, 2, 3, 3), {"group": 2, "strides": [2, 2], "output_padding": [1, 1], "pads": [1, 1, 1, 1]}),
    ((1, 4, 7), (4, 2, 4), {"strides": [2], "pads": [3, 3]}),
    ((1, 2, 3, 4, 3), (2, 2, 3, 3, 2), {"strides": [2, 1, 2]}),
]


@pytest.mark.parametrize(("shape", "kernel", "attributes"), TRANSPOSED)
def test_transposed_convolutions(shape: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]) -> None:
    bias = values(kernel[1] * attributes.get("group", 1))
    check("ConvTranspose", [values(*shape), values(*kernel), bias], (1, 2), atol=1e-4, **attributes)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_padding(mode: str) -> None:
    check("Pad", [values(3, 5, 6), ints(0, 2, -1, 0, 3, 4)], (1,), opset=19, mode=mode)


def test_padding_with_a_computed_value_along_given_axes() -> None:
    check("Pad", [np.arange(6).reshape(2, 3), ints(1, 2), np.array(7), ints(-1)], (1, 3), opset=18)


RESIZES: list[tuple[tuple[int, ...], dict[str, Any], dict[str, Any]]] = [
    ((5, 7), {"scales": [1.7, 0.6]}, {"mode": "nearest"}),
    ((5, 7), {"scales": [1.7, 0.6]},
     {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"}),
    ((6, 4), {"scales": [2.0, 3.0]},
     {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}),
    ((5, 7), {"scales": [1.7, 0.6]}, {"mode": "linear"}),
    ((5, 7), {"sizes": [8, 3]}, {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ((5, 7), {"sizes": [9, 1]}, {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ((5, 7), {"scales": [1.7, 0.6]}, {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}),
    ((5, 7), {"scales": [1.7, 2.3]}, {"mode": "cubic"}),
    ((8, 9), {"sizes": [4, 5]}, {"mode": "linear", "antialias": 1}),
    ((5, 7), {"sizes": [10, 10]}, {"mode": "nearest", "keep_aspect_ratio_policy": "not_larger"}),
]  # fmt: skip


@pytest.mark.parametrize(("extents", "given", "attributes"), RESIZES)
def test_resizing(extents: tuple[int, int], given: dict[str, list[Any]], attributes: dict[str, Any]) -> None:
    scales = np.array([1, 1, *given["scales"]], np.float32) if "scales" in given else None
    sizes = ints(1, 2, *given["sizes"]) if "sizes" in given else None
    if "keep_aspect_ratio_policy" in attributes:
        sizes, attributes = ints(*given["sizes"]), {**attributes, "axes": [2, 3]}
    inputs = [values(1, 2, *extents), None, scales, *([] if sizes is None else [sizes])]
    check("Resize", inputs, (2,) if sizes is None else (3,), opset=18, atol=1e-4, **attributes)


def test_crop_and_resize() -> None:
    roi = np.array([0, 0, 0.2, -0.1, 1, 1, 0.8, 1.2], np.float32)
    check(
        "Resize", [values(1, 1, 6, 6), roi, None, ints(1, 1, 4, 5)], (1, 3), opset=18, mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=2.5,
    )  # fmt: skip


def test_upsample() -> None:
    scales = np.array([1, 1, 2, 1.5], np.float32)
    for mode in ("nearest", "linear"):
        check("Upsample", [values(1, 2, 4, 6), scales], (1,), opset=9, mode=mode)
