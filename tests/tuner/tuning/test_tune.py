"""The loop on the null device: what it finds, why it ends, what it stores, and what it does not do again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from kernels.space import Candidate
from tests.null_device import FASTEST_S, UNTUNED_S, NullBench, NullBuilder, space_of
from tests.tuner.tuning.on_null import BEST, UNTUNED, Loop, Scripted, allowed, failed, task_named, timed
from tuner import search
from tuner.protocols import Artifact, BuildFailure, Job, Policy, Reference, Stop, Task
from tuner.records import Measurement, Status
from tuner.search.random import RandomStrategy
from tuner.store import SqlStore
from tuner.tuning.budget import SearchEnd
from tuner.tuning.phase import Pace
from tuner.tuning.tune import tune_session, tune_task

TASK = task_named()
POINTS = space_of().points() or []
WHOLE = Pace(early_stop=10_000)
"""Nothing but the budget, or the end of the space, ends a search."""


def test_the_optimum_is_found_long_before_the_space_is_used_up(tmp_path: Path, store: SqlStore) -> None:
    searcher = Loop(tmp_path, store, strategy="guided").searcher()
    session = tune_task(TASK, searcher, allowed(searcher, trials=40), Pace(batch=8))
    assert session.best == BEST
    assert session.best_s == pytest.approx(FASTEST_S, rel=1e-4)
    assert session.untuned_s == pytest.approx(UNTUNED_S, rel=1e-4)
    assert session.trials == 40 < len(POINTS)


@pytest.mark.parametrize(("trials", "batch"), [(1, 16), (10, 4), (30, 16)])
def test_it_ends_with_its_trials(trials: int, batch: int, tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    searcher = loop.searcher()
    budget = allowed(searcher, trials=trials)
    session = tune_task(TASK, searcher, budget, Pace(batch=batch, early_stop=10_000))
    assert session.trials == len(loop.records()) == loop.device.bench.measured == trials
    assert budget.spent() is SearchEnd.TRIALS


class Slow(NullBench):
    """Each measurement takes some time."""

    def measure(self, job: Job, policy: Policy) -> Measurement:
        time.sleep(0.02)
        return super().measure(job, policy)


def test_it_ends_with_its_time(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    loop.device.bench = Slow()
    searcher = loop.searcher()
    budget = allowed(searcher, seconds=0.5)
    began = time.monotonic()
    session = tune_task(TASK, searcher, budget, Pace(batch=64, early_stop=10_000))
    assert time.monotonic() - began < 2.0, "a batch that has begun is cut short"
    assert 1 <= session.trials < len(POINTS)
    assert len(loop.records()) == session.trials


def test_it_ends_with_the_space(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    searcher = loop.searcher()
    budget = allowed(searcher)
    session = tune_task(TASK, searcher, budget, WHOLE)
    assert set(session.screened) == {UNTUNED, *POINTS}
    assert session.best == BEST
    assert budget.spent() is None


def test_it_ends_when_nothing_gets_better(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    loop.device.bench = Scripted({c: timed(FASTEST_S) for c in POINTS})
    searcher = loop.searcher()
    session = tune_task(TASK, searcher, allowed(searcher), Pace(batch=4, early_stop=12))
    assert 12 <= session.trials <= 24


def test_it_ends_when_it_is_interrupted(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    searcher = loop.searcher()
    budget = allowed(searcher, stop=lambda: loop.device.bench.measured >= 7)
    session = tune_task(TASK, searcher, budget, WHOLE)
    assert session.trials == 7
    assert budget.spent() is SearchEnd.INTERRUPT


def test_whoever_watches_is_called_after_each_batch(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    searcher = loop.searcher()
    seen: list[int] = []
    session = tune_task(
        TASK, searcher, allowed(searcher, trials=14), Pace(batch=5, first_batch=3, early_stop=10_000),
        lambda watched: seen.append(watched.trials),
    )  # fmt: skip
    assert seen == [3, 9, 14], "the untuned program is measured with the second batch"
    assert session.trials == 14


def test_a_search_may_be_gone_on_with(tmp_path: Path, store: SqlStore) -> None:
    searcher = Loop(tmp_path, store).searcher()
    session = tune_task(TASK, searcher, allowed(searcher, trials=10), WHOLE)
    tune_session(session, searcher, allowed(searcher, trials=25), WHOLE)
    assert session.trials == 25
    assert len(store.read()) == 25


# --- what is stored ---------------------------------------------------------------------------------


def test_every_trial_is_a_record_that_says_what_it_is_of(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store, seed=5)
    searcher = loop.searcher()
    tune_task(TASK, searcher, allowed(searcher, trials=12), Pace(batch=4))
    records = loop.records()
    assert [r.trial for r in records] == list(range(1, 13))
    for record in records:
        assert (record.task_key, record.task_name) == (TASK.key, TASK.name)
        assert (record.run_id, record.scope, record.seed) == ("run", "scope", 5)
        assert (record.environment, record.commit) == ("here", "a commit")
        assert record.proposer == ("default" if Candidate.from_text(record.candidate).is_default else "random")
        assert record.measurement.conditions.batch is not None
    assert [r.measurement.conditions.batch for r in records] == [1] * 4 + [2] * 5 + [3] * 3


def test_what_the_store_knows_is_not_measured_again(tmp_path: Path, store: SqlStore) -> None:
    first, second = Loop(tmp_path, store), Loop(tmp_path, store, run_id="second")
    before = tune_task(TASK, searcher := first.searcher(), allowed(searcher, trials=60), WHOLE)
    after = tune_task(TASK, searcher := second.searcher(), allowed(searcher), WHOLE)
    assert second.device.bench.measured == len(POINTS) + 1 - 60
    assert set(after.screened) == {UNTUNED, *POINTS}
    assert not {r.candidate for r in first.records()} & {r.candidate for r in second.records()}
    assert list(after.screened)[:60] == list(before.screened), "what is known comes first, in its order"


def test_what_cannot_be_used_of_a_store_is_measured_again(tmp_path: Path, store: SqlStore) -> None:
    first, second = Loop(tmp_path, store), Loop(tmp_path, store, "second", usable=lambda r: r.run_id == "second")
    tune_task(TASK, searcher := first.searcher(), allowed(searcher, trials=20), WHOLE)
    session = tune_task(TASK, searcher := second.searcher(), allowed(searcher, trials=20), WHOLE)
    assert second.device.bench.measured == session.trials == 20


FAILURES = {
    Candidate(0, (0, 0, 0)): failed(Status.WRONG_RESULT, "off by 2"),
    BEST: failed(Status.RUN_FAILED, "SIGSEGV"),
    Candidate(0, (5, 5, 4)): failed(Status.RUN_TIMEOUT, "no answer"),
    UNTUNED: failed(Status.WRONG_RESULT, "TVM's own"),
}


class Unbuildable(NullBuilder):
    """One candidate does not build, and one cannot be scheduled."""

    def build(
        self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False
    ) -> list[Artifact | BuildFailure]:
        failures = {
            Candidate(0, (5, 4, 5)): BuildFailure(Status.BUILD_FAILED, "a compiler's error", 0.5),
            Candidate(0, (1, 1, 1)): BuildFailure(Status.INVALID, "a limit", 0.25),
        }
        return [failures.get(c, b) for c, b in zip(candidates, super().build(task, candidates, stop), strict=False)]


class Hearing(RandomStrategy):
    """Remembers what it is told."""

    def __init__(self, problem: search.Problem, told: dict[Candidate, Status]) -> None:
        super().__init__(problem.space, problem.seed)
        self._told = told

    def tell(self, candidate: Candidate, measurement: Measurement) -> None:
        self._told[candidate] = measurement.status
        super().tell(candidate, measurement)


def test_failures_are_recorded_and_the_strategy_is_told(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[Candidate, Status] = {}
    monkeypatch.setitem(search.STRATEGIES, "random", lambda problem: Hearing(problem, told))
    loop = Loop(tmp_path, store)
    loop.device.bench, loop.device.builder = Scripted(FAILURES), Unbuildable(tmp_path / "built")
    searcher = loop.searcher()
    session = tune_task(TASK, searcher, allowed(searcher), WHOLE)
    stored = {r.candidate: r.measurement for r in loop.records()}
    expected = {
        Candidate(0, (0, 0, 0)): (Status.WRONG_RESULT, "off by 2"),
        BEST: (Status.RUN_FAILED, "SIGSEGV"),
        Candidate(0, (5, 5, 4)): (Status.RUN_TIMEOUT, "no answer"),
        Candidate(0, (5, 4, 5)): (Status.BUILD_FAILED, "a compiler's error"),
        Candidate(0, (1, 1, 1)): (Status.INVALID, "a limit"),
    }
    for candidate, outcome in expected.items():
        measured = stored[candidate.to_text()]
        assert (measured.status, measured.reason) == outcome
        assert told[candidate] is outcome[0]
    assert stored[Candidate(0, (5, 4, 5)).to_text()].build_s == 0.5
    assert set(told) == set(POINTS), "the untuned program is none of its candidates"
    assert session.best == Candidate(0, (4, 5, 5))
    assert session.untuned_s is None
    assert dict(searcher.ledger.failed) == {
        "wrong result": 2, "run failed": 1, "run timeout": 1, "build failed": 1, "invalid": 1,
    }  # fmt: skip


def test_times_that_no_machine_can_reach_do_not_win(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(tmp_path, store)
    monkeypatch.setattr(loop.device, "lower_bound_s", lambda task: 2.5 * FASTEST_S)
    searcher = loop.searcher()
    session = tune_task(TASK, searcher, allowed(searcher), WHOLE)
    stored = {Candidate.from_text(r.candidate): r.measurement for r in loop.records()}
    impossible = {c for c, m in stored.items() if m.status is Status.SUSPECT}
    assert impossible == {c for c in POINTS if sum(c.decisions) >= 14 and c in stored}  # type: ignore[arg-type]
    assert session.best is not None
    assert sum(session.best.decisions) == 13  # type: ignore[arg-type]
    assert all("lower bound" in m.reason for m in stored.values() if m.status is Status.SUSPECT)


def test_a_task_as_fast_as_the_machine_allows_gets_no_more_trials(
    tmp_path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(tmp_path, store)
    monkeypatch.setattr(loop.device, "lower_bound_s", lambda task: FASTEST_S)
    searcher = loop.searcher()
    session = tune_task(TASK, searcher, allowed(searcher), Pace(batch=8, early_stop=10_000))
    assert session.best == BEST
    assert session.trials < len(POINTS)
    assert BEST in list(session.screened)[-8:], "the batch that found it is the last"


class NoReference(NullBuilder):
    """Programs that nothing independent evaluates."""

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        return "no rule for this program"


class NoOutputs(NullBench):
    """Kernels whose outputs cannot be had."""

    def store_outputs(self, job: Job, path: Path) -> str | None:
        return "it hangs"


def test_without_a_reference_the_untuned_build_is_one(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    loop.device.builder = NoReference(tmp_path / "built")
    searcher = loop.searcher()
    session = tune_task(TASK, searcher, allowed(searcher, trials=6), WHOLE)
    assert session.unverified == "untuned build as reference: no rule for this program"
    assert all(m.ok or m.status is Status.CENSORED for m in session.screened.values())


def test_with_nothing_to_check_against_nothing_is_timed(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    loop.device.builder, loop.device.bench = NoReference(tmp_path / "built"), NoOutputs()
    searcher = loop.searcher()
    session = tune_task(TASK, searcher, allowed(searcher, trials=6), WHOLE)
    assert loop.device.bench.measured == 0
    assert {m.status for m in session.screened.values()} == {Status.RUN_FAILED}
    assert all("it hangs" in r.measurement.reason for r in loop.records())
    assert session.best is None
