"""Operators on whole tensors, Slice, and reductions of infinities, against ONNX Runtime or numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tuner.importers.onnx_relax.running import Value, by_converter, check, one_node

RNG = np.random.default_rng(6)


def values(*shape: int) -> Value:
    return RNG.standard_normal(shape).astype(np.float32)


def test_determinants_also_of_matrices_that_have_none() -> None:
    given = values(3, 5, 5)
    given[1, 0] = 0.0  # the first pivot is another row's
    given[1, 0, 1] = 2.0
    given[2, 4] = given[2, 3]
    check("Det", [given], rtol=1e-4, atol=1e-5)
    check("Det", [values(1, 1)])


@pytest.mark.parametrize("opset", [9, 18])
def test_mean_variance_normalization(opset: int) -> None:
    check("MeanVarianceNormalization", [values(2, 3, 4, 2)], opset=opset, atol=1e-4)
    check("MeanVarianceNormalization", [values(2, 3, 4, 2)], opset=opset, atol=1e-4, axes=[1, 3])


def test_the_largest_of_unsigned_numbers() -> None:
    given = np.array([[3, 2**64 - 1, 2**63, 5], [0, 1, 2**63 - 1, 2**63 + 1]], np.uint64)
    for largest in (0, 1):
        model, feeds = one_node("TopK", [given, np.array([2])], (1,), 2, largest=largest)
        numbers, places = by_converter(model, feeds)
        order = np.argsort(given, axis=1)
        expected = order[:, ::-1][:, :2] if largest else order[:, :2]
        np.testing.assert_array_equal(places, expected)
        np.testing.assert_array_equal(numbers, np.take_along_axis(given, expected, 1))


def test_reshaping_to_no_elements() -> None:
    check("Reshape", [values(0, 3, 4), np.array([3, 4, 0])], (1,), allowzero=1)


@pytest.mark.parametrize("stored", [(), (1,)])
@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_sequences_turned_round(axes: tuple[int, int], stored: tuple[int, ...]) -> None:
    time, batch = axes
    given = values(5, 3, 2) if time == 0 else values(3, 5, 2)
    lengths = np.array([5, 1, 3])
    check("ReverseSequence", [given, lengths], stored, opset=10, time_axis=time, batch_axis=batch)


SLICES: list[tuple[list[int], ...]] = [
    ([1, -3], [1000, -1], [0, 2], [2, 1]),
    ([-1, 5], [-1000, 0], [0, 2], [-1, -2]),
    ([4], [2], [1], [1]),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES)
def test_slices(starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> None:
    check("Slice", [values(4, 5, 6), *map(np.array, (starts, ends, axes, steps))], (1, 2, 3, 4))


def test_slices_whose_bounds_are_attributes() -> None:
    check("Slice", [values(4, 5)], opset=9, starts=[1, 2], ends=[-1, 9])
    check("Slice", [values(4, 5)], opset=1, starts=[1], ends=[9], axes=[1])


@pytest.mark.parametrize(("operator", "infinity"), [("ReduceMax", -np.inf), ("ReduceMin", np.inf)])
def test_extremes_of_infinities(operator: str, infinity: float) -> None:
    given = values(2, 3, 4)
    given[1] = infinity
    lowest: Any = np.finfo(np.float32).min if infinity < 0 else np.finfo(np.float32).max
    given[0, 1] = lowest  # a number, no infinity
    for keep in (0, 1):
        check(operator, [given], opset=13, axes=[2], keepdims=keep)
        check(operator, [given], opset=13, axes=[0, 2], keepdims=keep)
    given[0, 1] = 0.0
    check(operator, [given.astype(np.float16)], opset=13, axes=[1])
