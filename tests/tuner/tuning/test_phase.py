"""Which task gets the next batch, how large it is, when the untuned program is measured, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels.space import Candidate
from tests.null_device import FASTEST_S
from tests.tuner.tuning.on_null import BEST, UNTUNED, Loop, Scripted, allowed, failed, task_named, timed
from tuner.protocols import Task
from tuner.records import Measurement, Status
from tuner.store import SqlStore
from tuner.tuning.budget import Budget, SearchEnd
from tuner.tuning.phase import FIRST_BATCH, Pace, SearchPhase, failures
from tuner.tuning.session import TaskSession

LARGE, SMALL = task_named("large", weight=5, flops=600.0), task_named("small", flops=6.0)


class Watched:
    """A phase over some tasks, and the order in which it turned to them: (task, trials, whether untuned is known)."""

    def __init__(self, loop: Loop, pace: Pace, *tasks: Task, trials: int | None = None, seconds: float = 600.0) -> None:
        searcher = loop.searcher()
        self.turns: list[tuple[str, int, bool]] = []
        self.sessions = {task.key: searcher.start(task) for task in tasks}
        self.budget: Budget = allowed(searcher, trials, seconds)
        self.end = self.budget.end
        self.phase = SearchPhase(self.budget, pace, loop.device.lower_bound_s, loop.context.progress, self._turn)
        self.ended_by, self.sentences = self.phase.run(self.sessions)

    def _turn(self, session: TaskSession) -> None:
        self.turns.append((session.task.name, session.trials, UNTUNED in session.screened))


def test_every_task_has_a_first_batch_before_any_has_a_second(tmp_path: Path, store: SqlStore) -> None:
    watched = Watched(Loop(tmp_path, store), Pace(batch=8), LARGE, SMALL, trials=40)
    assert watched.turns[:2] == [("large", FIRST_BATCH, False), ("small", FIRST_BATCH, False)]
    assert watched.turns[2][0] == "large", "what takes most of the model's time"
    assert watched.turns[2] == ("large", FIRST_BATCH + 8 + 1, True), "the untuned program with the second batch"
    assert watched.ended_by is SearchEnd.TRIALS


def test_the_untuned_program_may_come_first_or_not_at_all(tmp_path: Path, store: SqlStore) -> None:
    first = Watched(Loop(tmp_path, store), Pace(batch=4, untuned_first=True), SMALL, trials=5)
    assert first.turns == [("small", 5, True)]
    never = Watched(Loop(tmp_path, store, run_id="b"), Pace(batch=4, untuned=False), LARGE, trials=12)
    assert [known for _, _, known in never.turns] == [False] * len(never.turns)
    assert len(never.sessions[LARGE.key].screened) == 12


def test_first_batches_are_smaller_where_there_are_many_tasks_for_the_time(tmp_path: Path, store: SqlStore) -> None:
    tasks = [task_named(f"task{number}") for number in range(10)]
    watched = Watched(Loop(tmp_path, store), Pace(early_stop=1), *tasks, trials=20, seconds=20.0)
    firsts = [trials for _, trials, _ in watched.turns[:10]]
    assert firsts == [2] * 10, "half of the 20 s, less what is kept for ranking, at 0.4 s a trial"


def test_what_is_kept_for_ranking_is_given_back_when_the_search_ends(tmp_path: Path, store: SqlStore) -> None:
    watched = Watched(Loop(tmp_path, store), Pace(batch=4), SMALL, trials=8, seconds=100.0)
    assert watched.budget.end == pytest.approx(watched.end)
    late = Watched(Loop(tmp_path, store, run_id="late"), Pace(batch=4), LARGE, seconds=0.0)
    assert (late.ended_by, late.turns) == (SearchEnd.TIME, [])


def test_it_ends_when_every_task_is_finished_and_says_why(tmp_path: Path, store: SqlStore) -> None:
    loop = Loop(tmp_path, store)
    flat = {point: timed(FASTEST_S) for point in loop.device.builder.space(SMALL, ()).points() or []}
    loop.device.bench = Scripted(flat)
    watched = Watched(loop, Pace(batch=4, early_stop=8), LARGE, SMALL)
    assert watched.ended_by is SearchEnd.FINISHED
    assert [sentence.partition(":")[0] for sentence in watched.sentences] == ["large", "small"]
    assert all("trials without 1 % of improvement" in sentence for sentence in watched.sentences)


def test_the_last_batches_refine(tmp_path: Path, store: SqlStore) -> None:
    """A strategy is told when the budget ends."""
    asked: list[bool] = []
    loop = Loop(tmp_path, store)
    searcher = loop.searcher()
    session = searcher.start(SMALL)
    step = session.step

    def noted(count: int, stop: object, refine: bool = False) -> object:
        asked.append(refine)
        return step(count, stop, refine)  # type: ignore[arg-type]

    session.step = noted  # type: ignore[method-assign,assignment]
    budget = allowed(searcher, trials=40)
    SearchPhase(budget, Pace(batch=4), lambda task: 0.0, loop.context.progress).run({SMALL.key: session})
    assert asked == sorted(asked)
    assert (asked[0], asked[-1]) == (False, True)


def test_a_search_that_goes_on_has_seen_the_earlier_batches(tmp_path: Path, store: SqlStore) -> None:
    """What took long and brought little then is not what is turned to first now."""
    Watched(Loop(tmp_path, store), Pace(batch=4), LARGE, SMALL, trials=30)
    again = Watched(Loop(tmp_path, store, run_id="again"), Pace(batch=4), LARGE, SMALL, trials=4)
    assert len(again.turns) == 1, "neither is untried"
    trials = {sentence.partition(":")[0]: int(sentence.split()[1]) for sentence in again.sentences}
    known = {s.task.name: s.trials - (UNTUNED in s.screened) for s in again.sessions.values()}
    assert trials == known


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        (failed(Status.WRONG_RESULT), {"wrong result": 1}),
        (failed(Status.SUSPECT), {"suspect": 1}),
        (Measurement(Status.CENSORED, censored_at_s=1.0), {}),
        (timed(1.0), {}),
    ],
)
def test_failures_are_counted_by_kind(
    outcome: Measurement, counted: dict[str, int], tmp_path: Path, store: SqlStore
) -> None:
    loop = Loop(tmp_path, store)
    loop.device.bench = Scripted({BEST: outcome})
    watched = Watched(loop, Pace(batch=64, early_stop=10_000), SMALL)
    assert BEST in watched.sessions[SMALL.key].screened
    assert failures(watched.sessions) == counted
    assert Candidate(0, (0, 0, 0)) in watched.sessions[SMALL.key].screened
