"""The child that runs kernels: it loads one, checks its outputs against the reference, and only then times it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels.reference import Expectation, expectations
from kernels.tensors import ConstantOperands, TensorSpec, seeded_inputs, storable
from tuner.devices.checked import Ready, with_errors, wrong_result
from tuner.devices.cpu.guard import GuardedBuffers
from tuner.devices.cpu.interleaved import SLOW_CALL_S, Trial, measure_interleaved
from tuner.devices.cpu.rotation import Rotation
from tuner.devices.cpu.runner import CpuRunner
from tuner.measure.replay import Recording, ReplayRunner
from tuner.outputs import OutputCheck
from tuner.process.limits import large_files, memory_growth
from tuner.process.pinning import pin_while_calling
from tuner.protocols import Array, Job, Policy
from tuner.records import Measurement

_LOOP_IN_PYTHON = 8
"""Blocks of more calls are run by TVM's own loop, whose start costs about as much as this many calls."""

_MOST_CACHED = 8
"""Sets of inputs, and references: each task has two of each."""

_MOST_HELD = 1 << 30
"""Bytes of inputs that are kept, though two sets always are: making them again takes longer than most trials."""

_MEMORY_BESIDE = 1 << 30
_MEMORY_TIMES = 8
"""A kernel may allocate this many bytes, and this many times its own tensors: packed layouts need copies of them."""


class LoadedKernel:
    """A kernel of a shared library on fixed inputs. Implements `protocols.Prepared`."""

    def __init__(self, module: Any, entry: str, buffers: GuardedBuffers) -> None:
        import tvm

        self._module = module
        self._entry = entry
        self._function = module[entry]
        self._device = tvm.cpu()
        self._arrays = buffers.tensors
        self._rotation: Rotation | None = None
        self._calls: list[list[Any]] = []
        self.buffers = buffers

    def launch(self, count: int) -> None:
        if self._rotation is not None:
            function, calls = self._function, self._calls
            for number in self._rotation.take(count):
                function(*calls[number])
            return
        if count <= _LOOP_IN_PYTHON:
            for _ in range(count):
                self._function(*self._arrays)
            return
        self._module.time_evaluator(self._entry, self._device, number=count - 1, repeat=1)(*self._arrays)

    def on_buffers_of(self, other: LoadedKernel) -> None:
        """Work on the buffers of another kernel of the task: where data lie in memory can make some per cent."""
        self.buffers = other.buffers
        self._arrays = other.buffers.tensors

    def rotate(self, rotation: Rotation, constants: ConstantOperands) -> None:
        """From now on each call takes the next copies of the constants."""
        self._calls = rotation.calls(self._arrays, constants)
        self._rotation = rotation

    def stay(self) -> None:
        """From now on each call is on the guarded buffers."""
        self._rotation, self._calls = None, []

    def outputs(self) -> list[Array]:
        return [a.copy() for a in self.buffers.outputs]


class KernelLibrary:
    """A built kernel. Implements `protocols.Launchable`. Outputs are filled with NaN before the first call."""

    def __init__(self, path: str, entry: str, outputs: Sequence[TensorSpec]) -> None:
        self._path = path
        self._entry = entry
        self._outputs = tuple(outputs)

    @property
    def key(self) -> str:
        return self._entry

    def prepare(self, inputs: Sequence[Array]) -> LoadedKernel:
        import tvm

        buffers = GuardedBuffers(inputs, self._outputs)
        return LoadedKernel(tvm.runtime.load_module(self._path), self._entry, buffers)


class KernelService:
    """Runs in a child with the thread count that the model will have.

    `mode` is model, hot or cold, `replay` a file of recorded measurements that stand in for timing.
    """

    def __init__(self, mode: str, threads: int, replay: str | None = None) -> None:
        self._rotation = Rotation()
        self.runner = CpuRunner(mode)
        self._replay = None if replay is None else ReplayRunner(Recording.load(Path(replay)))
        self._threads = threads
        self._pinned = False
        self._inputs: dict[tuple[str, int], list[Array]] = {}
        self._references: dict[str, list[Expectation]] = {}

    def op_outputs(self, job: Mapping[str, Any], path: str) -> None:
        """Store what a kernel computes, as the reference where no independent one can be had."""
        asked = Job.from_json(job)
        prepared = _library(asked).prepare(self._seeded(asked))
        prepared.launch(1)
        _save(path, prepared.outputs())

    def op_health(self, job: Mapping[str, Any] | None) -> str:
        """Whether this worker still does what it should: "", or what is wrong. `job` is one that was right before."""
        if job is None:
            return "" if float(np.ones(1000, np.float32).sum()) == 1000 else "it cannot add"
        return self.begin(Job.from_json(job)).check.reason

    def op_run(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any]:
        """Check, then time, then check again; a Measurement as data."""
        asked = Job.from_json(job)
        with memory_growth(self._memory_for([asked])):
            return self._run(asked, Policy.from_json(policy))

    def _run(self, job: Job, stops: Policy) -> dict[str, Any]:
        began = time.perf_counter()
        trial = self.begin(job)
        reason = trial.check.reason if not trial.check.ok else ""
        if not reason:
            self.pin(trial)
            measured = self._time(trial, stops)
            reason = self.verify(trial) if measured.ok else ""
        measured = wrong_result(reason, trial.check, stops.fidelity) if reason else with_errors(measured, trial.check)
        return dataclasses.replace(measured, run_s=time.perf_counter() - began).to_json()

    def _time(self, trial: Trial, policy: Policy) -> Measurement:
        if trial.first_call_s <= SLOW_CALL_S:
            runner = self._replay or self.runner
            rotated = self.as_in_model([trial])
            ready = Ready(trial.job.entry, trial.prepared)
            return _with_details(runner.run(ready, trial.inputs, policy, called_before=True), rotated)
        limit = policy.give_up_above_s
        if limit is not None and trial.first_call_s > limit:
            return Measurement.censored(limit, policy.fidelity)
        return trial.one_call(policy.fidelity)

    def op_measure_interleaved(
        self, jobs: Sequence[Mapping[str, Any]], policy: Mapping[str, Any], budget_s: float, seed: int
    ) -> dict[str, Any]:
        """Check several kernels, then time them interleaved: see `measure_interleaved`."""
        if self._replay is not None:
            return {"measurements": [self.op_run(job, policy) for job in jobs], "control": None}
        asked = [Job.from_json(job) for job in jobs]
        with memory_growth(self._memory_for([*asked, asked[0]])):
            return measure_interleaved(self, asked, Policy.from_json(policy), budget_s, seed)

    def begin(self, job: Job, like: Trial | None = None) -> Trial:
        """Load a kernel, call it once on seeded inputs (on the buffers of `like`, where given), and compare its outputs
        with the reference."""
        inputs = self._seeded(job)
        prepared = _library(job).prepare(inputs)
        if like is not None:
            assert isinstance(like.prepared, LoadedKernel)
            prepared.on_buffers_of(like.prepared)
            prepared.buffers.fill(inputs)
        start = time.perf_counter()
        prepared.launch(1)
        first_call_s = time.perf_counter() - start
        outputs = prepared.outputs()
        fault = prepared.buffers.fault(inputs)
        check = OutputCheck(False, None, None, fault) if fault else self._check(job, outputs)
        return Trial(job, inputs, prepared, first_call_s, outputs, check)

    def verify(self, trial: Trial) -> str:
        """What is wrong after the timing, or with the outputs on other inputs; "" when nothing.

        Outputs must be the same as before, or right again. A call so long that it is the sample itself was checked
        already: no other is made.
        """
        buffers, job = trial.prepared.buffers, trial.job
        trial.prepared.stay()
        if fault := buffers.fault(trial.inputs):
            return f"after timing: {fault}"
        if any(not np.array_equal(a, b) for a, b in zip(trial.outputs, buffers.outputs, strict=True)):
            check = self._check(job, buffers.outputs)
            if not check.ok:
                return f"after timing: {check.reason}"
        if trial.first_call_s > SLOW_CALL_S:
            return ""
        other = job.on_recheck_inputs()
        inputs = self._seeded(other)
        buffers.fill(inputs)
        trial.prepared.launch(1)
        reason = buffers.fault(inputs) or self._check(other, buffers.outputs).reason
        return f"on other inputs, after timing: {reason}" if reason else ""

    def pin(self, trial: Trial) -> None:
        """Pin this process's threads, once, while a kernel that uses them all runs."""
        if not self._pinned and trial.first_call_s < SLOW_CALL_S:
            self._pinned = pin_while_calling(trial.prepared.launch, self._threads, trial.first_call_s)

    def as_in_model(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Let kernels of one task take copies of their constants in turn, unless they are timed otherwise or need none;
        the conditions that say so."""
        if self.runner.mode != "model" or self._replay is not None or not trials:
            return {}
        job, inputs = trials[0].job, trials[0].inputs
        copies = self._rotation.fill((job.task, job.seed, job.constants), inputs, job.constants)
        if not copies:
            return {}
        for trial in trials:
            assert isinstance(trial.prepared, LoadedKernel)
            trial.prepared.rotate(self._rotation, job.constants)
        return {"constant_copies": copies}

    def _memory_for(self, jobs: Sequence[Job]) -> int:
        """Bytes that checking and timing these may need beyond what the process has. A pool of threads, with their
        stacks, is started by the first kernel that needs it."""
        tensors = sum(spec.nbytes for job in jobs for spec in (*job.inputs, *job.outputs))
        copies = max(self._rotation.bytes_for([spec.nbytes for spec in job.inputs], job.constants) for job in jobs)
        return _MEMORY_BESIDE + _MEMORY_TIMES * tensors + (os.cpu_count() or 1) * (16 << 20) + copies

    def _seeded(self, job: Job) -> list[Array]:
        key = (job.task, job.seed)
        if key not in self._inputs:
            specs = job.inputs
            size = sum(spec.nbytes for spec in specs)
            while len(self._inputs) >= _MOST_CACHED or (len(self._inputs) > 1 and size + self._held() > _MOST_HELD):
                self._inputs.pop(next(iter(self._inputs)))
            self._inputs[key] = seeded_inputs(specs, job.seed)
        return self._inputs[key]

    def _held(self) -> int:
        return sum(array.nbytes for arrays in self._inputs.values() for array in arrays)

    def _check(self, job: Job, outputs: Sequence[Array]) -> OutputCheck:
        reference = job.reference
        assert reference is not None, "a kernel is compared with a reference"
        path = str(reference.path)
        if path not in self._references:
            while len(self._references) >= _MOST_CACHED:
                self._references.pop(next(iter(self._references)))
            with np.load(path, allow_pickle=False) as stored:
                outputs_stored = [stored[name] for name in stored.files]
            self._references[path] = expectations(
                outputs_stored,
                reference.dtype,
                reference.reduction,
                reference.rounding,
                reference.passing,
            )
        worst_abs, worst_rel = 0.0, 0.0
        for actual, expected in zip(outputs, self._references[path], strict=True):
            ok, absolute, relative, reason = expected.check(actual)
            if not ok:
                return OutputCheck(False, absolute, relative, reason)
            worst_abs, worst_rel = max(worst_abs, absolute or 0.0), max(worst_rel, relative or 0.0)
        return OutputCheck(True, worst_abs, worst_rel)


def _library(job: Job) -> KernelLibrary:
    return KernelLibrary(str(job.path), job.entry, job.outputs)


def _with_details(measured: Measurement, details: Mapping[str, Any]) -> Measurement:
    conditions = measured.conditions
    conditions = dataclasses.replace(conditions, details={**conditions.details, **details})
    return dataclasses.replace(measured, conditions=conditions)


def _save(path: str, arrays: Sequence[Array]) -> None:
    with large_files(), open(path, "wb") as file:
        np.savez(file, *map(storable, arrays))
