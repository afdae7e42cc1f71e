"""Deadlines that are learned: never over the configured limit, never short for a task whose work is long."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.process.deadlines import FACTOR, LEAST_KNOWN, NEWEST, Durations, quantile, run_limit

seconds = st.floats(1e-4, 1e3)


def test_until_enough_is_known_the_configured_limit_holds() -> None:
    durations = Durations(least_s=1.0)
    for _ in range(LEAST_KNOWN - 1):
        durations.add("task", 0.1)
    assert durations.limit("task", 30.0) == 30.0
    durations.add("task", 0.1)
    assert durations.limit("task", 30.0) == 1.0
    assert durations.limit("another", 30.0) == 30.0


@given(st.lists(seconds, min_size=LEAST_KNOWN, max_size=NEWEST), seconds)
def test_nine_in_ten_would_have_had_four_times_their_time(known: list[float], most_s: float) -> None:
    durations = Durations(least_s=0.5)
    for one in known:
        durations.add("task", one)
    limit = durations.limit("task", most_s)
    assert limit <= most_s
    assert limit == most_s or limit >= 0.5
    if limit < most_s:
        assert sum(FACTOR * one <= limit + 1e-9 for one in known) >= 0.9 * len(known)


def test_a_task_whose_work_grows_longer_gets_its_time_back() -> None:
    """One in three builds now takes 20 s: stopped ones count, so the limit climbs until they pass."""
    durations = Durations(least_s=1.0)
    for _ in range(20):
        durations.add("task", 0.2)
    finished = 0
    for trial in range(100):
        limit, needed = durations.limit("task", 30.0), 20.0 if trial % 3 == 0 else 0.2
        durations.add("task", min(needed, limit))
        finished += needed == 20.0 and limit >= needed
    assert finished >= 15


@given(st.lists(seconds, min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_the_quantile_is_numpys_inverted_distribution(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"))


def test_a_run_is_waited_for_as_long_as_the_best_makes_sensible() -> None:
    assert run_limit(setup_s=20, sampling_s=1, give_up_above_s=None, most_s=20) == 21
    assert run_limit(setup_s=3, sampling_s=1, give_up_above_s=1e-3, most_s=20) == pytest.approx(4.08)
    assert run_limit(setup_s=3, sampling_s=1, give_up_above_s=2.0, most_s=20) == 21
    assert run_limit(setup_s=20, sampling_s=1, give_up_above_s=1e-3, most_s=20) == 21
