"""Jobs on several workers: every job once, the longest first, and no worker idle for long."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.process.dispatch import dispatch, finish_s, longest_first

seconds = st.lists(st.floats(0.001, 100, allow_nan=False), min_size=1, max_size=9)


@given(seconds, st.integers(1, 3))
def test_the_last_worker_is_done_within_a_third_of_the_best_there_is(predicted: list[float], workers: int) -> None:
    if len(predicted) > 7:
        predicted = predicted[:7]
    best = min(
        max(sum(p for p, where in zip(predicted, placed, strict=True) if where == w) for w in range(workers))
        for placed in itertools.product(range(workers), repeat=len(predicted))
    )
    assert best - 1e-9 <= finish_s(predicted, workers) <= best * (4 / 3 - 1 / (3 * workers)) + 1e-9


def test_the_longest_come_first_and_ties_as_they_came() -> None:
    assert longest_first([1.0, 3.0, 2.0, 3.0]) == [1, 3, 2, 0]


def test_every_job_is_done_once_by_workers_that_share_them() -> None:
    done: list[tuple[int, int]] = []
    lock = threading.Lock()

    def work(worker: int, job: int) -> None:
        time.sleep(0.002)
        with lock:
            done.append((worker, job))

    dispatch(range(40), [1.0] * 40, [0, 1, 2], work)
    assert sorted(job for _, job in done) == list(range(40))
    assert {worker for worker, _ in done} == {0, 1, 2}


def test_a_slow_worker_gets_less() -> None:
    counts = {0: 0, 1: 0}

    def work(worker: int, job: int) -> None:
        time.sleep(0.02 if worker else 0.002)
        counts[worker] += 1

    dispatch(range(60), [1.0] * 60, [0, 1], work)
    assert counts[0] > 2 * counts[1]


def test_an_error_ends_it_and_is_raised_here() -> None:
    done: list[int] = []

    def work(worker: int, job: int) -> None:
        if job == 3:
            raise RuntimeError("worker down")
        time.sleep(0.01)
        done.append(job)

    with pytest.raises(RuntimeError, match="worker down"):
        dispatch(range(1000), list(range(1000, 0, -1)), [0, 1], work)
    assert len(done) < 100


def test_nothing_is_handed_out_after_a_stop() -> None:
    done: list[int] = []
    dispatch(range(10), [1.0] * 10, [0], lambda worker, job: done.append(job), lambda: len(done) >= 4)
    assert len(done) == 4
