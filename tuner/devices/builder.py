"""Building candidates: worker processes that schedule, extract feature vectors and compile for one kind of device."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.devices.build_service import SCHEDULES_KEPT
from tuner.process.deadlines import LEAST_BUILD_S, Durations
from tuner.process.limits import for_compilers
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Artifact, BuildFailure, Reference, Stop, Task
from tuner.records import Status

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

_FEATURE_TIMEOUT_S = 120.0
_LOAD_TIMEOUT_S = 120.0
_REFERENCE_TIMEOUT_S = 180.0


def entry_of(task_key: str, candidate: Candidate) -> str:
    """The symbol a candidate's kernel is exported as: unique for the task and the candidate."""
    digest = hashlib.sha256(candidate.to_text().encode()).hexdigest()[:12]
    return f"tuned_{task_key}_{digest}"


class _Outcome(NamedTuple):
    """Of a job: what the child said, or the exception that ended it, or None where it was never begun."""

    value: Any
    seconds: float
    slot: int | None


class LocalBuilder:
    """Build workers on this machine. Implements `protocols.Builder`.

    `codegen` is what makes a file of a scheduled candidate: see `BuildService`. A child that hangs or dies is replaced;
    only the candidate it was working on is blamed.
    """

    def __init__(self, target: str, codegen: str, folder: Path, workers: int, timeout_s: float) -> None:
        self._target = target
        self._codegen = codegen
        self._folder = folder
        self.timeout_s = timeout_s
        self._durations = Durations(LEAST_BUILD_S)
        self._count = workers
        self._children: list[Child] = []
        self._loaded: list[set[str]] = []
        self._spaces: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._scheduled_by: dict[tuple[str, str], int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def columns(self) -> tuple[str, ...]:
        from kernels.features import COLUMNS

        return COLUMNS

    @property
    def schema(self) -> str:
        from kernels.features import SCHEMA

        return SCHEMA

    def space(self, task: Task, pass_names: Sequence[str]) -> DesignSpace:
        """The design space of a task, generated in a child; also readies the pool for the task."""
        from kernels.space import DesignSpace

        workload = task.workload.to_json()
        data = self._child(0).call("space", _LOAD_TIMEOUT_S, workload=workload, pass_names=list(pass_names))
        self._spaces[task.key] = (workload, data)
        self._load_everywhere(task.key)
        return DesignSpace.from_json(data)

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        """One feature row a candidate; None where it cannot be scheduled or its features take too long."""
        chunk = max(1, -(-len(candidates) // (2 * self._count)))
        chunks = [candidates[i : i + chunk] for i in range(0, len(candidates), chunk)]
        jobs = [("features", {"task": task.key, "candidates": [c.to_text() for c in part]}) for part in chunks]
        rows: list[NDArray[np.float32] | None] = []
        for part, (answer, _, slot) in zip(chunks, self._map(task.key, jobs, _FEATURE_TIMEOUT_S), strict=True):
            if isinstance(answer, list) and slot is not None:
                rows.extend(None if row is None else np.asarray(row, dtype=np.float32) for row in answer)
                self._scheduled_by.update({(task.key, c.to_text()): slot for c in part})
            else:
                rows.extend([None] * len(part))
        while len(self._scheduled_by) > SCHEDULES_KEPT * self._count:
            del self._scheduled_by[next(iter(self._scheduled_by))]
        return rows

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        """Independent results for each seed, computed side by side: by seed.

        The reason, as text, when there is no independent evaluation of this program.
        """
        paths = [folder / f"{task.key}-{seed}.npz" for seed in seeds]
        jobs = [
            ("reference", {"task": task.key, "seed": seed, "path": str(path)})
            for seed, path in zip(seeds, paths, strict=True)
        ]
        found = {}
        answers = self._map(task.key, jobs, _REFERENCE_TIMEOUT_S)
        for seed, path, (answer, _, _) in zip(seeds, paths, answers, strict=True):
            if not isinstance(answer, dict):
                return str(answer)
            found[seed] = Reference(path, answer["dtype"], answer["reduction"])
        return found

    def build(
        self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False
    ) -> list[Artifact | BuildFailure]:
        """Build candidates in parallel; the order of the results is that of the candidates.

        A build may take a multiple of what this task's builds took, and never more than `timeout_s`. Once
        `stop()` is true nothing more is started, and the list is cut at the first candidate that was not built.
        """
        entries = [entry_of(task.key, c) for c in candidates]
        jobs = [
            ("build", {"task": task.key, "candidate": c.to_text(), "entry": entry})
            for c, entry in zip(candidates, entries, strict=True)
        ]
        made: list[Artifact | BuildFailure] = []
        limit_s = self._durations.limit(task.key, self.timeout_s)
        at_home = [self._scheduled_by.get((task.key, c.to_text())) for c in candidates]
        outcomes = self._map(task.key, jobs, limit_s, stop, at_home)
        for (outcome, seconds, _), entry in zip(outcomes, entries, strict=True):
            if outcome is None:
                break
            if isinstance(outcome, (dict, ChildTimeout)):
                self._durations.add(task.key, seconds)
            made.append(_built(outcome, seconds, entry))
        return made

    def close(self) -> None:
        for child in self._children:
            child.close()
        self._children.clear()
        self._loaded.clear()

    # --- the workers --------------------------------------------------------------------------------

    def _child(self, slot: int) -> Child:
        while len(self._children) <= slot:
            self._children.append(self._fresh())
            self._loaded.append(set())
        if not self._children[slot].alive():
            self._children[slot].close()
            self._children[slot] = self._fresh()
            self._loaded[slot] = set()
        return self._children[slot]

    def _fresh(self) -> Child:
        return Child(
            "tuner.devices.build_service:BuildService",
            {"target": self._target, "codegen": self._codegen, "folder": str(self._folder)},
            env={"TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            limits=for_compilers(),
        )

    def _load_everywhere(self, key: str) -> None:
        """Load a task's space into all children at once. One that fails at it is seen to when it is needed."""
        asked = []
        for slot in range(self._count):
            with contextlib.suppress(ChildDied):
                workload, space = self._spaces[key]
                self._child(slot).submit("load", workload=workload, space=space)
                asked.append(slot)
        for slot in asked:
            with contextlib.suppress(ChildTimeout, ChildDied, ChildError):
                self._children[slot].result(_LOAD_TIMEOUT_S)
                self._loaded[slot].add(key)

    def _ready(self, slot: int, key: str) -> Child:
        """The child in a slot, with the task's space loaded."""
        child = self._child(slot)
        if key not in self._loaded[slot]:
            workload, space = self._spaces[key]
            child.call("load", _LOAD_TIMEOUT_S, workload=workload, space=space)
            self._loaded[slot].add(key)
        return child

    def _map(
        self,
        key: str,
        jobs: Sequence[tuple[str, Mapping[str, Any]]],
        timeout_s: float,
        stop: Stop = lambda: False,
        at_home: Sequence[int | None] = (),
    ) -> list[_Outcome]:
        """Run jobs over the pool. `at_home` says of each job in which slot it takes less work, where there is one.

        A job whose child was killed from outside is done once more, in another child.
        """
        answers = [_Outcome(None, 0.0, None)] * len(jobs)
        waiting = list(range(len(jobs)))[::-1]
        busy: dict[int, tuple[int, float]] = {}
        repeated: set[int] = set()

        def ended(job: int, error: ChildTimeout | ChildDied | ChildError, seconds: float) -> None:
            answers[job] = _Outcome(error, seconds, None)
            if isinstance(error, ChildDied) and error.killed and job not in repeated:
                repeated.add(job)
                waiting.append(job)

        while waiting or busy:
            for slot in range(self._count):
                if slot not in busy and waiting and not stop():
                    job = next((j for j in reversed(waiting) if at_home and at_home[j] == slot), waiting[-1])
                    waiting.remove(job)
                    started = time.monotonic()
                    try:
                        self._ready(slot, key).submit(jobs[job][0], **jobs[job][1])
                    except (ChildTimeout, ChildDied, ChildError) as error:
                        ended(job, error, time.monotonic() - started)
                    else:
                        busy[slot] = (job, time.monotonic())
            if not busy:
                if waiting and not stop():
                    continue
                break
            first_due = min(started for _, started in busy.values()) + timeout_s
            connection.wait([self._children[s].connection for s in busy], max(0.0, first_due - time.monotonic()))
            for slot, (job, started) in list(busy.items()):
                left = started + timeout_s - time.monotonic()
                if left > 0 and not self._children[slot].ready():
                    continue
                del busy[slot]
                try:
                    answers[job] = _Outcome(
                        self._children[slot].result(max(left, 0.0)), time.monotonic() - started, slot
                    )
                except (ChildTimeout, ChildDied, ChildError) as error:
                    ended(job, error, time.monotonic() - started)
        return answers


def _built(answer: Any, seconds: float, entry: str) -> Artifact | BuildFailure:
    if isinstance(answer, ChildTimeout):
        return BuildFailure(Status.BUILD_TIMEOUT, f"not built within {seconds:.3g} s", seconds)
    if isinstance(answer, (ChildDied, ChildError)):
        return BuildFailure(Status.BUILD_FAILED, str(answer), seconds)
    if "status" in answer:
        return BuildFailure(Status(answer["status"]), answer["reason"], answer["build_s"])
    return Artifact(
        Path(answer["path"]),
        entry,
        answer["sha256"],
        answer["build_s"],
        {"bytes": os.path.getsize(answer["path"]), **answer["resources"]},
    )
