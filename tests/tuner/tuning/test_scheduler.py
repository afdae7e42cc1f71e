"""The scheduler against curves of best time over trials whose end is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from tuner.tuning.scheduler import TaskInfo, TaskScheduler


@dataclass(frozen=True)
class Curve:
    """best(n) = floor + (start - floor) * (batch / n) ** steepness, in batches of 16 trials."""

    key: str
    weight: int
    start_s: float
    lower_bound_s: float
    steepness: float
    batch_s: float = 4.0

    def best_s(self, batches: int) -> float:
        return self.lower_bound_s + (self.start_s - self.lower_bound_s) * math.pow(batches, -self.steepness)

    @property
    def info(self) -> TaskInfo:
        return TaskInfo(self.key, self.weight, flops=self.start_s * 1e10)


CURVES = [
    Curve("heavy", 6, 3e-3, 0.6e-3, 0.8),
    Curve("flat", 4, 2e-3, 1.99e-3, 1.0),
    Curve("light", 1, 0.3e-3, 0.1e-3, 0.8),
    Curve("slow to build", 2, 3e-3, 1e-3, 0.8, batch_s=16.0),
    *(Curve(f"tiny {i}", 1, 0.05e-3, 0.02e-3, 0.8) for i in range(8)),
]


def spend(
    curves: Sequence[Curve], budget_s: float, choose: Callable[[], str | None], scheduler: TaskScheduler
) -> dict[str, int]:
    """Batches each task got until the budget is spent."""
    by_key = {c.key: c for c in curves}
    batches = dict.fromkeys(by_key, 0)
    while budget_s > 0 and (key := choose()) is not None:
        batches[key] += 1
        curve = by_key[key]
        scheduler.report(key, 16, curve.best_s(batches[key]), curve.batch_s)
        budget_s -= curve.batch_s
    return batches


def end_to_end_s(curves: Sequence[Curve], batches: dict[str, int]) -> float:
    return sum(c.weight * (c.best_s(batches[c.key]) if batches[c.key] else c.start_s) for c in curves)


def scheduler(curves: Sequence[Curve] = CURVES, early_stop: int = 10_000) -> TaskScheduler:
    return TaskScheduler([c.info for c in curves], early_stop)


@pytest.mark.parametrize("budget_s", [120.0, 300.0, 600.0])
def test_beats_round_robin(budget_s: float) -> None:
    ours = scheduler()
    mine = spend(CURVES, budget_s, ours.next, ours)
    turns = (CURVES[i % len(CURVES)].key for i in range(10**6))
    theirs = spend(CURVES, budget_s, lambda: next(turns), scheduler())
    assert end_to_end_s(CURVES, mine) < end_to_end_s(CURVES, theirs)


def test_spends_where_the_time_is() -> None:
    ours = scheduler()
    batches = spend(CURVES, 400.0, ours.next, ours)
    assert min(batches.values()) >= 1
    assert batches["heavy"] == max(batches.values())
    assert batches["heavy"] > 2 * batches["light"]
    assert batches["heavy"] > 1.5 * batches["flat"]  # more of the model, but nothing to be had
    assert batches["heavy"] > 2 * batches["slow to build"]
    assert batches["light"] >= batches["tiny 0"]


def test_early_stop_gives_the_time_to_others() -> None:
    ours = scheduler(early_stop=64)
    batches = spend(CURVES, 400.0, ours.next, ours)
    assert batches["flat"] == 5
    assert batches["heavy"] > 20


def test_first_batches_go_by_estimated_share() -> None:
    ours = TaskScheduler([TaskInfo("a", 1, 10.0), TaskInfo("b", 3, 5.0), TaskInfo("c", 1, 1.0, untuned_s=1.0)], 100)
    # c, the only one with a time, says what a flop costs: a is estimated at 10 s, b at 15 s
    order = []
    for _ in range(3):
        key = ours.next()
        assert key is not None
        order.append(key)
        ours.report(key, 16, 0.5, 1.0)
    assert order[0] == "b"
    assert sorted(order) == ["a", "b", "c"]


def test_task_at_its_floor_gets_nothing_while_another_can_gain() -> None:
    ours = TaskScheduler([TaskInfo("at floor", 100, 1.0, lower_bound_s=1e-3), TaskInfo("open", 1, 1.0)], 1000)
    for key in ("at floor", "open"):
        ours.report(key, 16, 1e-3, 1.0)
    for _ in range(5):
        assert ours.next() == "open"
        ours.report("open", 16, 1e-3, 1.0)


def test_stops_early_without_progress() -> None:
    ours = TaskScheduler([TaskInfo("a")], early_stop=32)
    ours.report("a", 16, 1.0, 1.0)
    ours.report("a", 16, 0.995, 1.0)  # half a percent is no progress
    assert ours.next() == "a"
    ours.report("a", 16, 0.991, 1.0)
    assert ours.next() is None
    assert ours.finished
    assert "32 trials without" in ours.explain()[0].sentence


def test_slow_progress_adds_up() -> None:
    ours = TaskScheduler([TaskInfo("a")], early_stop=32)
    best_s = 1.0
    for _ in range(20):
        ours.report("a", 16, best_s, 1.0)
        assert ours.next() == "a"
        best_s *= 0.994


def test_task_that_never_works_is_finished() -> None:
    ours = TaskScheduler([TaskInfo("a", flops=1e9), TaskInfo("b", flops=1e6)], early_stop=48)
    for _ in range(3):
        assert not ours.finished
        ours.report("a", 16, None, 1.0)
    assert ours.next() == "b"
    ours.report("b", 16, 1.0, 1.0, exhausted=True)
    assert ours.next() is None


def test_finish_keeps_the_first_reason() -> None:
    ours = TaskScheduler([TaskInfo("a")], 10)
    ours.finish("a", "told so")
    ours.finish("a", "later")
    assert ours.explain()[0].sentence.endswith("stopped: told so")
    assert ours.next() is None


def test_a_worse_best_does_not_undo_a_better_one() -> None:
    ours = TaskScheduler([TaskInfo("a")], 100)
    for best_s in (1.0, 2.0, None):
        ours.report("a", 16, best_s, 1.0)
    assert ours.explain()[0].best_s == 1.0


def test_explains_every_task_largest_share_first() -> None:
    ours = scheduler()
    batches = spend(CURVES, 200.0, ours.next, ours)
    views = ours.explain()
    assert {v.key: v.batches for v in views} == batches
    assert all(v.trials == 16 * v.batches for v in views)
    shares = [c.weight * (v.best_s or 0) for v in views for c in CURVES if c.key == v.key]
    assert shares == sorted(shares, reverse=True)


def test_nothing_to_schedule() -> None:
    assert TaskScheduler([], 10).next() is None


def test_no_time_passed_is_no_error() -> None:
    ours = TaskScheduler([TaskInfo("a")], 100)
    ours.report("a", 0, None, 0.0)
    assert ours.next() == "a"


@pytest.mark.parametrize(("tasks", "early_stop"), [([TaskInfo("a"), TaskInfo("a")], 10), ([TaskInfo("a")], 0)])
def test_nonsense_is_refused(tasks: list[TaskInfo], early_stop: int) -> None:
    with pytest.raises(ValueError, match=r"same key|positive"):
        TaskScheduler(tasks, early_stop)


def test_a_task_at_the_limit_of_the_machine_gets_no_more() -> None:
    tasks = TaskScheduler(
        [TaskInfo("at its limit", 100, lower_bound_s=1e-3), TaskInfo("open", 1, lower_bound_s=1e-6)], 10_000
    )
    tasks.report("at its limit", 16, 1.04e-3, 1.0)
    assert not any("of what the machine can do" in view.sentence for view in tasks.explain())
    tasks.report("at its limit", 16, 1.02e-3, 1.0)
    tasks.report("open", 16, 1.02e-3, 1.0)
    assert [tasks.next() for _ in range(3)] == ["open"] * 3
    assert "stopped: within 3% of what the machine can do" in tasks.explain()[0].sentence


def test_only_the_fastest_of_a_group_counts() -> None:
    infos = [TaskInfo(name, 2, 1e9, group="kernel") for name in ("direct", "winograd")] + [TaskInfo("else", 1, 1e8)]
    made = TaskScheduler(infos, early_stop=192)
    for key, best_s in (("direct", 3e-3), ("winograd", 1e-3), ("else", 1e-6)):
        made.report(key, 16, best_s, 1.0)
    assert made.next() == "winograd"
    views = {view.key: view.sentence for view in made.explain()}
    assert "another algorithm is faster" in views["direct"]
    assert "0% of the model's kernel time" in views["direct"]


def test_one_that_is_nearly_as_fast_as_another_of_its_group_is_searched_on() -> None:
    made = TaskScheduler([TaskInfo(name, 1, 1e9, group="kernel") for name in ("direct", "winograd")], early_stop=192)
    made.report("direct", 16, 1.1e-3, 1.0)
    made.report("winograd", 16, 1.0e-3, 100.0)
    assert made.next() == "direct"
