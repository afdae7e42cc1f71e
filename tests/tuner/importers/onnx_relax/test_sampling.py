"""Deformable convolutions and RoiAlign against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.onnx_relax.running import Value, check

RNG = np.random.default_rng(9)


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


DEFORMED: list[tuple[bool, bool, dict[str, Any]]] = [
    (False, False, {}),
    (True, True, {"pads": [1, 0, 1, 2], "strides": [2, 1], "dilations": [1, 2]}),
    (True, True, {"offset_group": 2, "group": 2, "pads": [1, 1, 1, 1]}),
]


@pytest.mark.parametrize(("bias", "masked", "attributes"), DEFORMED)
def test_deformed_convolutions(bias: bool, masked: bool, attributes: dict[str, Any]) -> None:
    pads, strides = attributes.get("pads", [0] * 4), attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    extents = [
        (extent + pads[axis] + pads[axis + 2] - dilations[axis] * (width - 1) - 1) // strides[axis] + 1
        for axis, (extent, width) in enumerate(((6, 3), (7, 2)))
    ]
    groups = attributes.get("offset_group", 1)
    offsets = 2 * values(2, groups * 12, *extents)  # some of them beyond the image
    mask = values(2, groups * 6, *extents) if masked else None
    weights = values(6, 4 // attributes.get("group", 1), 3, 2)
    given = [values(2, 4, 6, 7), weights, offsets, values(6) if bias else None, mask]
    check("DeformConv", given, (1,), opset=19, atol=1e-4, **attributes)


@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
def test_the_largest_of_a_region(transform: str) -> None:
    regions = np.array([[0, 0, 5, 6], [1.5, 2, 4, 9], [3, 3, 3.2, 3.1]], np.float32)
    check(
        "RoiAlign", [values(2, 2, 8, 9), regions, np.array([0, 1, 0])], opset=16, mode="max", sampling_ratio=2,
        output_height=3, output_width=2, spatial_scale=0.8, coordinate_transformation_mode=transform,
    )  # fmt: skip
