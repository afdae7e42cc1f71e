"""The loop of every search: which task gets the next batch, until the budget is spent or every task is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tuner.progress import Progress
from tuner.protocols import Task
from tuner.tuning.budget import Budget, SearchEnd
from tuner.tuning.scheduler import TaskInfo, TaskScheduler
from tuner.tuning.session import Step, TaskSession

FIRST_BATCH = 4
"""Trials of a task's first batch: its best initial candidates. Breadth before depth, since a task that was
never reached runs untuned, some fifty times slower."""

_BREADTH_SHARE = 0.5
_TRIAL_S = 0.4
"""First batches are smaller where a model has so many tasks that they would take more than this share of the
budget, at this many seconds a trial."""

_RANK_SHARE = 0.12
_RANK_TASK_S = 1.2
"""Seconds kept back for ranking one task's finalists: five builds are there, each runs some 0.2 s."""

Watch = Callable[[TaskSession], None]
"""Called after each batch."""


@dataclass(frozen=True)
class Pace:
    """`batch` and `first_batch` are trials a turn. A task is finished when `early_stop` trials brought nothing new.

    The untuned program is measured with a task's second batch, with `untuned_first` before the first one; without
    `untuned` it is not measured.
    """

    batch: int = 16
    first_batch: int = FIRST_BATCH
    early_stop: int = 192
    untuned: bool = True
    untuned_first: bool = False


class SearchPhase:
    """Runs sessions until the budget is spent or every task is finished."""

    def __init__(
        self,
        budget: Budget,
        pace: Pace,
        lower_bound_s: Callable[[Task], float],
        progress: Progress,
        watch: Watch = lambda session: None,
    ) -> None:
        self._budget = budget
        self._pace = pace
        self._lower_bound_s = lower_bound_s
        self._progress = progress
        self._watch = watch
        self._first_batch = pace.first_batch

    def run(
        self, sessions: Mapping[str, TaskSession], groups: Mapping[str, str] | None = None
    ) -> tuple[SearchEnd, list[str]]:
        """Search the tasks of these sessions, by task key: why it ended, and a sentence for each task.

        `groups`: by task key, the group of tasks of which only the fastest counts.
        """
        reserve = min(_RANK_TASK_S * len(sessions), _RANK_SHARE * self._budget.left_s)
        self._budget.end -= reserve
        scheduler = self._scheduler(sessions, groups or {})
        a_task_s = _BREADTH_SHARE * self._budget.left_s / (_TRIAL_S * len(sessions))
        self._first_batch = int(min(max(a_task_s, 1), self._pace.first_batch))
        while not self._budget.stop():
            key = scheduler.next()
            if key is None:
                break
            self._step(sessions[key], scheduler)
        for session in sessions.values():
            session.restore_rest()
        ended_by = self._budget.spent() or SearchEnd.FINISHED
        self._budget.end += reserve
        sentences = [f"{sessions[view.key].task.name}: {view.sentence}" for view in scheduler.explain()]
        return ended_by, sentences

    def _step(self, session: TaskSession, scheduler: TaskScheduler) -> None:
        began, spent_s = time.monotonic(), session.known_cost_s
        first = session.trials == 0
        if self._pace.untuned and (self._pace.untuned_first or not first):
            session.measure_default()
        count = self._budget.allowed(min(self._pace.batch, self._first_batch) if first else self._pace.batch)
        nothing = Step(0, 0, exhausted=False)
        step = session.step(count, self._budget.stop, self._budget.ending()) if count else nothing
        if step.trials and not step.measured:
            self._budget.replayed_s += time.monotonic() - began
        # The cost is that of the records: a run that is resumed will know no other.
        spent_s = session.known_cost_s - spent_s
        scheduler.report(session.task.key, step.trials, session.best_s, spent_s, step.exhausted)
        self.show(session)
        self._watch(session)

    def _scheduler(self, sessions: Mapping[str, TaskSession], groups: Mapping[str, str]) -> TaskScheduler:
        """A scheduler that has seen what earlier runs (and the probing) did."""
        infos = [
            TaskInfo(
                key, s.task.weight, s.task.workload.flops, s.untuned_s, self._lower_bound_s(s.task), groups.get(key)
            )
            for key, s in sessions.items()
        ]
        scheduler = TaskScheduler(infos, self._pace.early_stop)
        for key, session in sessions.items():
            for batch in session.batches():
                scheduler.report(key, batch.trials, batch.best_s, batch.seconds)
        return scheduler

    def show(self, session: TaskSession) -> None:
        """Where a task stands, for whoever watches."""
        ledger = self._budget.ledger
        self._progress.task_update(
            session.task.name, ledger.trials, session.best_s, session.untuned_s, dict(ledger.failed),
            self._budget.left_s,
        )  # fmt: skip


def failures(sessions: Mapping[str, TaskSession]) -> dict[str, int]:
    """How many screenings of these tasks failed, by kind, earlier runs included."""
    counts: dict[str, int] = {}
    for session in sessions.values():
        for measurement in session.screened.values():
            if measurement.failed:
                counts[measurement.status.value] = counts.get(measurement.status.value, 0) + 1
    return counts
