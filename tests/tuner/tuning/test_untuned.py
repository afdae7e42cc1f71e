"""Kernels that keep TVM's own program: checked like winners, and built otherwise where they are wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kernels.passes import PASSES
from kernels.space import Candidate
from tests import null_device
from tests.tuner.tuning.on_null import BEST, UNTUNED, Loop, Scripted, task_named
from tuner.records import Fidelity, Measurement, Status
from tuner.store import SqlStore
from tuner.tuning import untuned
from tuner.tuning.session import TaskSession
from tuner.tuning.untuned import Untuned

WRONG = Measurement(Status.WRONG_RESULT, fidelity=Fidelity.SCREEN, reason="half of it is missing")
LEVEL_1 = dataclasses.replace(UNTUNED, passes=UNTUNED.passes.replace(PASSES["llvm_opt"](level=1)))  # type: ignore[call-arg]


@pytest.fixture(autouse=True)
def on_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The null device's space for a kind of device whose compiler has settings."""
    space = dataclasses.replace(null_device.space_of(), target_kind="llvm")
    monkeypatch.setattr(null_device, "space_of", lambda: space)


def started(folder: Path, store: SqlStore, outcomes: Mapping[Candidate, Measurement]) -> tuple[TaskSession, Scripted]:
    loop = Loop(folder, store)
    bench = Scripted(outcomes)
    cast(Any, loop.device).bench = bench
    return loop.searcher().start(task_named()), bench


def checked(session: TaskSession, stop: bool = False) -> Untuned:
    return untuned.checked({"it": session}, lambda: stop)["it"]


def test_what_the_search_never_measured_is_checked_now(tmp_path: Path, store: SqlStore) -> None:
    session, bench = started(tmp_path, store, {})
    assert checked(session) == Untuned(UNTUNED)
    assert checked(session).verified is True
    assert len(bench.jobs) == 1, "and not again"


def test_what_nothing_checked_is_not_said_to_be_right(tmp_path: Path, store: SqlStore) -> None:
    session, bench = started(tmp_path, store, {})
    assert checked(session, stop=True) == Untuned(None)
    assert checked(session, stop=True).verified is None
    assert bench.jobs == []


@pytest.mark.parametrize("status", [Status.CENSORED, Status.SUSPECT])
def test_right_outputs_count_whatever_the_time(tmp_path: Path, store: SqlStore, status: Status) -> None:
    limit = 1.0 if status is Status.CENSORED else None
    session, _ = started(tmp_path, store, {UNTUNED: Measurement(status, reason="time", censored_at_s=limit)})
    assert checked(session).verified is True


def test_a_wrong_one_is_named_and_built_otherwise(tmp_path: Path, store: SqlStore) -> None:
    session, bench = started(tmp_path, store, {UNTUNED: WRONG})
    found = checked(session)
    assert found == Untuned(LEVEL_1, "wrong result: half of it is missing")
    assert found.verified is True
    assert [Candidate.from_text(job.candidate) for job, _ in bench.jobs] == [UNTUNED, LEVEL_1]
    [note] = untuned.notes({"it": session}, {"it": found}, ())
    assert note == (
        "square: TVM's own kernel is wrong (wrong result: half of it is missing); "
        "built with llvm_opt{level=1} it is right, and so it is in the model"
    )
    assert untuned.notes({"it": session}, {"it": found}, {"it"})[0].endswith("the tuned one is right")


def test_one_that_is_wrong_however_it_is_built_is_said_to_be(tmp_path: Path, store: SqlStore) -> None:
    space = null_device.space_of()
    session, _ = started(tmp_path, store, {UNTUNED: WRONG, **dict.fromkeys(untuned.otherwise(space), WRONG)})
    found = checked(session)
    assert (found.candidate, found.verified) == (None, False)
    assert untuned.notes({"it": session}, {"it": found}, ())[0].endswith("no build of it was found that is right")


def test_one_that_crashes_is_wrong_and_one_that_is_late_is_unknown(tmp_path: Path, store: SqlStore) -> None:
    crashed, _ = started(tmp_path / "a", store, {UNTUNED: Measurement(Status.RUN_FAILED, reason="SIGSEGV")})
    assert checked(crashed).verified is False
    late, _ = started(tmp_path / "b", store, {UNTUNED: Measurement(Status.RUN_TIMEOUT, reason="20 s")})
    assert checked(late).verified is None


def test_a_task_without_a_space_is_left_alone(tmp_path: Path, store: SqlStore) -> None:
    empty = dataclasses.replace(null_device.space_of(), sketches=())
    session = SimpleNamespace(space=empty, certified={}, screened={})
    assert checked(cast(TaskSession, session)) == Untuned(None)


def test_what_was_refused_gives_way_to_the_next_best_and_is_recorded(tmp_path: Path, store: SqlStore) -> None:
    session, _ = started(tmp_path, store, {})
    session.step(16, lambda: False)
    best = session.best
    assert best is not None
    session.refuse(best, "it makes the whole model wrong")
    assert session.best not in (None, best)
    assert best != BEST or session.best != BEST
    [record] = [r for r in store.read() if r.proposer == "whole model"]
    assert (record.candidate, record.measurement.status) == (best.to_text(), Status.WRONG_RESULT)


def test_a_large_kernel_that_nothing_was_measured_of_gets_its_first_candidate(tmp_path: Path, store: SqlStore) -> None:
    """TVM's own program of it may take minutes."""
    session, bench = started(tmp_path, store, {})
    sessions = {"it": session}
    found = untuned.unreached(sessions, {"it": Untuned(None)})
    assert found == {"it": Untuned(session.space.initial_candidates()[0], checked=False)}
    assert found["it"].verified is None
    assert "checked there" in untuned.notes(sessions, found, [])[0]
    assert bench.jobs == []
    assert untuned.unreached(sessions, {"it": Untuned(UNTUNED)}) == {}, "it is right, and known to end"
    session.probe(session.space.initial_candidates()[:1], lambda: False)
    assert untuned.unreached(sessions, {"it": Untuned(None)}) == {}, "there is one that was measured"
