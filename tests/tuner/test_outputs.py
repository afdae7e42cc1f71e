"""The comparison of a whole model's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.outputs import check_outputs


def tensor(*values: float) -> list[Any]:
    return [np.array(values, dtype=np.float32)]


def test_equal_outputs_pass_with_no_error() -> None:
    check = check_outputs(tensor(1, -2, 3), tensor(1, -2, 3), 0.0, 0.0)
    assert (check.ok, check.max_abs_error, check.max_rel_error, check.reason) == (True, 0.0, 0.0, "")


def test_errors_are_given_absolutely_and_against_the_scale() -> None:
    check = check_outputs(tensor(0.5, 100), tensor(0, 100), rtol=0.0, atol=0.01)
    assert check.ok  # 0.5 is half a per cent of the scale
    assert check.max_abs_error == 0.5
    assert check.max_rel_error == 0.005


def test_one_element_beyond_the_tolerance_fails_and_is_counted() -> None:
    check = check_outputs(tensor(0, 3, 100), tensor(0, 0, 100), rtol=0.0, atol=0.01)
    assert not check.ok
    assert "1 of 3" in check.reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_fails_where_a_number_is_expected(bad: float) -> None:
    check = check_outputs(tensor(1, bad), tensor(1, 1), rtol=1.0, atol=1e9)
    assert not check.ok
    assert check.max_abs_error == 0.0


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_passes_where_the_same_is_expected(odd: float) -> None:
    assert check_outputs(tensor(1, odd), tensor(1, odd), 0.0, 0.0).ok
    assert not check_outputs(tensor(1, 5), tensor(1, odd), 1.0, 1e9).ok


def test_an_infinity_of_the_other_sign_fails() -> None:
    assert not check_outputs(tensor(np.inf), tensor(-np.inf), 1.0, 1e9).ok


def test_other_shapes_and_numbers_of_outputs_fail() -> None:
    assert "shape" in check_outputs([np.zeros((2, 3))], [np.zeros((3, 2))], 1.0, 1.0).reason
    assert "1 outputs instead of 2" in check_outputs([np.zeros(1)], [np.zeros(1)] * 2, 1.0, 1.0).reason


def test_empty_and_integer_outputs_are_compared() -> None:
    assert check_outputs([np.zeros((0, 3))], [np.zeros((0, 3))], 0.0, 0.0).ok
    assert check_outputs([np.array([1, 2])], [np.array([1, 2])], 0.0, 0.0).ok
    assert not check_outputs([np.array([True])], [np.array([False])], 0.0, 1e-3).ok


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20), st.integers(-20, 20), st.integers(0, 2**31))
def test_scaling_both_tensors_by_a_power_of_two_changes_nothing(values: list[float], power: int, seed: int) -> None:
    want = np.array(values)
    if not want.any():
        return
    want = np.where(np.abs(want) < 1e-3, 0.0, want)
    if not want.any():
        return
    got = want + np.random.default_rng(seed).normal(scale=1e-3 * np.abs(want).max(), size=want.shape)
    factor = 2.0**power
    plain = check_outputs([got], [want], 1e-3, 1e-3)
    scaled = check_outputs([got * factor], [want * factor], 1e-3, 1e-3)
    assert plain.ok == scaled.ok
    assert plain.max_rel_error == scaled.max_rel_error
