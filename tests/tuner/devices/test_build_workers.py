"""How jobs are divided among the children of a builder, with children that only sleep, fail or die as they are told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tuner.devices.build_workers import BuildJob, BuildWorkers
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout


class Service:
    """A child's service: has a space to load, like a BuildService, and says which process did a job."""

    def __init__(self) -> None:
        self._loaded: list[Any] = []

    def op_load(self, workload: Any, space: Any) -> None:
        self._loaded.append((workload, space))

    def op_work(self, seconds: float = 0.0) -> dict[str, Any]:
        time.sleep(seconds)
        return {"pid": os.getpid(), "loaded": self._loaded}

    def op_fail(self) -> None:
        raise ValueError("no such loop")

    def op_die_unless(self, path: str) -> int:
        """Die of SIGKILL; where the file is there, live. Makes the file."""
        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()


@pytest.fixture
def workers() -> Iterator[BuildWorkers]:
    made = BuildWorkers(2, lambda: Child(f"{__name__}:Service"))
    made.load("task", {"a": 1}, {"b": 2})
    yield made
    made.close()


def test_jobs_are_shared_and_their_order_kept(workers: BuildWorkers) -> None:
    outcomes = workers.map("task", [BuildJob("work", {"seconds": s}) for s in (0.4, 0.0, 0.0)], 20)
    assert [outcome.value["loaded"] for outcome in outcomes] == 3 * [[[{"a": 1}, {"b": 2}]]]
    slow, *quick = [outcome.value["pid"] for outcome in outcomes]
    assert slow not in quick
    assert outcomes[0].seconds >= 0.4
    assert {outcome.worker for outcome in outcomes} == {0, 1}


def test_a_worker_takes_the_job_that_prefers_it(workers: BuildWorkers) -> None:
    outcomes = workers.map("task", [BuildJob("work", {}, 1), BuildJob("work", {}, 0)], 20)
    assert [outcome.worker for outcome in outcomes] == [1, 0]


def test_only_the_job_that_fails_hangs_or_dies_is_blamed(workers: BuildWorkers, tmp_path: Any) -> None:
    jobs = [BuildJob("fail", {}), BuildJob("work", {"seconds": 60}), BuildJob("work", {})]
    failed, late, fine = workers.map("task", jobs, 1.0)
    assert isinstance(failed.value, ChildError)
    assert isinstance(late.value, ChildTimeout)
    assert fine.value["pid"]
    [fine] = workers.map("task", [BuildJob("work", {}, late.worker)], 20)
    assert fine.value["loaded"] == [[{"a": 1}, {"b": 2}]], "a new child is given the space, too"


def test_a_job_whose_child_was_killed_is_done_once_more(workers: BuildWorkers, tmp_path: Any) -> None:
    [outcome] = workers.map("task", [BuildJob("die_unless", {"path": str(tmp_path / "there")})], 20)
    assert isinstance(outcome.value, int)
    always = [BuildJob("die_unless", {"path": "/nowhere/there"})]
    [outcome] = workers.map("task", always, 20)
    assert isinstance(outcome.value, (ChildDied, ChildError))


def test_nothing_is_begun_after_the_stop(workers: BuildWorkers) -> None:
    begun: list[int] = []

    def stop() -> bool:
        begun.append(1)
        return len(begun) > 2

    outcomes = workers.map("task", [BuildJob("work", {})] * 6, 20, stop)
    assert [outcome.value is not None for outcome in outcomes] == [True, True, False, False, False, False]
