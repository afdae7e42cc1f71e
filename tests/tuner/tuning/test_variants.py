"""Choosing among lowered variants of a model by a few trials of each of its kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernels.space import Candidate, DesignSpace
from tests.null_device import NullBench, NullBuilder, space_of
from tests.tuner.tuning.on_null import Loop, allowed, task_named, timed
from tuner.graph import Choices, GraphConfig, Lowered
from tuner.protocols import Job, Policy, Task
from tuner.records import Measurement, Status
from tuner.store import SqlStore
from tuner.tuning.session import TaskSession
from tuner.tuning.variants import PROBE_TRIALS, choose

INITIAL = [Candidate(0, (a, a, a)) for a in range(4)]


class Promising(DesignSpace):
    """A space that says what to try first."""

    def initial_candidates(self, limit: int = 24) -> list[Candidate]:
        return INITIAL[:limit]


class PromisingBuilder(NullBuilder):
    def space(self, task: Task, pass_names: object) -> DesignSpace:
        plain = space_of()
        return self._spaces.setdefault(task.key, Promising(plain.target_kind, plain.sketches, plain.pass_names))


class ByTask(NullBench):
    """Each task takes its own time; None: nothing of it works. `jobs` counts them by task."""

    def __init__(self, seconds: dict[str, float | None]) -> None:
        super().__init__()
        self._seconds = seconds
        self.jobs: dict[str, int] = {}

    def measure(self, job: Job, policy: Policy) -> Measurement:
        self.jobs[job.task] = self.jobs.get(job.task, 0) + 1
        seconds = self._seconds[job.task]
        return Measurement(Status.RUN_FAILED, reason="SIGSEGV") if seconds is None else timed(seconds)


TASKS = {name: task_named(name, weight=2 if name == "twice" else 1) for name in ("a", "b", "c", "twice")}


def variant(layout: str, *names: str) -> Choices:
    return Choices(Lowered(None, GraphConfig(layout), tuple(TASKS[name] for name in names)))


class Choice:
    """What was chosen among variants, and what it took."""

    def __init__(
        self,
        folder: Path,
        store: SqlStore,
        seconds: dict[str, float | None],
        *variants: Choices,
        budget_s: float = 600.0,
    ) -> None:
        loop = Loop(folder, store)
        loop.device.builder = PromisingBuilder(folder / "built")
        self.bench = loop.device.bench = ByTask({TASKS[name].key: s for name, s in seconds.items()})
        searcher = loop.searcher()
        self.sessions: dict[str, TaskSession] = {}
        self.shown: list[str] = []

        def session_of(task: Task) -> TaskSession:
            return self.sessions.setdefault(task.key, searcher.start(task))

        def show(session: TaskSession) -> None:
            self.shown.append(session.task.name)

        self.chosen, self.why = choose(variants, session_of, allowed(searcher, seconds=budget_s), show)


def test_one_variant_needs_no_choice(tmp_path: Path, store: SqlStore) -> None:
    only = variant("NCHW", "a")
    made = Choice(tmp_path, store, {"a": 1.0}, only)
    assert (made.chosen, made.why, made.bench.jobs) == (only, [], {})


def test_the_one_whose_kernels_take_least_together_is_chosen(tmp_path: Path, store: SqlStore) -> None:
    first, second = variant("NCHW", "a", "b"), variant("NHWC", "c")
    made = Choice(tmp_path, store, {"a": 1.0, "b": 2.0, "c": 2.5}, first, second)
    assert made.chosen is second
    assert "layout=NCHW fusion_depth=-1: kernels take 3e+03 ms in the probing" in made.why[0]
    assert made.why[-1] == "chosen: layout=NHWC fusion_depth=-1"
    assert made.shown == ["a", "b", "c"]


def test_a_kernel_counts_as_often_as_it_is_called(tmp_path: Path, store: SqlStore) -> None:
    made = Choice(tmp_path, store, {"twice": 2.0, "c": 3.0}, variant("NCHW", "twice"), variant("NHWC", "c"))
    assert made.chosen.lowered.config.layout == "NHWC"


def test_a_few_initial_candidates_of_each_kernel_are_tried_and_none_twice(tmp_path: Path, store: SqlStore) -> None:
    made = Choice(tmp_path, store, {"a": 1.0, "b": 2.0}, variant("NCHW", "a", "b"), variant("NHWC", "b", "a"))
    assert set(made.bench.jobs.values()) == {PROBE_TRIALS}
    records = store.read()
    assert {r.candidate for r in records} == {c.to_text() for c in INITIAL[:PROBE_TRIALS]}
    assert {r.proposer for r in records} == {"initial"}
    assert {r.measurement.conditions.batch for r in records} == {0}


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_one_whose_kernels_did_not_all_get_a_time_is_not_chosen(
    order: tuple[str, str], tmp_path: Path, store: SqlStore
) -> None:
    made = Choice(tmp_path, store, {"a": None, "b": 9.0}, *(variant(f"NCHW{i}c", name) for i, name in enumerate(order)))
    assert [task.name for task in made.chosen.lowered.tasks] == ["b"]
    assert any("not all kernels got a time" in sentence for sentence in made.why)


def test_where_none_has_times_the_first_is_taken(tmp_path: Path, store: SqlStore) -> None:
    made = Choice(tmp_path, store, {"a": None, "b": None}, variant("NCHW", "a"), variant("NHWC", "b"))
    assert made.chosen.lowered.config.layout == "NCHW"


def test_without_time_nothing_is_probed(tmp_path: Path, store: SqlStore) -> None:
    made = Choice(tmp_path, store, {"a": 1.0, "b": 1.0}, variant("NCHW", "a"), variant("NHWC", "b"), budget_s=0.0)
    assert (made.bench.jobs, made.shown) == ({}, [])
    assert made.chosen.lowered.config.layout == "NCHW"
