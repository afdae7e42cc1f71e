"""Sampled values and signed sums tell a right output from a wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.bundle.expected import (
    SAMPLES,
    SEGMENT,
    Expected,
    OutputChecker,
    expect,
    from_bytes,
    positions,
    to_bytes,
)

RTOL, ATOL = 1e-5, 1e-5


def judge(right: np.ndarray, rtol: float = RTOL, atol: float = ATOL) -> OutputChecker:
    values, sums = to_bytes(expect(right, rtol, atol))
    return OutputChecker(from_bytes(values, sums, rtol, atol), right.size)


@pytest.fixture
def large() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((64, 3, 331), dtype=np.float32)


def test_rounding_within_the_tolerance_is_right(large: np.ndarray) -> None:
    noise = np.random.default_rng(1).uniform(-ATOL, ATOL, large.shape)
    right, worst, relative, reason = judge(large).check(large + noise)
    assert (right, reason) == (True, "")
    assert 0 < worst < 2 * ATOL
    assert 0 < relative < 2 * ATOL


def test_errors_that_all_point_one_way_are_still_within_the_sums_tolerance(large: np.ndarray) -> None:
    assert judge(large).check(large + ATOL * (1 - 1e-3))[0]


@pytest.mark.parametrize("at", [0, 63_551, 12_345])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.1])
def test_one_wrong_element_of_a_large_output_is_found(large: np.ndarray, at: int, value: float) -> None:
    wrong = large.copy()
    wrong.flat[at] += value
    right, _, _, reason = judge(large).check(wrong)
    assert not right
    assert "wrong, first" in reason


def test_what_was_never_written_is_found(large: np.ndarray) -> None:
    wrong = large.copy()
    wrong.flat[-200:] = np.nan
    assert not judge(large).check(wrong)[0]


def test_two_elements_that_changed_places_are_found(large: np.ndarray) -> None:
    inside, outside = np.setdiff1d(np.arange(large.size), positions(large.size))[[7, 8000]]
    wrong = large.copy()
    wrong.flat[[inside, outside]] = large.flat[[outside, inside]]
    assert not judge(large).check(wrong)[0]


def test_a_small_output_is_kept_whole_and_every_element_counts() -> None:
    right = np.random.default_rng(0).standard_normal(SAMPLES)
    assert expect(right, RTOL, ATOL).sums is None
    for at in (0, 1, SAMPLES - 1):
        wrong = right.copy()
        wrong[at] += 3 * ATOL + 2 * RTOL * abs(right[at])
        assert not judge(right).check(wrong)[0]


def test_infinity_and_nan_are_right_where_they_are_expected(large: np.ndarray) -> None:
    expected = large.copy()
    expected.flat[:5000] = np.where(np.arange(5000) % 2, -np.inf, np.nan)
    assert judge(expected).check(expected.copy())[0]
    wrong = expected.copy()
    wrong.flat[int(positions(large.size)[0])] = 0.0
    assert not judge(expected).check(wrong)[0]


def test_integers_must_be_equal() -> None:
    right = np.arange(100_000, dtype=np.int32).reshape(10, -1)
    assert judge(right, 0.0, 0.0).check(right.copy())[0]
    wrong = right.copy()
    wrong[3, 77] += 1
    assert not judge(right, 0.0, 0.0).check(wrong)[0]


def test_an_expectation_of_another_size_is_refused(large: np.ndarray) -> None:
    expected = expect(large, RTOL, ATOL)
    with pytest.raises(ValueError, match="an output of"):
        OutputChecker(expected, large.size + SEGMENT)
    with pytest.raises(ValueError, match="an output of"):
        OutputChecker(Expected(expected.values, None, RTOL, ATOL), large.size)


@pytest.mark.parametrize("size", [1, SAMPLES, SAMPLES + 1, 1_000_003, 802_816])
def test_positions_are_distinct_and_leave_no_wide_gap(size: int) -> None:
    found = np.sort(positions(size))
    assert len(np.unique(found)) == min(size, SAMPLES)
    assert found[0] >= 0
    assert found[-1] < size
    if size > SAMPLES:
        assert np.diff(found).max() <= 4 * size / SAMPLES
