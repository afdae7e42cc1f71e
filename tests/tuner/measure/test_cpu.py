"""The CPU runner, its clock, and the comparison of outputs."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.runner import RunnerContract, Toy
from tuner.measure.cpu import OVERHEAD_SHARE, CpuRunner, check_outputs, clock
from tuner.protocols import RANK, SCREEN, Policy, Runner
from tuner.records import Tier


class TestCpuRunner(RunnerContract):
    @pytest.fixture
    def runner(self) -> Runner:
        return CpuRunner()


class TestColdRunner(RunnerContract):
    @pytest.fixture
    def runner(self) -> Runner:
        return CpuRunner("cold")


def test_blocks_are_long_enough_and_the_clock_is_negligible() -> None:
    policy = Policy(Tier.SCREEN, 3, 0.02, 1.0, 0.0, block_s=0.004)
    measured = CpuRunner().run(Toy(call_s=0.0002), [], policy)
    calls = measured.conditions["calls_per_block"]
    assert calls * measured.median_s >= policy.block_s
    assert measured.conditions["clock_share"] <= OVERHEAD_SHARE


def test_a_nearly_free_call_still_gets_a_block_that_dwarfs_the_clock() -> None:
    class Free(Toy):
        def launch(self, count: int) -> None:
            for _ in itertools.repeat(None, count):
                pass

    measured = CpuRunner().run(Free(), [], Policy(Tier.SCREEN, 3, 0.0, 1.0, 0.0, block_s=1e-9))
    assert measured.conditions["clock_share"] <= 2 * OVERHEAD_SHARE  # the block grew; later ones vary a little


def test_cold_mode_times_single_calls() -> None:
    toy = Toy()
    measured = CpuRunner("cold").run(toy, [], SCREEN)
    assert set(toy.launches) == {1}
    assert measured.conditions["mode"] == "cold"


def test_conditions_say_what_happened() -> None:
    measured = CpuRunner().run(Toy(), [], RANK)
    conditions = measured.conditions
    assert 0 < conditions["cpu_s"] <= 1.2 * conditions["wall_s"] + 0.05  # one busy thread
    assert conditions["involuntary_switches"] >= conditions["samples_disturbed"] >= conditions["samples_dropped"] >= 0


def test_warm_up_is_not_sampled() -> None:
    began = time.perf_counter()
    policy = Policy(Tier.SCREEN, 1, 0.0, 1.0, 0.0, warmup_s=0.1)
    measured = CpuRunner().run(Toy(), [], policy)
    assert time.perf_counter() - began >= 0.1
    assert sum(measured.samples_s) * measured.conditions["calls_per_block"] < 0.1


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="lukewarm"):
        CpuRunner("lukewarm")


def test_the_clock_is_calibrated_once_and_sane() -> None:
    assert clock() is clock()
    assert 0 < clock().resolution_s <= 1e-3
    assert 0 <= clock().empty_s < 1e-3


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
def test_scaling_both_sides_by_a_power_of_two_changes_nothing(values: list[float], power: int, seed: int) -> None:
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
