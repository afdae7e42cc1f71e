"""What earlier runs leave of a budget, and what a session is told at once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kernels.features import COLUMNS, DEFAULTS
from kernels.space import Candidate, DesignSpace, Sketch
from tuner.config import SearchConfig
from tuner.records import Conditions, Fidelity, Measurement, Record, Status
from tuner.tuning.known import KnownTask, remaining

ONE_POINT = DesignSpace("llvm", (Sketch(0, "[]", ()),), ())


def record(
    run: str, cost_s: float = 1.0, fidelity: Fidelity = Fidelity.SCREEN, candidate: str = '[0,[],""]', **more: Any
) -> Record:
    measurement = Measurement(Status.OK, (1e-3,), fidelity, run_s=cost_s, conditions=Conditions(cost_s=cost_s))
    return Record(run, "key", "name", "scope", 1, candidate, "test", measurement, 0, "", **more)


def config(**stated: Any) -> SearchConfig:
    return SearchConfig(**{"trials": None, "time_budget_s": 100.0, **stated})


def test_trials_and_ranks_are_spent_and_certification_is_not() -> None:
    rest = remaining(
        config(trials=10),
        [record("a", 20.0), record("a", 30.0, Fidelity.RANK), record("a", 40.0, Fidelity.CERTIFY)],
        ["a"],
    )
    assert (rest.spent_s, rest.seconds, rest.trials, rest.spent) == (50.0, 50.0, 9, False)


@pytest.mark.parametrize(("spent_s", "seconds"), [(0.0, 100.0), (89.0, 11.0), (91.0, 0.0), (300.0, 0.0)])
def test_a_rest_under_a_tenth_counts_as_spent(spent_s: float, seconds: float) -> None:
    rest = remaining(config(), [record("a", spent_s)], ["a"])
    assert rest.seconds == pytest.approx(seconds)
    assert rest.spent == (seconds == 0.0)


def test_what_was_interrupted_is_within_the_budget_of_the_whole_search() -> None:
    mine = [record("ended", 10.0), record("interrupted", 20.0), record("interrupted", 5.0)]
    rest = remaining(config(trials=10), mine, ["ended", "another model's"])
    assert (rest.interrupted, rest.interrupted_s, rest.interrupted_trials) == (frozenset({"interrupted"}), 25.0, 2)
    budget = rest.budget(0.0, None, lambda: False)  # type: ignore[arg-type]
    assert (budget.end, budget.span_s, budget.trials) == (90.0, 90.0, 9)


def test_nothing_is_replayed_where_the_budget_is_spent() -> None:
    assert remaining(config(trials=1), [record("interrupted")], []).interrupted == frozenset()
    assert remaining(config(time_budget_s=1.0), [record("interrupted", 50.0)], []).interrupted == frozenset()


def test_without_a_limit_of_trials_time_alone_decides() -> None:
    rest = remaining(config(), [record("interrupted")] * 3, [])
    assert rest.trials is None
    assert rest.budget(0.0, None, lambda: False).trials is None  # type: ignore[arg-type]
    assert math.isfinite(rest.seconds)


def test_screenings_of_an_interrupted_search_are_kept_apart() -> None:
    task = KnownTask(ONE_POINT)
    for made in (
        record("interrupted"),
        record("interrupted", fidelity=Fidelity.RANK),
        record("ended", candidate='[-1,[],""]'),
    ):
        task.add(made, ())
    known, interrupted = task.apart({"interrupted"})
    assert sorted(known) == [('[-1,[],""]', Fidelity.SCREEN), ('[0,[],""]', Fidelity.RANK)]
    assert list(interrupted) == ['[0,[],""]']
    assert (task.trials, task.runs) == (2, {"interrupted", "ended"})


def test_what_is_no_point_of_the_space_is_left_where_it_is() -> None:
    task = KnownTask(ONE_POINT)
    for text in ("nonsense", '[7,[],""]', '[0,[1],""]'):
        task.add(record("a", candidate=text), ())
    assert (task.measured, task.runs) == ({}, set())


def test_features_come_back_by_the_names_of_their_columns() -> None:
    task = KnownTask(ONE_POINT)
    task.add(record("a", features=(1.0, 2.0)), ("x", "y"))
    assert task.vectors == {}, "without names nobody knows what they mean"
    task.add(record("a", features=(1.0, 2.0), columns=("y", "x")), ("x", "y"))
    assert task.vectors[Candidate(0, ())].tolist() == [2.0, 1.0]


def test_a_pass_that_was_added_since_does_not_throw_features_away() -> None:
    known = tuple(column for column in COLUMNS if column != "pass.vector_math")
    task = KnownTask(ONE_POINT)
    task.add(record("a", features=tuple(map(float, range(len(known)))), columns=known), COLUMNS)
    vector = task.vectors[Candidate(0, ())]
    assert vector[COLUMNS.index("pass.vector_math")] == DEFAULTS["pass.vector_math"]
    assert vector[COLUMNS.index("workload.flops")] == known.index("workload.flops")
