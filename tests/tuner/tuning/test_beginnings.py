"""Tasks without a right candidate begin from an initial one, whatever ended their search."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from kernels.space import Candidate
from tests.null_device import space_of
from tests.tuner.tuning.on_null import Loop, Scripted, task_named
from tuner.records import Fidelity, Measurement, Status
from tuner.store import SqlStore
from tuner.tuning import beginnings
from tuner.tuning.session import TaskSession
from tuner.tuning.total import TotalBudget

WRONG = Measurement(Status.WRONG_RESULT, fidelity=Fidelity.SCREEN, reason="half of it is missing")
FIRST, *OTHERS = space_of().initial_candidates()


def begun(loop: Loop, outcomes: Mapping[Candidate, Measurement]) -> tuple[dict[str, TaskSession], Scripted]:
    """Sessions of two tasks on a bench with such outcomes, after they have begun."""
    bench = Scripted(outcomes)
    cast(Any, loop.device).bench = bench
    tasks = (task_named("small"), task_named("large", flops=600.0))
    sessions = {task.name: loop.searcher().start(task) for task in tasks}
    beginnings.begin(sessions, loop.context)
    return sessions, bench


def test_what_was_never_measured_begins_from_the_first_candidate(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    sessions, bench = begun(loop, {})
    assert [session.best for session in sessions.values()] == [FIRST, FIRST]
    names = [(record.task_name, record.proposer) for record in loop.records()]
    assert names == [("large", "beginning"), ("small", "beginning")], "what computes most comes first"
    assert beginnings.begin(sessions, loop.context) == 0, "and not again"
    assert len(bench.jobs) == 2


def test_wrong_ones_give_way_to_the_next_and_not_for_ever(tmp_path: Path, store: SqlStore) -> None:
    sessions, _ = begun(Loop(tmp_path / "a", store), {FIRST: WRONG})
    assert sessions["large"].best == OTHERS[0]
    sessions, bench = begun(
        Loop(tmp_path / "b", store, usable=lambda record: False), dict.fromkeys((FIRST, *OTHERS), WRONG)
    )
    assert sessions["large"].best is None
    assert len(bench.jobs) <= 2 * beginnings.TRIES


def test_a_search_whose_candidates_all_failed_tries_others(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    cast(Any, loop.device).bench = Scripted({FIRST: WRONG})
    session = loop.searcher().start(task_named())
    session.probe([FIRST], lambda: False)
    assert session.best is None
    assert beginnings.begin({"it": session}, loop.context) == 1
    assert session.best == OTHERS[0]


@pytest.mark.parametrize("seconds", [0.0, 100.0])
def test_after_an_interrupt_there_is_little_time(
    tmp_path: Path, store: SqlStore, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginnings, "IN_ANY_CASE_S", seconds)
    sessions, _ = begun(Loop(tmp_path, store, interrupted=lambda: True), {})
    assert all((session.best is not None) == (seconds > 0) for session in sessions.values())


def test_it_ends_with_the_total_budget(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    total = TotalBudget(total_s=3.0, clock=lambda: 2.0 * loop.device.bench.measured)
    loop.context = dataclasses.replace(loop.context, total=total)
    sessions, _ = begun(loop, {FIRST: WRONG})
    assert sessions["large"].best == OTHERS[0], "its second measurement begins in time"
    assert sessions["small"].best is None


def test_what_the_model_would_take_without_them_is_spent_in_any_case(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    loop.context = dataclasses.replace(loop.context, total=TotalBudget(total_s=1.0, spent_earlier_s=2.0))
    sessions, _ = begun(loop, {})
    assert all(session.best is None for session in sessions.values())
    assert beginnings.begin(sessions, loop.context, 5.0) == len(sessions)
