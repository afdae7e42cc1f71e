"""The child that runs kernels: it loads an artifact, checks it against the reference, and only then times it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels.reference import Expectation
from kernels.workload import TensorSpec, seeded_inputs
from tuner.measure.cpu import Check, CpuRunner
from tuner.measure.pooled import Shadow
from tuner.measure.side_by_side import SLOW_CALL_S, Trial, side_by_side
from tuner.pinning import pin_workers
from tuner.protocols import Array, Artifact, Policy, Prepared, Reference
from tuner.records import Measurement, Status, Tier
from tuner.worker import Child, ChildDied, ChildError, ChildTimeout

_LOOP_IN_PYTHON = 8
"""Blocks of more calls are run by TVM's own loop, whose start costs about as much as this many calls."""

_PIN_AFTER_S = 0.05
"""Work enough for the threads of a pool to show themselves."""

_MOST_TASKS_CACHED = 4


class LoadedKernel:
    """A kernel of a shared library on fixed inputs. Implements `protocols.Prepared`."""

    def __init__(self, module: Any, entry: str, arrays: Sequence[Any], num_outputs: int) -> None:
        import tvm

        self._module = module
        self._entry = entry
        self._function = module[entry]
        self._device = tvm.cpu()
        self._arrays = list(arrays)
        self._num_outputs = num_outputs

    def launch(self, count: int) -> None:
        if count <= _LOOP_IN_PYTHON:
            for _ in range(count):
                self._function(*self._arrays)
            return
        self._module.time_evaluator(self._entry, self._device, number=count - 1, repeat=1)(*self._arrays)

    def on_buffers_of(self, other: LoadedKernel) -> None:
        """Work on another kernel's buffers, of the same task: where data lie in memory alone can make some per cent."""
        self._arrays = other._arrays

    def forget(self) -> None:
        """Fill the outputs again with what no kernel should produce."""
        for array in self._arrays[len(self._arrays) - self._num_outputs :]:
            array.copyfrom(_poison(TensorSpec(tuple(array.shape), str(array.dtype))))

    def inputs(self) -> list[Array]:
        return [a.numpy() for a in self._arrays[: len(self._arrays) - self._num_outputs]]

    def outputs(self) -> list[Array]:
        return [a.numpy() for a in self._arrays[len(self._arrays) - self._num_outputs :]]


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

        poisoned = [_poison(spec) for spec in self._outputs]
        arrays = [tvm.runtime.tensor(a) for a in (*inputs, *poisoned)]
        return LoadedKernel(tvm.runtime.load_module(self._path), self._entry, arrays, len(self._outputs))


def _poison(spec: TensorSpec) -> Array:
    """What an output holds before it is written: NaN, or a value no kernel should produce."""
    if np.dtype(spec.dtype).kind == "f":
        return np.full(spec.shape, np.nan, dtype=spec.dtype)
    if spec.dtype == "bool":
        return np.zeros(spec.shape, dtype=bool)
    return np.full(spec.shape, np.iinfo(spec.dtype).min + 77, dtype=spec.dtype)


class KernelService:
    """Runs in a child with the thread count the model will have."""

    def __init__(self, mode: str, threads: int) -> None:
        self.runner = CpuRunner(mode)
        self._threads = threads
        self._pinned = False
        self._inputs: dict[tuple[str, int], list[Array]] = {}
        self._references: dict[str, list[Expectation]] = {}

    def op_outputs(self, job: Mapping[str, Any], path: str) -> None:
        """Store what a kernel computes, as the reference where no independent one can be had."""
        prepared = self._library(job).prepare(self._seeded(job))
        prepared.launch(1)
        _save(path, prepared.outputs())

    def op_run(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any]:
        """Check, then time. The answer is a Measurement as data. `job` is what `job_of` makes."""
        began = time.perf_counter()
        stops = Policy(**{**policy, "tier": Tier(policy["tier"])})
        trial = self.begin(job)
        reason = trial.check.reason if not trial.check.ok else ""
        if not reason:
            self.pin(trial)
            measured = self._time(trial, stops)
            reason = self.verify(trial) if measured.ok else ""
        found = trial.wrong(reason, stops.tier) if reason else trial.right(measured)
        return dataclasses.replace(found, run_s=time.perf_counter() - began).to_json()

    def _time(self, trial: Trial, policy: Policy) -> Measurement:
        if trial.first_call_s <= SLOW_CALL_S:
            return self.runner.run(_Ready(trial.prepared), trial.inputs, policy, called_before=True)
        limit = policy.give_up_above_s
        if limit is not None and trial.first_call_s > limit:
            return Measurement(Status.CENSORED, tier=policy.tier, reason=f"over {limit:.3g} s", censored_at_s=limit)
        return trial.one_call(policy.tier)

    def op_side_by_side(
        self, jobs: Sequence[Mapping[str, Any]], policy: Mapping[str, Any], budget_s: float, seed: int
    ) -> dict[str, Any]:
        """Check several kernels, then time them in turn: see `side_by_side`."""
        stops = Policy(**{**policy, "tier": Tier(policy["tier"])})
        return side_by_side(self, jobs, stops, budget_s, seed)

    def begin(self, job: Mapping[str, Any], like: Trial | None = None) -> Trial:
        """Load a kernel, call it once on seeded inputs (on the buffers of `like`, where given), and compare its answer
        with the reference."""
        inputs = self._seeded(job)
        prepared = self._library(job).prepare(inputs)
        if like is not None:
            assert isinstance(like.prepared, LoadedKernel)
            prepared.on_buffers_of(like.prepared)
            prepared.forget()
        start = time.perf_counter()
        prepared.launch(1)
        first_call_s = time.perf_counter() - start
        answer = prepared.outputs()
        return Trial(job, inputs, prepared, first_call_s, answer, self._check(job, answer))

    def verify(self, trial: Trial) -> str:
        """What the timing showed to be wrong; empty when nothing. Outputs must be the same still, or right again."""
        after = trial.prepared.outputs()
        if any(not np.array_equal(a, b) for a, b in zip(trial.answer, after, strict=True)):
            again = self._check(trial.job, after)
            if not again.ok:
                return f"after timing: {again.reason}"
        if any(not np.array_equal(a, b) for a, b in zip(trial.inputs, trial.prepared.inputs(), strict=True)):
            return "the kernel changed its inputs"
        return ""

    def pin(self, trial: Trial) -> None:
        """Pin this process's threads, once, while a kernel that uses them all works."""
        if not self._pinned and trial.first_call_s < SLOW_CALL_S:
            calls = 1 + int(_PIN_AFTER_S / trial.first_call_s)
            self._pinned = pin_workers(lambda: trial.prepared.launch(calls), self._threads)

    def _library(self, job: Mapping[str, Any]) -> KernelLibrary:
        return KernelLibrary(job["path"], job["entry"], [TensorSpec(tuple(s), d) for s, d in job["outputs"]])

    def _seeded(self, job: Mapping[str, Any]) -> list[Array]:
        key = (job["task"], job["seed"])
        if key not in self._inputs:
            while len(self._inputs) >= _MOST_TASKS_CACHED:
                self._inputs.pop(next(iter(self._inputs)))
            self._inputs[key] = seeded_inputs(tuple(TensorSpec(tuple(s), d) for s, d in job["inputs"]), job["seed"])
        return self._inputs[key]

    def _check(self, job: Mapping[str, Any], answer: Sequence[Array]) -> Check:
        path = job["reference"]
        if path not in self._references:
            while len(self._references) >= _MOST_TASKS_CACHED:
                self._references.pop(next(iter(self._references)))
            with np.load(path, allow_pickle=False) as stored:
                self._references[path] = [
                    Expectation(stored[name], job["dtype"], job["reduction"]) for name in stored.files
                ]
        worst_abs, worst_rel = 0.0, 0.0
        for actual, expected in zip(answer, self._references[path], strict=True):
            ok, absolute, relative, reason = expected.judge(actual)
            if not ok:
                return Check(False, absolute, relative, reason)
            worst_abs, worst_rel = max(worst_abs, absolute or 0.0), max(worst_rel, relative or 0.0)
        return Check(True, worst_abs, worst_rel)


class _Ready:
    """A prepared kernel as a launchable, so that what was checked is what is timed."""

    key = ""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    def prepare(self, inputs: Sequence[Array]) -> Prepared:
        return self._prepared


def _save(path: str, arrays: Sequence[Array]) -> None:
    with open(path, "wb") as file:
        np.savez(file, *arrays)


class KernelBench:
    """The parent's side: one disposable child, replaced when it hangs, dies, or has run long enough."""

    _RUNS_BEFORE_REPLACEMENT = 400  # loaded libraries are never quite unloaded

    def __init__(self, mode: str, threads: int, env: Mapping[str, str], timeout_s: float) -> None:
        self._settings = {"mode": mode, "threads": threads}
        self._env = dict(env)
        self._timeout_s = timeout_s
        self._child: Child | None = None
        self._runs = 0

    def measure(self, job: Mapping[str, Any], policy: Policy) -> Measurement:
        """Check and time one artifact. Whatever goes wrong is a status with a reason."""
        began = time.perf_counter()
        timeout = self._timeout_s + policy.max_time_s
        try:
            answer = self._ready().call("run", timeout, job=dict(job), policy=dataclasses.asdict(policy))
            return Measurement.from_json(answer)
        except ChildTimeout as error:
            status, reason = Status.RUN_TIMEOUT, str(error)
        except (ChildDied, ChildError) as error:
            status, reason = Status.RUN_FAILED, str(error)
        return Measurement(status, tier=policy.tier, reason=reason[:300], run_s=time.perf_counter() - began)

    def side_by_side(
        self, jobs: Sequence[Mapping[str, Any]], policy: Policy, budget_s: float, seed: int
    ) -> tuple[list[Measurement], Shadow | None]:
        """Check and time several kernels of one task in turn, in this bench's process; `budget_s` for all of it.

        When one of them takes the process down, nothing of the turn is kept: each is measured alone, so that
        only the culprit is blamed, and there is no second entry of the incumbent.
        """
        timeout = self._timeout_s * (1 + len(jobs)) + budget_s
        asked = {"jobs": [dict(job) for job in jobs], "policy": dataclasses.asdict(policy)}
        try:
            answer = self._ready().call("side_by_side", timeout, **asked, budget_s=budget_s, seed=seed)
            return [Measurement.from_json(m) for m in answer["measurements"]], answer["shadow"]
        except (ChildTimeout, ChildDied, ChildError):
            alone = dataclasses.replace(policy, max_time_s=min(policy.max_time_s, budget_s / len(jobs)))
            return [self.measure(job, alone) for job in jobs], None

    def renew(self) -> None:
        """What is measured next runs in a fresh process."""
        self.close()

    def store_outputs(self, job: Mapping[str, Any], path: Path) -> str | None:
        """Run once and store the outputs; the reason when that fails."""
        try:
            self._ready().call("outputs", self._timeout_s, job=dict(job), path=str(path))
        except (ChildTimeout, ChildDied, ChildError) as error:
            return str(error)
        return None

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _ready(self) -> Child:
        if self._child is not None and (not self._child.alive() or self._runs >= self._RUNS_BEFORE_REPLACEMENT):
            self.close()
        if self._child is None:
            self._child = Child("tuner.measure.kernel:KernelService", self._settings, env=self._env)
            self._runs = 0
        self._runs += 1
        return self._child


def job_of(artifact: Artifact, task_key: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec],
           seed: int, reference: Reference) -> dict[str, Any]:  # fmt: skip
    """What the child needs to know to run an artifact."""
    return {
        "task": task_key,
        "path": str(artifact.path),
        "entry": artifact.entry,
        "inputs": [[list(s.shape), s.dtype] for s in inputs],
        "outputs": [[list(s.shape), s.dtype] for s in outputs],
        "seed": seed,
        "reference": str(reference.path),
        "dtype": reference.dtype,
        "reduction": reference.reduction,
    }
