"""Building candidates: a pool of warm children that schedule, extract features and compile.

A build makes `<entry>.o` and links it into `<entry>.so`. The object is kept: the whole model is later linked from the
very objects that were measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.errors import InfrastructureError
from tuner.process.deadlines import LEAST_BUILD_S, Durations
from tuner.process.limits import for_compilers
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Artifact, BuildFailure, Reference, Task
from tuner.records import Status

if TYPE_CHECKING:
    from kernels.space import Candidate, DesignSpace

_UNNEEDED = ("tirx.RemoveNoOp", "s_tir.RenormalizeSplitPattern")
"""Passes of TVM's that cost a tenth of a build and leave LLVM's code as it is without them, byte for byte."""

_SCHEDULES_KEPT = 64
"""Schedules that a child keeps of the candidates it made rows for. To schedule one again is a twentieth of a build."""

_FEATURE_TIMEOUT_S = 120.0
_LOAD_TIMEOUT_S = 120.0
_REFERENCE_TIMEOUT_S = 180.0


def entry_of(task_key: str, candidate: Candidate) -> str:
    """The symbol a candidate's kernel is exported as: unique for the task and the candidate."""
    digest = hashlib.sha256(candidate.to_text().encode()).hexdigest()[:12]
    return f"tuned_{task_key}_{digest}"


class BuildService:
    """Runs in a child: everything about candidates that needs TVM's scheduler or LLVM."""

    def __init__(self, target: str, folder: str) -> None:
        self._target = target
        self._folder = Path(folder)
        self._cuda = json.loads(target).get("kind") == "cuda"
        self._tasks: dict[str, tuple[Any, Any]] = {}
        self._workloads: dict[str, Any] = {}
        self._scheduled: dict[tuple[str, str], Any] = {}

    def op_space(self, workload: Mapping[str, Any], pass_names: Sequence[str]) -> dict[str, Any]:
        """The design space of a workload, as data."""
        from tvm.target import Target

        from kernels.space import generate
        from kernels.workload import Workload

        return generate(Workload.from_json(workload), Target(json.loads(self._target)), pass_names).to_json()

    def op_load(self, workload: Mapping[str, Any], space: Mapping[str, Any]) -> None:
        """Get ready for candidates of a workload."""
        from tvm.target import Target

        from kernels.features import FeatureExtractor
        from kernels.space import DesignSpace, TraceApplier
        from kernels.workload import Workload

        loaded = Workload.from_json(workload)
        self._workloads[loaded.key] = loaded
        applier = TraceApplier(loaded, DesignSpace.from_json(space), Target(json.loads(self._target)))
        self._tasks[loaded.key] = (applier, FeatureExtractor(loaded, applier))

    def op_reference(self, task: str, seed: int, path: str) -> dict[str, Any]:
        """Store what the workload answers on seeded inputs, by numpy in fp64; returns what `compare` needs to know.

        Raises kernels.reference.Unsupported where there is no rule for the program.
        """
        from kernels.reference import evaluate, reduction_length, working_dtype
        from kernels.workload import seeded_inputs

        function = self._tasks[task][0].module["main"]
        workload = self._workloads[task]
        outputs = evaluate(function, seeded_inputs(workload.inputs, seed), workload.num_outputs)
        with open(path, "wb") as file:
            np.savez(file, *[o.astype(s.dtype) for o, s in zip(outputs, workload.outputs, strict=True)])
        return {"dtype": working_dtype(function), "reduction": reduction_length(function)}

    def op_features(self, task: str, candidates: Sequence[str]) -> list[list[float] | None]:
        """Feature rows; None for a candidate that cannot be scheduled. Its schedule is kept for building it."""
        from kernels.space import Candidate, InvalidCandidate

        applier, extractor = self._tasks[task]
        rows: list[list[float] | None] = []
        for text in candidates:
            candidate = Candidate.from_text(text)
            try:
                schedule = applier.apply(candidate)
            except InvalidCandidate:
                rows.append(None)
                continue
            rows.append(extractor.vector(candidate, schedule).tolist())
            self._scheduled[task, text] = schedule
        while len(self._scheduled) > _SCHEDULES_KEPT:
            del self._scheduled[next(iter(self._scheduled))]
        return rows

    def op_build(self, task: str, candidate: str) -> dict[str, Any]:
        """Compile one candidate to an object and a shared library, or to a cubin."""
        import tvm
        from tvm.target import Target

        from kernels.space import Candidate, InvalidCandidate

        started = time.perf_counter()
        parsed = Candidate.from_text(candidate)
        try:
            schedule = self._scheduled.pop((task, candidate), None) or self._tasks[task][0].apply(parsed)
        except InvalidCandidate as error:
            return {"status": Status.INVALID, "reason": str(error), "build_s": time.perf_counter() - started}
        entry = entry_of(task, parsed)
        if self._cuda:
            from tuner.devices.cuda import codegen as cubin

            outputs = self._workloads[task].num_outputs
            return cubin.build(
                schedule, parsed, Target(json.loads(self._target)), outputs, self._folder, entry, started
            )
        function = parsed.passes.on_function(schedule.mod["main"]).with_attr("global_symbol", entry)
        target = Target(parsed.passes.target_options(json.loads(self._target)))
        # No checks of ranks, shapes and strides in each kernel: half of its code, a fifth of its build. A kernel is
        # called only by this program and by the model's own code, which checks what it is given.
        options = {**parsed.passes.context_options(), "tirx.disable_assert": True}
        try:
            with target, tvm.transform.PassContext(opt_level=3, config=options, disabled_pass=_UNNEEDED):
                library = tvm.compile(tvm.IRModule({entry: function}), target=target)
            made = self._folder / f"{entry}.o"
            library.mod.write_to_file(str(made))
        except (tvm.error.InternalError, RuntimeError, ValueError, TypeError) as error:
            return {
                "status": Status.BUILD_FAILED,
                "reason": str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__,
                "build_s": time.perf_counter() - started,
            }
        shared = made.with_suffix(".so")
        subprocess.run([*linker(), "-o", str(shared), str(made)], check=True, capture_output=True, timeout=60)
        return {
            "path": str(shared),
            "entry": entry,
            "sha256": hashlib.sha256(made.read_bytes()).hexdigest(),
            "build_s": time.perf_counter() - started,
        }


def linker() -> list[str]:
    """The command that links objects into a shared library. Raises InfrastructureError without one."""
    for name, flags in (("ld", ["-shared"]), ("cc", ["-shared"]), ("gcc", ["-shared"])):
        found = shutil.which(name)
        if found:
            return [found, *flags]
    raise InfrastructureError("no linker found (ld, cc or gcc)", "install a C toolchain, e.g. the package gcc")


class _Answer(NamedTuple):
    """Of a job: what the child said, or the exception that ended it, or None where it was never begun."""

    value: Any
    seconds: float
    slot: int | None


class LocalBuilder:
    """A pool of build children on this machine. Implements `protocols.Builder`, and features beside it.

    A child that hangs or dies is replaced; only the candidate it was working on is blamed.
    """

    def __init__(self, target: str, folder: Path, workers: int, timeout_s: float) -> None:
        self._target = target
        self._folder = folder
        self.timeout_s = timeout_s
        self._durations = Durations(LEAST_BUILD_S)
        self._workers = workers
        self._pool: list[Child] = []
        self._loaded: list[set[str]] = []
        self._spaces: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._scheduled_by: dict[tuple[str, str], int] = {}
        folder.mkdir(parents=True, exist_ok=True)

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
        chunk = max(1, -(-len(candidates) // (2 * self._workers)))
        chunks = [candidates[i : i + chunk] for i in range(0, len(candidates), chunk)]
        jobs = [("features", {"task": task.key, "candidates": [c.to_text() for c in part]}) for part in chunks]
        rows: list[NDArray[np.float32] | None] = []
        for part, (answer, _, slot) in zip(chunks, self._map(task.key, jobs, _FEATURE_TIMEOUT_S), strict=True):
            if isinstance(answer, list) and slot is not None:
                rows.extend(None if row is None else np.asarray(row, dtype=np.float32) for row in answer)
                self._scheduled_by.update({(task.key, c.to_text()): slot for c in part})
            else:
                rows.extend([None] * len(part))
        while len(self._scheduled_by) > _SCHEDULES_KEPT * self._workers:
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
        self, task: Task, candidates: Sequence[Candidate], deadline: Callable[[], bool] = lambda: False
    ) -> list[Artifact | BuildFailure]:
        """Build candidates in parallel; the order of the results is that of the candidates.

        A build may take a multiple of what this task's builds took, and never more than `timeout_s`. Once
        `deadline()` is true nothing more is started, and the list is cut at the first candidate that was not built.
        """
        jobs = [("build", {"task": task.key, "candidate": c.to_text()}) for c in candidates]
        made: list[Artifact | BuildFailure] = []
        limit_s = self._durations.limit(task.key, self.timeout_s)
        at_home = [self._scheduled_by.get((task.key, c.to_text())) for c in candidates]
        for answer, seconds, _ in self._map(task.key, jobs, limit_s, deadline, at_home):
            if answer is None:
                break
            if isinstance(answer, (dict, ChildTimeout)):
                self._durations.add(task.key, seconds)
            made.append(_outcome(answer, seconds))
        return made

    def close(self) -> None:
        for child in self._pool:
            child.close()
        self._pool.clear()
        self._loaded.clear()

    # --- the pool --------------------------------------------------------------------------------

    def _child(self, slot: int) -> Child:
        while len(self._pool) <= slot:
            self._pool.append(self._fresh())
            self._loaded.append(set())
        if not self._pool[slot].alive():
            self._pool[slot].close()
            self._pool[slot] = self._fresh()
            self._loaded[slot] = set()
        return self._pool[slot]

    def _fresh(self) -> Child:
        return Child(
            "tuner.devices.builder:BuildService",
            {"target": self._target, "folder": str(self._folder)},
            env={"TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            limits=for_compilers(),
        )

    def _load_everywhere(self, key: str) -> None:
        """Load a task's space into all children at once. One that fails at it is seen to when it is needed."""
        asked = []
        for slot in range(self._workers):
            with contextlib.suppress(ChildDied):
                workload, space = self._spaces[key]
                self._child(slot).submit("load", workload=workload, space=space)
                asked.append(slot)
        for slot in asked:
            with contextlib.suppress(ChildTimeout, ChildDied, ChildError):
                self._pool[slot].result(_LOAD_TIMEOUT_S)
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
        deadline: Callable[[], bool] = lambda: False,
        at_home: Sequence[int | None] = (),
    ) -> list[_Answer]:
        """Run jobs over the pool. `at_home` says of each job in which slot it takes less work, where there is one.

        A job whose child was killed from outside is done once more, in another child.
        """
        answers = [_Answer(None, 0.0, None)] * len(jobs)
        waiting = list(range(len(jobs)))[::-1]
        busy: dict[int, tuple[int, float]] = {}
        repeated: set[int] = set()

        def ended(job: int, error: ChildTimeout | ChildDied | ChildError, seconds: float) -> None:
            answers[job] = _Answer(error, seconds, None)
            if isinstance(error, ChildDied) and error.killed and job not in repeated:
                repeated.add(job)
                waiting.append(job)

        while waiting or busy:
            for slot in range(self._workers):
                if slot not in busy and waiting and not deadline():
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
                if waiting and not deadline():
                    continue
                break
            first_due = min(started for _, started in busy.values()) + timeout_s
            connection.wait([self._pool[s].connection for s in busy], max(0.0, first_due - time.monotonic()))
            for slot, (job, started) in list(busy.items()):
                left = started + timeout_s - time.monotonic()
                if left > 0 and not self._pool[slot].ready():
                    continue
                del busy[slot]
                try:
                    answers[job] = _Answer(self._pool[slot].result(max(left, 0.0)), time.monotonic() - started, slot)
                except (ChildTimeout, ChildDied, ChildError) as error:
                    ended(job, error, time.monotonic() - started)
        return answers


def _outcome(answer: Any, seconds: float) -> Artifact | BuildFailure:
    if isinstance(answer, ChildTimeout):
        return BuildFailure(Status.BUILD_TIMEOUT, f"not built within {seconds:.3g} s", seconds)
    if isinstance(answer, (ChildDied, ChildError)):
        return BuildFailure(Status.BUILD_FAILED, str(answer), seconds)
    if "status" in answer:
        return BuildFailure(Status(answer["status"]), answer["reason"], answer["build_s"])
    return Artifact(
        Path(answer["path"]),
        answer["entry"],
        answer["sha256"],
        answer["build_s"],
        {"bytes": os.path.getsize(answer["path"]), **answer.get("resources", {})},
    )
