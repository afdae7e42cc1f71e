"""Thresholds and levels of series: what rustc-perf's rule gives, and what is news to a series and what is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tuner.nightly import statistics
from tuner.nightly.statistics import COLD, LEAST, Level, confirms, suspicion, threshold


def noisy(count: int, scale: float, seed: int = 0) -> list[float]:
    return [float(value) for value in scale * np.random.default_rng(seed).standard_normal(count)]


def test_the_threshold_is_that_of_rustc_perf() -> None:
    changes = np.array([0.01, -0.02, 0.03, -0.04, 0.05, -0.06, 0.07, -0.08])
    first, third = np.quantile(np.abs(changes), [0.25, 0.75])
    assert threshold(changes) == pytest.approx(third + 3 * (third - first))


def test_a_young_series_has_a_threshold_of_its_own_and_a_still_one_half_a_per_cent() -> None:
    assert threshold(np.zeros(7)) == COLD
    assert threshold(np.zeros(7), cold=0.1) == 0.1
    assert threshold(np.zeros(30)) == LEAST


def test_what_a_series_did_three_times_is_no_news() -> None:
    quiet = np.full(60, 0.001)
    quiet[[5, 6]] = 0.2  # one night elsewhere: there and back
    assert threshold(quiet) == LEAST
    quiet[20] = 0.2
    assert threshold(quiet) == 0.2


def test_many_series_at_once_give_what_each_gives() -> None:
    many = np.array([noisy(60, scale, seed) for seed, scale in enumerate((0.001, 0.01, 0.1))])
    assert threshold(np.diff(many)) == pytest.approx([float(threshold(np.diff(one))) for one in many])
    assert statistics.level(many) == pytest.approx([np.median(one[-30:]) for one in many])


def test_a_jump_is_suspect_in_its_first_night() -> None:
    told = suspicion(noisy(40, 0.002), 0.05)
    assert told.suspect and not told.by_step
    assert told.change == pytest.approx(0.05, abs=0.002)
    assert not suspicion(noisy(40, 0.002), 0.003).suspect


@pytest.mark.parametrize("sign", [1, -1])
def test_a_small_step_is_suspect_when_three_nights_show_it(sign: int) -> None:
    pytest.importorskip("ruptures")
    values = noisy(60, 0.006)
    step = sign * 0.018
    assert not suspicion(values, step).suspect  # one night may stand so far
    told = suspicion([*values, step, step + 0.001], step)
    assert told.suspect and told.by_step and "a change point" in told.sentence
    assert told.change == pytest.approx(step, abs=0.004)


def test_without_the_package_for_change_points_three_nights_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruptures", None)
    statistics._ruptures.cache_clear()  # noqa: SLF001
    try:
        told = suspicion([*noisy(60, 0.006), 0.018, 0.019], 0.018)
        assert told.suspect and "not installed" in told.sentence
    finally:
        statistics._ruptures.cache_clear()  # noqa: SLF001


def test_a_noisy_series_says_so() -> None:
    assert suspicion(noisy(40, 0.03), 0.0).too_noisy
    assert not suspicion(noisy(40, 0.003), 0.0).too_noisy


@pytest.mark.parametrize(
    ("first", "second", "agrees"), [(0.05, 0.03, True), (0.05, 0.02, False), (0.05, -0.05, False), (-0.05, -0.04, True)]
)
def test_a_second_run_agrees_on_the_same_side_by_half(first: float, second: float, agrees: bool) -> None:
    assert bool(confirms(0.05, first, second)) is agrees


def test_a_regression_never_becomes_the_level() -> None:
    level = Level([0.0, 0.001])
    for _ in range(10):
        level.add(0.1, 0.1)
    assert (level.values, level.changes) == ([0.0, 0.001], [])


def test_one_that_goes_away_by_itself_was_noise() -> None:
    level = Level([0.0])
    level.add(0.1, 0.1)
    level.add(0.0)
    assert level.values == [0.0, 0.0]
    assert level.changes == pytest.approx([0.1, -0.1, 0.0])


def test_an_improvement_becomes_the_level_when_it_has_held_for_three_nights() -> None:
    level = Level([0.0, 0.0])
    for _ in range(2):
        level.add(-0.1, -0.1)
    assert level.values == [0.0, 0.0]
    level.add(-0.11, -0.11)
    assert level.values == [-0.1, -0.1, -0.11]
    level.add(0.0, 0.1)  # and back is a regression
    assert level.values == [-0.1, -0.1, -0.11]


def test_better_then_worse_is_no_improvement_that_held() -> None:
    level = Level([0.0])
    for change in (-0.1, 0.1, -0.1, 0.1):
        level.add(change, change)
    assert level.values == [0.0]


def test_a_young_series_says_that_its_noise_is_not_known() -> None:
    told = suspicion([0.0, 0.001], 0.002, cold=0.1)
    assert told.young and not told.too_noisy and told.threshold == 0.1
    assert not suspicion(noisy(40, 0.003), 0.0).young
