"""The search over all tasks of a model within one budget: breadth first, then trials where they pay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tuner.graph import Lowered
from tuner.progress import Progress
from tuner.protocols import Task
from tuner.records import Status
from tuner.tuning.scheduler import TaskInfo, TaskScheduler
from tuner.tuning.session import Ledger, Step, TaskSession

PROBE_TRIALS = 2
"""Analytical guesses a task gets for each graph configuration before one is chosen."""

_PROBE_SHARE = 0.4
"""The share of the budget that choosing among graph configurations may take."""

FIRST_BATCH = 4
"""Trials of a task's first batch: its best analytical guesses. Breadth before depth, since a task that was
never reached runs untuned, some fifty times slower."""

_BREADTH_SHARE = 0.5
_TRIAL_S = 0.4
"""First batches are smaller where a model has so many tasks that they would take more than this share of the
budget, at this many seconds a trial."""

_LAST_SHARE = 0.1
"""The share of the budget in which nothing new is looked for: what is near the fastest is tried."""

_RANK_SHARE = 0.12
_RANK_TASK_S = 1.2
"""Seconds kept back for ranking one task's finalists: five builds are there, each runs some 0.2 s."""


@dataclass
class Budget:
    """When to stop. `stop` is also true after an interrupt. Seconds of the monotonic clock.

    `end`, `span_s` (what there is from beginning to end) and `trials` are for the whole search. Trials of a part of it
    that was cut off cost what their records say, not what going over them takes, which is in `replayed_s`.
    """

    end: float
    span_s: float
    trials: int | None
    ledger: Ledger
    interrupted: Callable[[], bool]
    replayed_s: float = 0.0

    @property
    def deadline(self) -> float:
        return self.end + self.replayed_s - self.ledger.restored_s

    def spent(self) -> str:
        """Why no further trial may start; empty while one may."""
        if self.interrupted():
            return "interrupt"
        if time.monotonic() >= self.deadline:
            return "time budget"
        if self.trials is not None and self.ledger.trials >= self.trials:
            return "trial budget"
        return ""

    def stop(self) -> bool:
        return bool(self.spent())

    def ending(self) -> bool:
        """Whether the last part of the search has begun."""
        few = self.trials is not None and self.trials - self.ledger.trials <= _LAST_SHARE * self.trials
        return few or self.deadline - time.monotonic() <= _LAST_SHARE * self.span_s

    def allowed(self, count: int) -> int:
        """`count` trials, or as many as are left."""
        return count if self.trials is None else min(count, max(self.trials - self.ledger.trials, 0))

    def before(self, moment: float) -> Callable[[], bool]:
        """A `stop` that is also true from a moment on."""
        return lambda: self.stop() or time.monotonic() >= moment


@dataclass
class SearchResult:
    """The graph configuration chosen, a session for each of its tasks, and why the search ended."""

    lowered: Lowered
    sessions: dict[str, TaskSession]
    stopped_by: str
    explanations: list[str] = field(default_factory=list)


class SearchPhase:
    """Runs sessions until the budget is spent or every task is finished."""

    def __init__(
        self,
        make_session: Callable[[Task], TaskSession],
        budget: Budget,
        progress: Progress,
        batch: int,
        early_stop: int,
        floors: Callable[[Task], float],
    ) -> None:
        self._make_session = make_session
        self._budget = budget
        self._progress = progress
        self._batch = batch
        self._early_stop = early_stop
        self._lower_bounds = floors
        self._sessions: dict[str, TaskSession] = {}
        self._first_batch = FIRST_BATCH

    def run(self, variants: Sequence[Lowered]) -> SearchResult:
        """Choose among lowered variants of the model, then search the tasks of the chosen one."""
        began = time.monotonic()
        explanations: list[str] = []
        chosen = variants[0] if len(variants) == 1 else self._choose(variants, explanations)
        sessions = {task.key: self._session(task) for task in chosen.tasks}
        reserve = min(_RANK_TASK_S * len(sessions), _RANK_SHARE * max(self._budget.deadline - began, 0.0))
        self._budget.end -= reserve
        scheduler = self._scheduler(chosen, sessions)
        left_s = max(self._budget.deadline - time.monotonic(), 0.0)
        self._first_batch = int(min(max(_BREADTH_SHARE * left_s / (_TRIAL_S * len(sessions)), 1), FIRST_BATCH))
        while not self._budget.stop():
            key = scheduler.next()
            if key is None:
                break
            self._step(key, sessions, scheduler)
        for session in sessions.values():
            session.restore_rest()
        stopped_by = self._budget.spent() or "every task finished"
        self._budget.end += reserve
        explanations.extend(
            f"{sessions[view.key].task.name}: {view.sentence}" for view in scheduler.explain() if view.key in sessions
        )
        return SearchResult(chosen, sessions, stopped_by, explanations)

    def _step(self, key: str, sessions: Mapping[str, TaskSession], scheduler: TaskScheduler) -> None:
        session = sessions[key]
        began, spent_s = time.monotonic(), session.known_cost_s
        first = session.trials == 0
        if not first:
            session.measure_default()
        count = self._budget.allowed(min(self._batch, self._first_batch) if first else self._batch)
        step = session.step(count, self._budget.stop, self._budget.ending()) if count else Step(0, 0, exhausted=False)
        if step.trials and not step.measured:
            self._budget.replayed_s += time.monotonic() - began
        # The cost is that of the records: a run that is resumed will know no other.
        scheduler.report(key, step.trials, session.best_s, session.known_cost_s - spent_s, step.exhausted)
        self._show(session)

    def _session(self, task: Task) -> TaskSession:
        if task.key not in self._sessions:
            self._sessions[task.key] = self._make_session(task)
        return self._sessions[task.key]

    def _scheduler(self, lowered: Lowered, sessions: Mapping[str, TaskSession]) -> TaskScheduler:
        """A scheduler that has seen what earlier runs (and the probing) did."""
        infos = [
            TaskInfo(t.key, t.weight, t.workload.flops, sessions[t.key].untuned_s, self._lower_bounds(t))
            for t in lowered.tasks
        ]
        scheduler = TaskScheduler(infos, self._early_stop)
        for task in lowered.tasks:
            for batch in sessions[task.key].batches():
                scheduler.report(task.key, batch.trials, batch.best_s, batch.seconds)
        return scheduler

    def _choose(self, variants: Sequence[Lowered], explanations: list[str]) -> Lowered:
        """The variant whose kernels' best times, weighted by use, add up to the least after a few guesses each.

        Each variant has the same share of the probing time; one whose tasks did not all get a time is not chosen,
        unless there is no other.
        """
        share_s = _PROBE_SHARE * max(self._budget.deadline - time.monotonic(), 0.0) / len(variants)
        totals: list[float] = []
        for lowered in variants:
            until = time.monotonic() + share_s
            total = 0.0
            for task in sorted(lowered.tasks, key=lambda t: -t.weight * t.workload.flops):
                session = self._session(task)
                if time.monotonic() < until:
                    session.probe(PROBE_TRIALS, self._budget.before(until))
                    self._show(session)
                total += task.weight * (session.best_s if session.best_s is not None else float("inf"))
            totals.append(total)
            said = f"kernels take {1e3 * total:.3g} ms" if total < float("inf") else "not all kernels got a time"
            explanations.append(f"graph configuration {lowered.config.to_text()}: {said} in the probing")
        best = min(range(len(variants)), key=totals.__getitem__)
        explanations.append(f"chosen: {variants[best].config.to_text()}")
        return variants[best]

    def _show(self, session: TaskSession) -> None:
        ledger = self._budget.ledger
        self._progress.task_update(
            session.task.name,
            ledger.trials,
            session.best_s,
            session.untuned_s,
            dict(ledger.failed),
            max(self._budget.deadline - time.monotonic(), 0.0),
        )


def failures(sessions: Mapping[str, TaskSession]) -> dict[str, int]:
    """How many screenings of these tasks failed, by kind, earlier runs included."""
    counts: dict[str, int] = {}
    for session in sessions.values():
        for measurement in session.screened.values():
            if measurement.status not in (Status.OK, Status.CENSORED):
                counts[measurement.status.value] = counts.get(measurement.status.value, 0) + 1
    return counts
