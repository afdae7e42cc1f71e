"""The score of a search on a recorded space."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests.tuner.simulate.test_recording import SPACE
from tuner.simulate.recording import SpaceRecording, read
from tuner.simulate.score import Played, Result, evaluations_to, random_curve, score


def toy(seconds: list[float], device: str = "d", values: tuple[int, ...] = (1, 2, 4, 8)) -> SpaceRecording:
    choices = np.arange(len(seconds), dtype=np.int16)[:, None]
    return SpaceRecording("toy", "k", device, ("a",), (values,), choices, np.array(seconds))


def test_the_expectation_of_random_search_is_exact() -> None:
    recording = toy([1.0, 2.0, 4.0, math.nan])
    ratio = [1.0, 0.5, 0.25, 0.0]
    for n in range(1, 5):
        drawn = [max(ratio[i] for i in some) for some in itertools.combinations(range(4), n)]
        assert random_curve(recording, 4)[n - 1] == pytest.approx(sum(drawn) / len(drawn))


def test_score_is_one_at_the_optimum_and_none_for_what_random_search_does() -> None:
    recording = read(SPACE)
    optimum = Played(np.array([recording.best_s]), 0.0)
    assert score(recording, [optimum], 100) == pytest.approx(1.0)
    lucky = random_curve(recording, 100)
    expected = Played(recording.best_s / lucky, 0.0)
    assert score(recording, [expected], 100) == pytest.approx(0.0, abs=1e-9)
    nothing = Played(np.full(100, np.nan), 0.0)
    assert score(recording, [nothing], 100) < -1


def test_a_failure_costs_an_evaluation() -> None:
    recording = toy([1.0, 2.0, 4.0, math.nan])
    run = Played(np.array([math.nan, 0.004, 0.001]), 0.0)
    assert run.best_so_far(4).tolist() == [math.inf, 0.004, 0.001, 0.001]
    assert evaluations_to(toy([0.001, 0.002, 0.004, math.nan]), run, 0.02, 4) == 3
    assert evaluations_to(recording, Played(np.array([2.0]), 0.0), 0.02, 4) is None


def test_a_result_is_the_mean_over_its_runs() -> None:
    recording = toy([0.001, 0.002, 0.004, math.nan])
    fast, slow = Played(np.array([0.001]), 0.5), Played(np.array([0.004, 0.002, math.nan]), 1.5)
    result = Result(recording, "random", 4, (fast, slow))
    assert result.slowdown(1) == pytest.approx(2.5)
    assert result.slowdown(4) == pytest.approx(1.5)
    assert result.own_s == pytest.approx(0.5), "four evaluations took two seconds"
    each = [score(recording, [run], 4) for run in (fast, slow)]
    assert result.score == pytest.approx(sum(each) / 2)
    assert result.error == pytest.approx(abs(each[0] - each[1]) / 2)
    assert math.isnan(Result(recording, "random", 4, (fast,)).error)
