"""A dispatcher: many jobs on several workers, one a device, from one queue, the longest jobs first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

Job = TypeVar("Job")
Worker = TypeVar("Worker")


def longest_first(predicted_s: Sequence[float]) -> list[int]:
    """The order in which jobs are dispatched: by predicted seconds, the longest first, ties in their order.

    Workers that take the next job whenever they are free then end at most 4/3 - 1/(3 workers) times as late as
    with the best assignment (Graham, "Bounds on multiprocessing timing anomalies", 1969).
    """
    return sorted(range(len(predicted_s)), key=lambda i: (-predicted_s[i], i))


def finish_s(predicted_s: Sequence[float], workers: int) -> float:
    """Seconds until the last worker is done, if the predictions are right."""
    busy_until = [0.0] * workers
    for i in longest_first(predicted_s):
        first = min(range(workers), key=busy_until.__getitem__)
        busy_until[first] += predicted_s[i]
    return max(busy_until)


def dispatch(
    jobs: Sequence[Job],
    predicted_s: Sequence[float],
    workers: Sequence[Worker],
    work: Callable[[Worker, Job], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Call `work(worker, job)` once for every job; each worker does one at a time, in a thread of its own.

    No further job is begun once `stop()` is true, or a call of `work` has raised: the first such error is raised here
    when the other workers are done with the jobs that they have.
    """
    waiting = [jobs[i] for i in longest_first(predicted_s)][::-1]
    lock = threading.Lock()
    errors: list[BaseException] = []

    def next_job() -> list[Job]:
        with lock:
            return [] if stop() or errors or not waiting else [waiting.pop()]

    def serve(worker: Worker) -> None:
        while job := next_job():
            try:
                work(worker, *job)
            except BaseException as error:  # noqa: BLE001 - a thread's error is raised where the threads were started
                with lock:
                    errors.append(error)

    threads = [threading.Thread(target=serve, args=(worker,), daemon=True) for worker in workers[1:]]
    for thread in threads:
        thread.start()
    serve(workers[0])  # in the thread that Ctrl-C reaches
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
