"""Which task gets the next batch of trials: the one where a second of tuning is expected to save most.

The end-to-end time is the sum over tasks of weight times best time. A batch for a task is worth

    weight * best_s * expected relative improvement / expected seconds of the batch

where, as in Ansor (Zheng et al., OSDI 2020, section 6), the improvement blends what was seen with an
optimistic guess, so that a task is not given up for one unlucky batch. What was seen is d, the
log ratio of the best time after half of the batches to the best time now. Best times fall roughly like a
power of the number of batches n; then doubling n brings d again, and the next batch d / (n ln 2). The guess
counts like two batches and loses its say as evidence comes in. No task is expected to fall below its
lower bound.

Tasks of one group compute the same by different algorithms: only the fastest counts. A slower one is worth what it
is expected to fall below the fastest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

IMPROVEMENT = 0.01
"""A best time must fall by more than this share to count as progress for the early stop."""

_AT_LIMIT = 1.03
"""A best time within this of the lower bound has nothing left to gain that a measurement could show."""

_GUESS = 0.35
_GUESS_WEIGHT = 2.0
"""The optimistic guess of d (doubling the trials saves 30 %), and how many batches of evidence it counts like."""


@dataclass(frozen=True)
class TaskInfo:
    """What is known of a task before it is tuned.

    `weight`: calls an inference. `untuned_s`: time of the default schedule, if measured. `lower_bound_s`: no
    implementation can be faster. `group`: only the fastest of the tasks that have the same one counts.
    """

    key: str
    weight: int = 1
    flops: float = 0.0
    untuned_s: float | None = None
    lower_bound_s: float = 0.0
    group: str | None = None


@dataclass
class TaskState:
    """Where a task stands. `history` has (trials, seconds spent, best seconds or None) after each batch."""

    info: TaskInfo
    trials: int = 0
    seconds: float = 0.0
    best_s: float | None = None
    progress_at: int = 0
    progress_s: float | None = None
    finished: str = ""
    history: list[tuple[int, float, float | None]] = field(default_factory=list)


@dataclass(frozen=True)
class TaskView:
    """One row of `explain`: all that a report says about how a task was scheduled."""

    key: str
    trials: int
    batches: int
    seconds: float
    best_s: float | None
    gain_per_s: float
    sentence: str


class TaskScheduler:
    """Hands out tasks, one batch at a time. Deterministic: ties go to the task listed first.

    A task is finished when `early_stop` trials in a row brought no improvement of over 1 %, when it is as fast as the
    machine allows, or when it is reported exhausted.
    """

    def __init__(self, tasks: Sequence[TaskInfo], early_stop: int) -> None:
        if len({t.key for t in tasks}) != len(tasks):
            raise ValueError("two tasks have the same key")
        if early_stop < 1:
            raise ValueError(f"early_stop is a positive number of trials, not {early_stop}")
        self._tasks = {t.key: TaskState(t) for t in tasks}
        self._early_stop = early_stop

    def next(self) -> str | None:
        """The key of the task to spend the next batch on; None when all are finished."""
        open_tasks = [s for s in self._tasks.values() if not s.finished]
        if not open_tasks:
            return None
        untried = [s for s in open_tasks if not s.history]
        if untried:
            return max(untried, key=self._share_s).info.key
        best = max(open_tasks, key=self._gain_per_s)
        for state in open_tasks:
            if self._rival_s(state) < math.inf and self._gain_per_s(state) <= 0.0:
                self.finish(state.info.key, "another algorithm is faster")
        return None if self.finished else best.info.key

    def report(
        self, key: str, trials: int, best_s: float | None, seconds_spent: float, exhausted: bool = False
    ) -> None:
        """What one batch took and brought.

        `trials` and `seconds_spent` are those of this batch; `best_s` is the best time the task has
        ever had, None when no candidate worked yet.
        """
        state = self._tasks[key]
        state.trials += trials
        state.seconds += seconds_spent
        if best_s is not None and (state.best_s is None or best_s < state.best_s):
            state.best_s = best_s
        if state.best_s is not None and (
            state.progress_s is None or state.best_s < state.progress_s * (1 - IMPROVEMENT)
        ):
            state.progress_s, state.progress_at = state.best_s, state.trials
        state.history.append((state.trials, state.seconds, state.best_s))
        if exhausted:
            self.finish(key, "its space is used up")
        elif state.best_s is not None and state.best_s <= _AT_LIMIT * state.info.lower_bound_s:
            self.finish(key, f"within {_AT_LIMIT - 1:.0%} of what the machine can do")
        elif state.trials - state.progress_at >= self._early_stop:
            idle = state.trials - state.progress_at
            self.finish(key, f"{idle} trials without 1 % of improvement")

    def finish(self, key: str, reason: str) -> None:
        """Give this task no more batches. The first reason stays."""
        self._tasks[key].finished = self._tasks[key].finished or reason

    @property
    def finished(self) -> bool:
        return all(s.finished for s in self._tasks.values())

    def explain(self) -> list[TaskView]:
        """One row a task, those with the most time in the model first."""
        ordered = sorted(self._tasks.values(), key=self._share_s, reverse=True)
        shares = {s.info.key: 0.0 if self._rival_s(s) < (s.best_s or math.inf) else self._share_s(s) for s in ordered}
        total = sum(shares.values())
        return [
            TaskView(
                key=s.info.key,
                trials=s.trials,
                batches=len(s.history),
                seconds=s.seconds,
                best_s=s.best_s,
                gain_per_s=self._gain_per_s(s),
                sentence=self._sentence(s, shares[s.info.key] / total if total else 0.0),
            )
            for s in ordered
        ]

    # --- estimates --------------------------------------------------------------------------------

    def _share_s(self, state: TaskState) -> float:
        """Seconds of one inference spent in the task: measured if possible, else by its flops."""
        time_s = state.best_s if state.best_s is not None else state.info.untuned_s
        if time_s is None:
            time_s = max(state.info.flops, 1.0) * self._seconds_per_flop()
        return state.info.weight * time_s

    def _seconds_per_flop(self) -> float:
        """Of the tasks with a time, all together; 1 ns while there is none (only the order matters then)."""
        timed = [
            (s.best_s or s.info.untuned_s or 0.0, s.info.flops)
            for s in self._tasks.values()
            if s.info.flops > 0 and (s.best_s or s.info.untuned_s)
        ]
        return sum(t for t, _ in timed) / sum(f for _, f in timed) if timed else 1e-9

    def _gain_per_s(self, state: TaskState) -> float:
        """Seconds of inference saved a second of tuning, if this task gets the next batch."""
        if state.finished or not state.history:
            return 0.0 if state.finished else self._share_s(state)
        cost_s = state.seconds / len(state.history)
        saved_s = self._share_s(state) * _improvement(state)
        rival_s = self._rival_s(state)
        if state.best_s is not None and rival_s < state.best_s:
            saved_s -= state.info.weight * (state.best_s - rival_s)
        return max(saved_s, 0.0) / max(cost_s, 1e-3)

    def _rival_s(self, state: TaskState) -> float:
        """The best seconds of the other tasks of its group; infinite where there are none."""
        group = state.info.group
        others = [s.best_s for s in self._tasks.values() if s.info.group == group and s is not state and s.best_s]
        return min(others, default=math.inf) if group is not None else math.inf

    def _sentence(self, state: TaskState, share: float) -> str:
        head = f"{state.trials} trials in {state.seconds:.0f} s, now {share:.0%} of the model's kernel time"
        return f"{head}; stopped: {state.finished}" if state.finished else f"{head}; still open"


def _improvement(state: TaskState) -> float:
    """The expected relative improvement by the next batch, from 0 to 1; the module docstring derives it."""
    batches = len(state.history)
    half_s = state.history[batches // 2 - 1][2] if batches > 1 else None
    seen, weight = 0.0, 0.0
    if state.best_s is not None and half_s is not None:
        seen, weight = math.log(half_s / state.best_s), (batches + 1) // 2
    elif state.best_s is None:
        weight = batches  # batch after batch in which nothing works is evidence too
    doubling = (seen * weight + _GUESS * _GUESS_WEIGHT) / (weight + _GUESS_WEIGHT)
    room = 1.0 if state.best_s is None else max(1 - state.info.lower_bound_s / state.best_s, 0.0)
    return min(doubling / (batches * math.log(2)), room)
