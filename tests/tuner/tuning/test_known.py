"""What earlier runs leave of a budget, and what a session is told at once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kernels.space import Candidate, DesignSpace, Sketch
from tuner.config import SearchConfig
from tuner.records import Fidelity, Measurement, Record, Status
from tuner.tuning.known import KnownTask, left

ONE_POINT = DesignSpace("llvm", (Sketch(0, "[]", ()),), ())


def record(
    run: str, cost_s: float = 1.0, fidelity: Fidelity = Fidelity.SCREEN, candidate: str = '[0,[],""]', **more: Any
) -> Record:
    measurement = Measurement(Status.OK, (1e-3,), fidelity, run_s=cost_s, conditions={"cost_s": cost_s})
    return Record(run, "key", "name", "scope", 1, candidate, "test", measurement, 0, "", **more)


def config(**stated: Any) -> SearchConfig:
    return SearchConfig(**{"trials": None, "time_budget_s": 100.0, **stated})


def test_trials_and_ranks_are_spent_and_certification_is_not() -> None:
    found = left(
        config(trials=10),
        [record("a", 20.0), record("a", 30.0, Fidelity.RANK), record("a", 40.0, Fidelity.CERTIFY)],
        ["a"],
    )
    assert (found.spent_s, found.seconds, found.trials, found.spent) == (50.0, 50.0, 9, False)


@pytest.mark.parametrize(("spent_s", "seconds"), [(0.0, 100.0), (89.0, 11.0), (91.0, 0.0), (300.0, 0.0)])
def test_a_rest_under_a_tenth_counts_as_spent(spent_s: float, seconds: float) -> None:
    found = left(config(), [record("a", spent_s)], ["a"])
    assert found.seconds == pytest.approx(seconds)
    assert found.spent == (seconds == 0.0)


def test_what_was_cut_off_is_within_the_budget_of_the_whole_search() -> None:
    mine = [record("ended", 10.0), record("cut", 20.0), record("cut", 5.0)]
    found = left(config(trials=10), mine, ["ended", "another model's"])
    assert (found.cut, found.cut_s, found.cut_trials) == (frozenset({"cut"}), 25.0, 2)
    budget = found.budget(0.0, None, lambda: False)  # type: ignore[arg-type]
    assert (budget.end, budget.span_s, budget.trials) == (90.0, 90.0, 9)


def test_nothing_is_gone_over_where_the_budget_is_spent() -> None:
    assert left(config(trials=1), [record("cut")], []).cut == frozenset()
    assert left(config(time_budget_s=1.0), [record("cut", 50.0)], []).cut == frozenset()


def test_without_a_limit_of_trials_time_alone_decides() -> None:
    found = left(config(), [record("cut")] * 3, [])
    assert found.trials is None
    assert found.budget(0.0, None, lambda: False).trials is None  # type: ignore[arg-type]
    assert math.isfinite(found.seconds)


def test_screenings_of_a_search_that_was_cut_off_are_kept_apart() -> None:
    task = KnownTask(ONE_POINT)
    for made in (record("cut"), record("cut", fidelity=Fidelity.RANK), record("ended", candidate='[-1,[],""]')):
        task.add(made, 0)
    known, cut = task.apart({"cut"})
    assert sorted(known) == [('[-1,[],""]', Fidelity.SCREEN), ('[0,[],""]', Fidelity.RANK)]
    assert list(cut) == ['[0,[],""]']
    assert (task.trials, task.runs) == (2, {"cut", "ended"})


def test_what_is_no_point_of_the_space_is_left_where_it_is() -> None:
    task = KnownTask(ONE_POINT)
    for text in ("nonsense", '[7,[],""]', '[0,[1],""]'):
        task.add(record("a", candidate=text), 0)
    assert (task.measured, task.runs) == ({}, set())


def test_features_of_another_version_are_not_taken() -> None:
    task = KnownTask(ONE_POINT)
    task.add(record("a", features=(1.0, 2.0)), 3)
    assert task.rows == {}
    task.add(record("a", features=(1.0, 2.0, 3.0)), 3)
    assert list(task.rows) == [Candidate(0, ())]
