"""Fourier transforms, cumulative products and columns of images against ONNX Runtime or numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.onnx_relax.running import Value, by_converter, check, one_node

RNG = np.random.default_rng(5)


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


def scalar(value: int) -> Value:
    return np.array(value, np.int64)


@pytest.mark.parametrize("attributes", [{}, {"onesided": 1}, {"inverse": 1}])
@pytest.mark.parametrize("points", [9, 12])
def test_transforms(attributes: dict[str, Any], points: int) -> None:
    check("DFT", [values(2, 10, 3, 1), scalar(points)], (1,), axis=1, atol=1e-4, **attributes)


def test_transforms_of_complex_numbers_along_the_default_axis() -> None:
    check("DFT", [values(2, 3, 11, 2)], opset=20, atol=1e-4)


@pytest.mark.parametrize("points", [9, 12])
def test_back_to_real_numbers(points: int) -> None:
    signal = RNG.standard_normal((2, points))
    half = np.fft.rfft(signal)
    parts = np.stack([half.real, half.imag], axis=-1).astype(np.float32)
    model, feeds = one_node("DFT", [parts, scalar(points)], (1,), axis=1, inverse=1, onesided=1)
    np.testing.assert_allclose(by_converter(model, feeds)[0][..., 0], signal, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
def test_windows_of_a_signal(onesided: int) -> None:
    check("STFT", [values(2, 40, 1), scalar(5), values(12)], (1, 2), atol=1e-4, onesided=onesided)


@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_cumulative_products(exclusive: int, reverse: int) -> None:
    data = values(3, 5)
    model, feeds = one_node("CumProd", [data, scalar(1)], (1,), opset=26, exclusive=exclusive, reverse=reverse)
    turned = data[:, ::-1] if reverse else data
    if exclusive:
        turned = np.concatenate([np.ones((3, 1), np.float32), turned[:, :-1]], axis=1)
    right = np.cumprod(turned, axis=1)
    np.testing.assert_allclose(by_converter(model, feeds)[0], right[:, ::-1] if reverse else right, rtol=1e-5)


def test_columns_added_up_to_an_image() -> None:
    shape, block = np.array([7, 8]), np.array([2, 3])
    check("Col2Im", [values(2, 18, 20), shape, block], (1, 2), opset=18, strides=[2, 1], pads=[1, 0, 0, 1],
          dilations=[1, 2])  # fmt: skip


def test_what_is_zero_in_a_transform_is_exactly_zero() -> None:
    """A run in float64 has zeros there; any rounding would be infinitely far off."""
    model, feeds = one_node("DFT", [values(1, 64, 1)], onesided=1)
    [made] = by_converter(model, feeds)
    assert not made[0, [0, -1], 1].any()
