"""Measurements of several processes pooled into one: which samples pair up, which kernel wins, which tie."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.measure.pooled import (
    aa_noise_floor,
    compare_measurements,
    fastest,
    paired_samples,
    pool_processes,
    tied,
    with_noise_floor,
)
from tuner.measure.stats import StopRule
from tuner.protocols import AaControl
from tuner.records import Conditions, Fidelity, Label, Measurement, Status


def one(samples: list[float], rounds: list[int] | None = None, **changes: Any) -> Measurement:
    conditions = Conditions(rounds=() if rounds is None else (tuple(rounds),), details=changes)
    return Measurement(Status.OK, tuple(samples), Fidelity.CERTIFY, StopRule.HALF_WIDTH, conditions=conditions)


def certified(scale: float, seed: int, floor: float = 0.002, name: str = "x", noise: float = 0.002) -> Measurement:
    """Three processes of 20 rounds; drift that all share comes from the round."""
    drift = np.exp(np.random.default_rng(99).normal(0, 0.05, (3, 20)))
    samples = scale * drift * np.exp(np.random.default_rng(seed).normal(0, noise, (3, 20)))
    return with_noise_floor(pool_processes([one(s.tolist(), list(range(20))) for s in samples], name), floor)


def test_samples_are_kept_with_their_places() -> None:
    pooled = pool_processes([one([1.0, 2.0], [0, 2], samples_dropped=1), one([3.0], [1], samples_dropped=2)], "here")
    assert pooled.samples_s == (1.0, 2.0, 3.0)
    assert pooled.conditions.rounds == ((0, 2), (1,))
    assert (pooled.conditions.details["processes"], pooled.conditions.details["samples_dropped"]) == (2, 3)


def test_of_several_stop_rules_the_weakest_is_stored() -> None:
    limit = Measurement(Status.OK, (1.0,), Fidelity.CERTIFY, StopRule.TIME_LIMIT)
    assert pool_processes([one([1.0]), limit], "x").stopped_by is StopRule.TIME_LIMIT


def test_what_fails_in_one_process_has_failed() -> None:
    wrong = Measurement(Status.WRONG_RESULT, fidelity=Fidelity.CERTIFY, reason="after timing: 3 elements")
    assert pool_processes([one([1.0]), wrong, one([1.0])], "x").status is Status.WRONG_RESULT
    with pytest.raises(ValueError, match="nothing"):
        pool_processes([], "x")


def test_only_common_rounds_pair_up() -> None:
    a = pool_processes([one([1.0, 2.0, 3.0], [0, 1, 2]), one([4.0], [0])], "x")
    b = pool_processes([one([10.0, 30.0], [0, 2]), one([40.0], [0])], "x")
    assert paired_samples(a, b) == ([1.0, 3.0, 4.0], [10.0, 30.0, 40.0], [0, 0, 1])
    assert paired_samples(a, pool_processes([one([10.0], [0])], "another session")) == ([], [], [])


def test_samples_taken_alone_pair_with_nothing() -> None:
    a = pool_processes([one([1.0, 1.0]), one([2.0], [0])], "x")
    b = pool_processes([one([5.0, 5.0]), one([6.0], [0])], "x")
    assert paired_samples(a, b) == ([2.0], [6.0], [1])


def test_pairs_see_through_a_drift_that_intervals_do_not() -> None:
    a, b = certified(1.00, 1), certified(1.02, 2)
    assert compare_measurements(a, b).label is Label.FASTER
    assert compare_measurements(a, certified(1.02, 2, name="another session")).label is Label.UNDECIDED


def test_without_a_floor_nothing_is_taken_for_the_same() -> None:
    a, b = (with_noise_floor(certified(1.0, seed), math.inf) for seed in (1, 2))
    assert a.conditions.aa_floor is None
    assert compare_measurements(a, b).label is Label.UNDECIDED


def test_the_floor_is_the_incumbent_against_itself_by_round() -> None:
    processes = [one([1.0] * 10, list(range(10)))] * 3
    same = AaControl(tuple(range(10)), (1.01,) * 10)
    assert aa_noise_floor(processes, [same] * 3) == pytest.approx(math.log(1.01) / 2)
    assert aa_noise_floor(processes, [None] * 3) == math.inf
    assert aa_noise_floor(processes, [AaControl((100,), (9.0,))] * 3) == math.inf


def test_the_search_s_choice_stands_among_equals() -> None:
    measured = [certified(1.0, 1), certified(0.999, 2), certified(1.1, 3)]
    assert fastest(measured) == 0
    assert tied(measured, 0) == [1]


def test_a_plainly_faster_one_takes_its_place() -> None:
    assert fastest([certified(1.0, 1), certified(0.9, 2), certified(0.95, 3)]) == 1


@pytest.mark.parametrize("status", [Status.SUSPECT, Status.WRONG_RESULT, Status.RUN_FAILED])
def test_one_that_failed_gives_way_to_the_next(status: Status) -> None:
    measured = [Measurement(status, fidelity=Fidelity.CERTIFY, reason="no"), certified(1.2, 1), certified(1.2, 2)]
    assert fastest(measured) == 1
    assert tied(measured, 1) == [2]
    assert fastest(measured[:1]) is None


def test_a_stored_certification_says_the_same() -> None:
    a, b = certified(1.0, 1), certified(1.004, 2)
    restored = [Measurement.from_json(json.loads(json.dumps(m.to_json()))) for m in (a, b)]
    assert restored == [a, b]
    assert compare_measurements(*restored) == compare_measurements(a, b)


@given(st.lists(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=5), min_size=1, max_size=4))
def test_pooling_keeps_every_sample(processes: list[list[float]]) -> None:
    pooled = pool_processes([one(samples, list(range(len(samples)))) for samples in processes], "x")
    assert sorted(pooled.samples_s) == sorted(s for samples in processes for s in samples)
    a, b, groups = paired_samples(pooled, pooled)
    assert a == b == list(pooled.samples_s)
    assert [groups.count(i) for i in range(len(processes))] == [len(s) for s in processes]
