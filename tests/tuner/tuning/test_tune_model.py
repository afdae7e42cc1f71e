"""The tasks of a model on the null device: what is searched, certified, taken over from earlier runs and replayed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kernels.space import Candidate
from tests.null_device import FASTEST_S, NullBench, NullBuilder, space_of
from tests.tuner.tuning.on_null import BEST, UNTUNED, Loop, Scripted, record_of, task_named, timed
from tuner.graph import Choices, GraphConfig, Lowered
from tuner.measure.pooled import compare_measurements
from tuner.protocols import Job, Policy, Reference, Task
from tuner.records import Fidelity, Label, Measurement, Status
from tuner.store import SqlStore
from tuner.tuning.budget import SearchEnd
from tuner.tuning.certification import PROCESSES
from tuner.tuning.searcher import Searcher
from tuner.tuning.total import TotalBudget
from tuner.tuning.tune import SearchResult, certify, tune_model

TASK = task_named()
POINTS = space_of().points() or []

TASKS = (task_named("large", weight=2, flops=600.0), task_named("small"))


def variant(*tasks: Task, layout: str = "NCHW") -> Choices:
    """A lowered model, of which the search sees the tasks alone."""
    return Choices(Lowered(None, GraphConfig(layout), tasks))


def tuned(loop: Loop, *variants: Choices) -> SearchResult:
    result = tune_model(variants or [variant(*TASKS)], loop.device, loop.store, loop.context, lambda record: True)
    certify(result, loop.device, loop.store, loop.context)
    return result


def test_finalists_and_the_untuned_programs_are_certified_and_the_run_is_ended(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store, trials=60, batch=8)
    renewed = itertools.count()
    loop.device.bench.renew = lambda: next(renewed)  # type: ignore[method-assign,assignment]
    result = tuned(loop)
    assert (result.ended_by, result.spent_earlier) == (SearchEnd.TRIALS, False)
    assert next(renewed) == PROCESSES
    for key, session in result.sessions.items():
        certified = [r for r in loop.records(Fidelity.CERTIFY) if r.task_key == key]
        ranked = [r for r in loop.records(Fidelity.RANK) if r.task_key == key]
        assert len(ranked) == loop.context.settings.finalists
        assert {r.candidate for r in certified} == {r.candidate for r in ranked} | {UNTUNED.to_text()}
        for record in certified:
            assert record.measurement.ok
            assert record.proposer == "certification"
            assert record.measurement.conditions.session_id == f"run/{key}"
            assert len(record.measurement.conditions.rounds) == PROCESSES
            assert record.measurement.conditions.aa_floor is not None
        best, untuned = session.certified[session.best or UNTUNED], session.certified[UNTUNED]
        assert compare_measurements(best, untuned).label is Label.FASTER
        fastest = min(m.median_s for m in session.screened.values() if m.ok)
        assert session.searched_s(session.best or UNTUNED) == pytest.approx(fastest)
    assert store.ended() == {"run"}


def test_what_a_total_budget_did_not_reach_is_not_certified(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No builder has its space, so that none can evaluate it."""

    class OfSpaces(NullBuilder):
        def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
            assert task.key in self._spaces
            return super().reference(task, seeds, folder)

    monkeypatch.setattr("tuner.tuning.tune._SPACES_SHARE", 0.0)
    loop = Loop(tmp_path, store, trials=20)
    loop.device.builder = OfSpaces(tmp_path / "built")
    loop.context = dataclasses.replace(loop.context, total=TotalBudget(1000.0))
    sessions = tuned(loop).sessions
    assert "1 of 2 kernels were not searched" in loop.said.getvalue()
    assert [bool(session.certified) for session in sessions.values()] == [True, False]


def test_certification_is_on_inputs_that_the_search_did_not_have(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store, trials=10, seed=7)
    bench = loop.device.bench = Scripted()
    tuned(loop)
    seeds = {fidelity: {job.seed for job, policy in bench.jobs if policy.fidelity is fidelity} for fidelity in Fidelity}
    assert seeds == {Fidelity.SCREEN: {7}, Fidelity.RANK: {7}, Fidelity.CERTIFY: {8}}
    files = {job.reference.path for job, _ in bench.jobs if job.reference is not None}
    assert len(files) == len(TASKS) * 2


def test_an_interrupted_run_is_not_ended(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store, trials=40, interrupted=lambda: loop.device.bench.measured >= 9)
    result = tuned(loop)
    assert result.ended_by is SearchEnd.INTERRUPT
    assert len(loop.records()) == 9
    assert loop.records(Fidelity.CERTIFY) == []
    assert store.ended() == frozenset()


def test_one_that_fails_its_certification_gives_way_to_the_next(tmp_path: Path, store: SqlStore) -> None:
    certified = itertools.count()

    class LaterWrong(NullBench):
        def measure(self, job: Job, policy: Policy) -> Measurement:
            measured = super().measure(job, policy)
            if policy.fidelity is Fidelity.CERTIFY and Candidate.from_text(job.candidate) == BEST:
                next(certified)
                return Measurement(Status.WRONG_RESULT, fidelity=policy.fidelity, reason="on other inputs")
            return measured

    loop = Loop(tmp_path, store, trials=len(POINTS) + 1, early_stop=10_000)
    loop.device.bench = LaterWrong()
    [session] = tuned(loop, variant(TASK)).sessions.values()
    assert session.ranked[BEST].ok
    assert session.certified[BEST].status is Status.WRONG_RESULT
    assert next(certified) == 1, "it is not run in the next process again"
    assert session.best is not None
    assert sum(session.best.decisions) == 14  # type: ignore[arg-type]
    assert BEST not in session.ties()


def test_what_earlier_runs_spent_is_taken_off(tmp_path: Path, store: SqlStore) -> None:
    first = tuned(Loop(tmp_path, store, trials=20, batch=4))
    again = Loop(tmp_path, store, run_id="again", trials=20, batch=4)
    second = tuned(again)
    assert second.spent_earlier
    assert second.stopped_by == "trial budget, spent in earlier runs"
    assert again.records() == []
    assert again.device.bench.measured == 0
    assert second.ledger.reused == 20
    assert {k: s.best for k, s in second.sessions.items()} == {k: s.best for k, s in first.sessions.items()}
    assert second.runs == {"run"}
    assert "known from earlier runs and not measured again" in " ".join(again.context.notes)


def spent_by_an_earlier_run(store: SqlStore) -> None:
    """Twelve screenings, and nothing ranked."""
    store.append([record_of(TASK, c, timed(1.0 + i), trial=i) for i, c in enumerate(POINTS[:12])])


def test_a_budget_that_is_spent_leaves_the_ranking_as_it_was(tmp_path: Path, store: SqlStore) -> None:
    spent_by_an_earlier_run(store)
    store.end("earlier")
    loop = Loop(tmp_path, store, trials=12)
    result = tune_model([variant(TASK)], loop.device, store, loop.context, lambda record: True)
    assert result.spent_earlier
    assert loop.records() == []


def test_what_a_killed_run_did_not_rank_is_ranked(tmp_path: Path, store: SqlStore) -> None:
    spent_by_an_earlier_run(store)
    loop = Loop(tmp_path, store, trials=12)
    tune_model([variant(TASK)], loop.device, store, loop.context, lambda record: True)
    assert [r.measurement.fidelity for r in loop.records()] == [Fidelity.RANK] * loop.context.settings.finalists


def test_what_an_interrupted_run_measured_is_not_lost_where_it_is_not_replayed(tmp_path: Path, store: SqlStore) -> None:
    spent_by_an_earlier_run(store)
    loop = Loop(tmp_path, store, trials=20, interrupted=lambda: True)
    result = tune_model([variant(TASK)], loop.device, store, loop.context, lambda record: True)
    session = result.sessions[TASK.key]
    assert list(session.screened) == POINTS[:12]
    assert session.best == POINTS[0]


@pytest.mark.parametrize("reuse", [True, False])
def test_earlier_runs_teach_a_search_that_may_use_them(
    reuse: bool, tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(Loop(tmp_path, store, trials=10), variant(TASKS[0]))
    taught: list[tuple[set[str], frozenset[str]]] = []
    monkeypatch.setattr(Searcher, "learn_from_earlier_runs", lambda self, tasks, ended: taught.append((tasks, ended)))
    tuned(Loop(tmp_path, store, run_id="next", trials=10, reuse=reuse), variant(TASKS[1]))
    assert taught == ([({TASKS[1].key}, frozenset({"run"}))] if reuse else [])


def test_what_is_left_of_a_budget_is_spent(tmp_path: Path, store: SqlStore) -> None:
    tuned(Loop(tmp_path, store, trials=20, batch=4))
    more = Loop(tmp_path, store, run_id="more", trials=28, batch=4)
    result = tuned(more)
    assert not result.spent_earlier
    assert len(more.records(Fidelity.SCREEN)) == 8
    assert store.ended() == {"run", "more"}


def test_another_model_s_trials_are_known_and_not_charged(tmp_path: Path, store: SqlStore) -> None:
    tuned(Loop(tmp_path, store, trials=20, batch=4))
    other = Loop(tmp_path, store, run_id="other", trials=10, batch=4)
    result = tune_model([variant(*TASKS)], other.device, store, other.context, lambda record: False)
    assert result.ledger.reused == 20
    assert len(other.records(Fidelity.SCREEN)) == 10


def test_a_time_budget_that_is_spent_leaves_nothing_to_search(tmp_path: Path, store: SqlStore) -> None:
    spent = record_of(TASKS[0], BEST, timed(FASTEST_S, cost_s=95.0), run_id="earlier")
    store.append([spent])
    store.end("earlier")
    loop = Loop(tmp_path, store, time_budget_s=100.0)
    result = tuned(loop)
    assert (result.ended_by, result.spent_earlier) == (SearchEnd.TIME, True)
    assert loop.records(Fidelity.SCREEN) == []


def test_a_search_without_reuse_knows_nothing(tmp_path: Path, store: SqlStore) -> None:
    tuned(Loop(tmp_path, store, trials=20, batch=4))
    fresh = Loop(tmp_path, store, run_id="fresh", trials=20, batch=4, reuse=False)
    result = tuned(fresh)
    assert result.ledger.reused == 0
    assert len(fresh.records(Fidelity.SCREEN)) == 20


@pytest.mark.parametrize("stopped_after", [3, 10, 17])
def test_an_interrupted_search_is_replayed_and_comes_out_the_same(
    stopped_after: int, tmp_path: Path, store: SqlStore
) -> None:
    """With the default strategy, whose models learn in the order in which they are told."""

    def screenings(of: SqlStore) -> list[tuple[str, str, str, int, int | None]]:
        return [
            (r.task_key, r.candidate, r.proposer, r.trial, r.measurement.conditions.batch)
            for r in of.read()
            if r.measurement.fidelity is Fidelity.SCREEN
        ]

    settings: dict[str, Any] = {"trials": 24, "batch": 4, "strategy": "guided"}
    whole = tuned(Loop(tmp_path, store, **settings))
    with SqlStore("sqlite://") as other:
        cut = Loop(tmp_path, other, interrupted=lambda: cut.device.bench.measured >= stopped_after, **settings)
        tuned(cut)
        assert screenings(other) == screenings(store)[:stopped_after]
        resumed = Loop(tmp_path, other, **settings)
        result = tuned(resumed)
        assert screenings(other) == screenings(store)
        assert {k: s.best for k, s in result.sessions.items()} == {k: s.best for k, s in whole.sessions.items()}


def test_the_variant_whose_kernels_are_fastest_is_searched(tmp_path: Path, store: SqlStore) -> None:
    slow, fast = task_named("slow", weight=3), task_named("fast")
    loop = Loop(tmp_path, store, trials=20, batch=4)
    loop.device.builder.space(slow, ())
    result = tuned(loop, variant(slow, layout="NCHW"), variant(fast, layout="NHWC"))
    assert result.lowered.config.layout == "NHWC"
    assert list(result.sessions) == [fast.key]
    assert any("chosen: layout=NHWC" in sentence for sentence in result.explanations)
