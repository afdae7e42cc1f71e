"""Building candidates: worker processes that schedule, extract feature vectors and compile for one kind of device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuner.devices.build_service import SCHEDULES_KEPT
from tuner.devices.build_workers import LOAD_TIMEOUT_S, BuildJob, BuildWorkers, Outcome
from tuner.process.deadlines import LEAST_BUILD_S, Durations
from tuner.process.limits import for_compilers
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Artifact, BuildFailure, Reference, Stop, Task
from tuner.records import Status

if TYPE_CHECKING:
    from kernels.shares import Shares
    from kernels.space import Candidate, DesignSpace

_FEATURE_TIMEOUT_S = 120.0
_REFERENCE_TIMEOUT_S = 180.0


def entry_of(task_key: str, candidate: Candidate) -> str:
    """The symbol a candidate's kernel is exported as: unique for the task and the candidate."""
    digest = hashlib.sha256(candidate.to_text().encode()).hexdigest()[:12]
    return f"tuned_{task_key}_{digest}"


class LocalBuilder:
    """Build workers on this machine. Implements `protocols.Builder`.

    `target` is a TVM target as JSON, `codegen` what makes a file in `folder` of a scheduled candidate: see
    `BuildService`. A child that hangs or dies is replaced; only the candidate it was working on is blamed.
    """

    def __init__(self, target: str, codegen: str, folder: Path, workers: int, timeout_s: float) -> None:
        self._target = target
        self._codegen = codegen
        self._folder = folder
        self.timeout_s = timeout_s
        self._durations = Durations(LEAST_BUILD_S)
        self._count = workers
        self._workers = BuildWorkers(workers, self._child)
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
        """The design space of a task, generated in a child; also loads it into all workers."""
        from kernels.space import DesignSpace

        workload = task.workload.to_json()
        names = list(pass_names)
        data = self._workers.child(0).call("space", LOAD_TIMEOUT_S, workload=workload, pass_names=names)
        self._workers.load(task.key, workload, data)
        return DesignSpace.from_json(data)

    def load(self, task: Task, space: DesignSpace) -> None:
        """Take another design space of a task: what is built next are its candidates."""
        self._workers.load(task.key, task.workload.to_json(), space.to_json())

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[NDArray[np.float32] | None]:
        """One feature vector a candidate; None where it cannot be scheduled or its features take too long."""
        size = max(1, -(-len(candidates) // (2 * self._count)))
        chunks = [candidates[i : i + size] for i in range(0, len(candidates), size)]
        jobs = [
            BuildJob("features", {"task": task.key, "candidates": [c.to_text() for c in chunk]}) for chunk in chunks
        ]
        vectors: list[NDArray[np.float32] | None] = []
        for chunk, outcome in zip(chunks, self._workers.map(task.key, jobs, _FEATURE_TIMEOUT_S), strict=True):
            if isinstance(outcome.value, list) and outcome.worker is not None:
                vectors.extend(None if v is None else np.asarray(v, dtype=np.float32) for v in outcome.value)
                self._scheduled_by.update({(task.key, c.to_text()): outcome.worker for c in chunk})
            else:
                vectors.extend([None] * len(chunk))
        while len(self._scheduled_by) > SCHEDULES_KEPT * self._count:
            del self._scheduled_by[next(iter(self._scheduled_by))]
        return vectors

    def reference(self, task: Task, seeds: Sequence[int], folder: Path) -> dict[int, Reference] | str:
        """Independent outputs on the inputs of each seed, computed in parallel, as files in `folder`.

        The reason, as text, where there is no independent evaluation of this program.
        """
        paths = [folder / f"{task.key}-{seed}.npz" for seed in seeds]
        jobs = [
            BuildJob("reference", {"task": task.key, "seed": seed, "path": str(path)})
            for seed, path in zip(seeds, paths, strict=True)
        ]
        references = {}
        outcomes = self._workers.map(task.key, jobs, _REFERENCE_TIMEOUT_S)
        for seed, path, outcome in zip(seeds, paths, outcomes, strict=True):
            if not isinstance(outcome.value, dict):
                return str(outcome.value)
            references[seed] = Reference.from_json({"path": path, **outcome.value})
        return references

    def shares(self, task: Task, candidates: Sequence[Candidate], threads: int) -> dict[Candidate, Shares]:
        """What each thread of these candidates touches, and of the same kernels divided among the threads otherwise."""
        from kernels.shares import Shares
        from kernels.space import Candidate

        arguments = {"task": task.key, "candidates": [c.to_text() for c in candidates], "threads": threads}
        [outcome] = self._workers.map(task.key, [BuildJob("shares", arguments)], _FEATURE_TIMEOUT_S)
        found = outcome.value if isinstance(outcome.value, list) else []
        return {Candidate.from_text(text): Shares.from_json(data) for text, data in found}

    def build(
        self, task: Task, candidates: Sequence[Candidate], stop: Stop = lambda: False
    ) -> list[Artifact | BuildFailure]:
        """Build candidates in parallel; the order of the results is that of the candidates.

        A build may take a multiple of what this task's builds took, and never more than `timeout_s`. Once
        `stop()` is true no further build is begun, and the list ends before the first candidate that was not built.
        """
        entries = [entry_of(task.key, c) for c in candidates]
        jobs = [
            BuildJob(
                "build", {"task": task.key, "candidate": c.to_text(), "entry": entry},
                self._scheduled_by.get((task.key, c.to_text())),
            )
            for c, entry in zip(candidates, entries, strict=True)
        ]  # fmt: skip
        limit_s = self._durations.limit(task.key, self.timeout_s)
        built: list[Artifact | BuildFailure] = []
        for outcome, entry in zip(self._workers.map(task.key, jobs, limit_s, stop), entries, strict=True):
            if outcome.value is None:
                break
            if isinstance(outcome.value, (dict, ChildTimeout)):
                self._durations.add(task.key, outcome.seconds)
            built.append(_built(outcome, entry))
        return built

    def close(self) -> None:
        self._workers.close()

    def _child(self) -> Child:
        return Child(
            "tuner.devices.build_service:BuildService",
            {"target": self._target, "codegen": self._codegen, "folder": str(self._folder)},
            env={"TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            limits=for_compilers(),
        )


def _built(outcome: Outcome, entry: str) -> Artifact | BuildFailure:
    reply = outcome.value
    if isinstance(reply, ChildTimeout):
        return BuildFailure(Status.BUILD_TIMEOUT, f"not built within {outcome.seconds:.3g} s", outcome.seconds)
    if isinstance(reply, (ChildDied, ChildError)):
        return BuildFailure(Status.BUILD_FAILED, str(reply), outcome.seconds)
    if "status" in reply:
        return BuildFailure(Status(reply["status"]), reply["reason"], reply["build_s"])
    resources = {"bytes": os.path.getsize(reply["path"]), **reply["resources"]}
    return Artifact(Path(reply["path"]), entry, reply["sha256"], reply["build_s"], resources)
