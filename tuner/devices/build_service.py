"""The child that builds: spaces, feature vectors, references, and candidates through a device's code generator."""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.protocols import BuildFailure
from tuner.records import Status

SCHEDULES_KEPT = 64
"""Schedules that a child keeps of the candidates that it made feature vectors for. Making one takes a twentieth of a
build."""


@dataclass(frozen=True)
class Scheduled:
    """A candidate with its sketch applied, to be compiled into `folder` under the symbol `entry`.

    `schedule` is a tvm.s_tir.Schedule, `candidate` a kernels.space.Candidate, `target` a TVM target as data. `flops` is
    the arithmetic of one call, and `predicted_s` what the analytical model gives it, 0 where that has no rule for it.
    """

    schedule: Any
    candidate: Any
    target: Mapping[str, Any]
    outputs: int
    folder: Path
    entry: str
    flops: float = 0.0
    predicted_s: float = 0.0


@dataclass(frozen=True)
class Compiled:
    """What a code generator made: a file that a bench of the device runs, its SHA-256, and what else it needs."""

    path: Path
    sha256: str
    resources: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class BuildService:
    """Runs in a child: everything about candidates that needs TVM's scheduler or a compiler.

    `codegen` is `module:function`: from a `Scheduled` to a `Compiled` or a `BuildFailure`.
    """

    def __init__(self, target: str, codegen: str, folder: str) -> None:
        self._target = target
        module, _, function = codegen.partition(":")
        self._compile = getattr(importlib.import_module(module), function)
        self._folder = Path(folder)
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
        """Get ready for candidates of a workload: `workload` and `space` as data."""
        from tvm.target import Target

        from kernels.features import FeatureExtractor
        from kernels.space import DesignSpace, TraceApplier
        from kernels.workload import Workload

        loaded = Workload.from_json(workload)
        self._workloads[loaded.key] = loaded
        applier = TraceApplier(loaded, DesignSpace.from_json(space), Target(json.loads(self._target)))
        self._tasks[loaded.key] = (applier, FeatureExtractor(loaded, applier))

    def op_reference(self, task: str, seed: int, path: str) -> dict[str, Any]:
        """Store the workload's outputs on seeded inputs, by numpy in fp64; returns what a check's tolerance depends on.

        Raises kernels.reference.Unsupported where there is no rule for the program.
        """
        from kernels.reference import evaluate, passing_sizes, reduction_length, rounding, working_dtype
        from kernels.tensors import storable
        from kernels.workload import seeded_inputs

        function = self._tasks[task][0].module["main"]
        workload = self._workloads[task]
        inputs = seeded_inputs(workload.inputs, seed)
        outputs = evaluate(function, inputs, workload.num_outputs)
        with open(path, "wb") as file:
            np.savez(file, *[storable(o.astype(s.dtype)) for o, s in zip(outputs, workload.outputs, strict=True)])
        return {
            "dtype": working_dtype(function),
            "reduction": reduction_length(function),
            "rounding": list(rounding(function, workload.num_outputs)),
            "passing": list(passing_sizes(function, inputs, outputs)),
        }

    def op_features(self, task: str, candidates: Sequence[str]) -> list[list[float] | None]:
        """Feature vectors; None for a candidate that cannot be scheduled. Schedules are kept for building."""
        from kernels.space import Candidate, InvalidCandidate

        applier, extractor = self._tasks[task]
        vectors: list[list[float] | None] = []
        for text in candidates:
            candidate = Candidate.from_text(text)
            try:
                schedule = applier.apply(candidate)
            except InvalidCandidate:
                vectors.append(None)
                continue
            vectors.append(extractor.vector(candidate, schedule).tolist())
            self._scheduled[task, text] = schedule
        while len(self._scheduled) > SCHEDULES_KEPT:
            del self._scheduled[next(iter(self._scheduled))]
        return vectors

    def op_shares(self, task: str, candidates: Sequence[str], threads: int) -> list[list[Any]]:
        """For candidates, and for the same kernels with the threads' parts taken along other loops, what each thread
        touches: [candidate, shares as data] of each. Those whose threads write parts that overlap are left out."""
        from kernels.passes.thread_share import ThreadShare, levels
        from kernels.shares import shares
        from kernels.space import Candidate, InvalidCandidate

        found: list[list[Any]] = []
        for text in candidates:
            given = Candidate.from_text(text)
            try:
                function = self._tasks[task][0].apply(given).mod["main"]
            except InvalidCandidate:
                continue
            for level in (0, *levels(function, threads)):
                setting = ThreadShare(level, threads)
                divided = shares(setting.on_function(function), threads)
                if level == 0:
                    found.append([text, divided.to_json()])
                elif divided.apart():
                    passes = given.passes.replace(setting)
                    found.append([dataclasses.replace(given, passes=passes).to_text(), divided.to_json()])
        return found

    def op_build(self, task: str, candidate: str, entry: str) -> dict[str, Any]:
        """Compile one candidate, under the symbol `entry`: a Compiled or a BuildFailure as data, with `build_s`."""
        from kernels.space import Candidate, InvalidCandidate

        started = time.perf_counter()
        parsed = Candidate.from_text(candidate)
        try:
            schedule = self._scheduled.pop((task, candidate), None) or self._tasks[task][0].apply(parsed)
        except InvalidCandidate as error:
            result: Compiled | BuildFailure = BuildFailure(Status.INVALID, str(error))
        else:
            workload, predicted_s = self._workloads[task], self._tasks[task][1].predicted_s(parsed)
            result = self._compile(
                Scheduled(schedule, parsed, json.loads(self._target), workload.num_outputs, self._folder, entry,
                          workload.flops, predicted_s)
            )  # fmt: skip
        build_s = time.perf_counter() - started
        if isinstance(result, BuildFailure):
            return {"status": result.status, "reason": result.reason, "build_s": build_s}
        return {
            "path": str(result.path), "sha256": result.sha256, "resources": dict(result.resources), "build_s": build_s,
        }  # fmt: skip
