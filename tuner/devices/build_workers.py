"""The children of a builder, each with the spaces that were loaded into it, and how jobs are divided among them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any, NamedTuple

from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Stop

LOAD_TIMEOUT_S = 120.0


class Outcome(NamedTuple):
    """Of a job: the child's reply, or the exception that ended it, or None where it was never begun; its seconds; and
    the number of the child that replied."""

    value: Any
    seconds: float
    worker: int | None


class BuildJob(NamedTuple):
    """An operation of a BuildService. `preferred` is the worker for which it is less work, where there is one."""

    operation: str
    arguments: Mapping[str, Any]
    preferred: int | None = None


@dataclass
class _Queue:
    """The jobs of one call of `BuildWorkers.map`: those that wait (the next one last), those at work, the outcomes.

    `busy` has, by worker, the number of its job and the moment when that was begun.
    """

    jobs: Sequence[BuildJob]
    waiting: list[int] = field(init=False)
    busy: dict[int, tuple[int, float]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(init=False)
    repeated: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.waiting = list(range(len(self.jobs)))[::-1]
        self.outcomes = [Outcome(None, 0.0, None)] * len(self.jobs)

    def take(self, worker: int) -> int:
        """The next job for a worker: one that prefers it, if there is any."""
        number = next((n for n in reversed(self.waiting) if self.jobs[n].preferred == worker), self.waiting[-1])
        self.waiting.remove(number)
        return number

    def failed(self, number: int, error: ChildTimeout | ChildDied | ChildError, seconds: float) -> None:
        """A job ended with an error. Where its child was killed from outside it waits again, once."""
        self.outcomes[number] = Outcome(error, seconds, None)
        if isinstance(error, ChildDied) and error.killed and number not in self.repeated:
            self.repeated.add(number)
            self.waiting.append(number)


class BuildWorkers:
    """`count` children made by `start`, each when it is first needed. One that hangs or dies is replaced."""

    def __init__(self, count: int, start: Callable[[], Child]) -> None:
        self._count = count
        self._start = start
        self._children: list[Child] = []
        self._loaded: list[set[str]] = []
        self._spaces: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def child(self, worker: int) -> Child:
        """A child that is alive."""
        while len(self._children) <= worker:
            self._children.append(self._start())
            self._loaded.append(set())
        if not self._children[worker].alive():
            self._children[worker].close()
            self._children[worker] = self._start()
            self._loaded[worker] = set()
        return self._children[worker]

    def load(self, key: str, workload: dict[str, Any], space: dict[str, Any]) -> None:
        """Load a task's space into all children at once. One that fails at it gets the space with its next job."""
        self._spaces[key] = (workload, space)
        asked = []
        for worker in range(self._count):
            with contextlib.suppress(ChildDied):
                self.child(worker).submit("load", workload=workload, space=space)
                asked.append(worker)
        for worker in asked:
            with contextlib.suppress(ChildTimeout, ChildDied, ChildError):
                self._children[worker].result(LOAD_TIMEOUT_S)
                self._loaded[worker].add(key)

    def map(self, key: str, jobs: Sequence[BuildJob], timeout_s: float, stop: Stop = lambda: False) -> list[Outcome]:
        """The outcomes of a task's jobs, in their order. Once `stop()` is true no further job is begun.

        A job whose child was killed from outside is done once more, in another child.
        """
        queue = _Queue(jobs)
        while queue.waiting or queue.busy:
            self._begin(queue, key, stop)
            if queue.busy:
                self._finish(queue, timeout_s)
            elif stop():
                break
        return queue.outcomes

    def close(self) -> None:
        for child in self._children:
            child.close()
        self._children.clear()
        self._loaded.clear()

    def _begin(self, queue: _Queue, key: str, stop: Stop) -> None:
        """Give a job to each worker that is free."""
        for worker in range(self._count):
            if worker in queue.busy or not queue.waiting or stop():
                continue
            number = queue.take(worker)
            began = time.monotonic()
            try:
                self._ready(worker, key).submit(queue.jobs[number].operation, **queue.jobs[number].arguments)
            except (ChildTimeout, ChildDied, ChildError) as error:
                queue.failed(number, error, time.monotonic() - began)
            else:
                queue.busy[worker] = (number, time.monotonic())

    def _finish(self, queue: _Queue, timeout_s: float) -> None:
        """Wait for a reply or the first deadline; take what was replied, and end what is late."""
        first_due = min(began for _, began in queue.busy.values()) + timeout_s
        pipes = [self._children[worker].connection for worker in queue.busy]
        connection.wait(pipes, max(0.0, first_due - time.monotonic()))
        for worker, (number, began) in list(queue.busy.items()):
            left_s = began + timeout_s - time.monotonic()
            if left_s > 0 and not self._children[worker].ready():
                continue
            del queue.busy[worker]
            try:
                value = self._children[worker].result(max(left_s, 0.0))
            except (ChildTimeout, ChildDied, ChildError) as error:
                queue.failed(number, error, time.monotonic() - began)
            else:
                queue.outcomes[number] = Outcome(value, time.monotonic() - began, worker)

    def _ready(self, worker: int, key: str) -> Child:
        """A child with the task's space loaded."""
        child = self.child(worker)
        if key not in self._loaded[worker]:
            workload, space = self._spaces[key]
            child.call("load", LOAD_TIMEOUT_S, workload=workload, space=space)
            self._loaded[worker].add(key)
        return child
