"""What a budget allows: of time, of trials, and of a search that is replayed."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from tuner.records import Conditions, Measurement, Status
from tuner.tuning.budget import Budget, SearchEnd
from tuner.tuning.ledger import Ledger


def budget(left_s: float = 1000.0, trials: int | None = None) -> Budget:
    ledger = Ledger(cast(Any, None), "run", "scope", 0)
    return Budget(time.monotonic() + left_s, 1000.0, trials, ledger, lambda: False)


def screening(cost_s: float) -> Measurement:
    return Measurement(Status.OK, (1.0,), conditions=Conditions(cost_s=cost_s))


def test_time_and_trials_end_a_search() -> None:
    assert budget().spent() is None
    assert budget(left_s=0.0).spent() is SearchEnd.TIME
    assert budget(trials=0).spent() is SearchEnd.TRIALS


def test_what_was_spent_before_the_search_was_interrupted_is_spent() -> None:
    found = budget(trials=3)
    for _ in range(2):
        found.ledger.restore(screening(400.0))
    assert found.allowed(16) == 1
    assert found.deadline - time.monotonic() == pytest.approx(200.0, abs=1.0)
    found.ledger.restore(screening(400.0))
    assert found.spent() is SearchEnd.TIME


def test_replaying_a_search_costs_none_of_its_budget() -> None:
    found = budget()
    found.replayed_s += 30.0
    assert found.deadline - time.monotonic() == pytest.approx(1030.0, abs=1.0)


@pytest.mark.parametrize(("left_s", "done", "ending"), [(1000.0, 0, False), (99.0, 0, True), (1000.0, 90, True)])
def test_the_last_tenth_of_time_or_trials_is_the_end(left_s: float, done: int, ending: bool) -> None:
    found = budget(left_s, trials=100)
    found.ledger.trials = done
    assert found.ending() is ending
