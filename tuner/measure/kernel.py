"""The child that runs kernels: it loads an artifact, checks it against the reference, and only then times it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels.reference import Expectation
from kernels.tensors import TensorSpec, poison, seeded_inputs
from tuner.measure.cpu import CpuRunner
from tuner.pinning import pin_workers
from tuner.protocols import Array, Artifact, Policy, Reference
from tuner.records import Measurement, Status, Tier
from tuner.worker import Child, ChildDied, ChildError, ChildTimeout

_SLOW_CALL_S = 0.5
"""A first call longer than this is itself a sample good to a per cent; more calls would only cost budget."""

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

        poisoned = [poison(spec) for spec in self._outputs]
        arrays = [tvm.runtime.tensor(a) for a in (*inputs, *poisoned)]
        return LoadedKernel(tvm.runtime.load_module(self._path), self._entry, arrays, len(self._outputs))


class KernelService:
    """Runs in a child with the thread count the model will have."""

    def __init__(self, mode: str, threads: int) -> None:
        self._runner = CpuRunner(mode)
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
        """Check, then time. The answer is a Measurement as data, see `measurement_from_json`.

        `job` is what `job_of` makes.
        """
        began = time.perf_counter()
        inputs = self._seeded(job)
        library = self._library(job)
        prepared = library.prepare(inputs)
        start = time.perf_counter()
        prepared.launch(1)
        first_call_s = time.perf_counter() - start
        answer = prepared.outputs()
        verdict = self._check(job, answer)
        tier = Tier(policy["tier"])
        errors: dict[str, Any] = {"max_abs_error": verdict[1], "max_rel_error": verdict[2]}
        if not verdict[0]:
            wrong = Measurement(
                Status.WRONG_RESULT, tier=tier, reason=verdict[3], run_s=time.perf_counter() - began, **errors
            )
            return measurement_to_json(wrong)
        if not self._pinned and first_call_s < _SLOW_CALL_S:
            self._pinned = pin_workers(lambda: prepared.launch(1 + int(_PIN_AFTER_S / first_call_s)), self._threads)
        if first_call_s > _SLOW_CALL_S:
            return measurement_to_json(self._slow(first_call_s, policy, began, errors))
        measured = self._runner.run(
            _Ready(library.key, prepared), inputs, Policy(**{**policy, "tier": tier}), called_before=True
        )
        if measured.ok:
            after = prepared.outputs()
            changed = any(not np.array_equal(a, b) for a, b in zip(answer, after, strict=True))
            again = self._check(job, after) if changed else verdict
            if not again[0]:
                measured = Measurement(Status.WRONG_RESULT, tier=tier, reason=f"after timing: {again[3]}")
            elif any(not np.array_equal(a, b) for a, b in zip(inputs, prepared.inputs(), strict=True)):
                measured = Measurement(Status.WRONG_RESULT, tier=tier, reason="the kernel changed its inputs")
        return measurement_to_json(dataclasses.replace(measured, run_s=time.perf_counter() - began, **errors))

    def _slow(
        self, first_call_s: float, policy: Mapping[str, Any], began: float, errors: Mapping[str, Any]
    ) -> Measurement:
        limit = policy["give_up_above_s"]
        tier = Tier(policy["tier"])
        spent = time.perf_counter() - began
        if limit is not None and first_call_s > limit:
            return Measurement(
                Status.CENSORED, tier=tier, reason=f"over {limit:.3g} s", censored_at_s=limit, run_s=spent, **errors
            )
        return Measurement(Status.OK, (first_call_s,), tier, "one call is long enough", run_s=spent, **errors)

    def _library(self, job: Mapping[str, Any]) -> KernelLibrary:
        return KernelLibrary(job["path"], job["entry"], [TensorSpec(tuple(s), d) for s, d in job["outputs"]])

    def _seeded(self, job: Mapping[str, Any]) -> list[Array]:
        key = (job["task"], job["seed"])
        if key not in self._inputs:
            while len(self._inputs) >= _MOST_TASKS_CACHED:
                self._inputs.pop(next(iter(self._inputs)))
            self._inputs[key] = seeded_inputs(tuple(TensorSpec(tuple(s), d) for s, d in job["inputs"]), job["seed"])
        return self._inputs[key]

    def _check(self, job: Mapping[str, Any], answer: Sequence[Array]) -> tuple[bool, float | None, float | None, str]:
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
                return False, absolute, relative, reason
            worst_abs, worst_rel = max(worst_abs, absolute or 0.0), max(worst_rel, relative or 0.0)
        return True, worst_abs, worst_rel, ""


class _Ready:
    """A prepared kernel as a launchable, so that what was checked is what is timed."""

    def __init__(self, key: str, prepared: LoadedKernel) -> None:
        self.key = key
        self._prepared = prepared

    def prepare(self, inputs: Sequence[Array]) -> LoadedKernel:
        return self._prepared


def _save(path: str, arrays: Sequence[Array]) -> None:
    with open(path, "wb") as file:
        np.savez(file, *arrays)


def measurement_to_json(measurement: Measurement) -> dict[str, Any]:
    data = dataclasses.asdict(measurement)
    data["samples_s"] = list(measurement.samples_s)
    return data


def measurement_from_json(data: Mapping[str, Any]) -> Measurement:
    fields = dict(data)
    return Measurement(
        **{
            **fields,
            "status": Status(fields["status"]),
            "tier": Tier(fields["tier"]),
            "samples_s": tuple(fields["samples_s"]),
        }
    )


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
            return measurement_from_json(answer)
        except ChildTimeout as error:
            status, reason = Status.RUN_TIMEOUT, str(error)
        except (ChildDied, ChildError) as error:
            status, reason = Status.RUN_FAILED, str(error)
        return Measurement(status, tier=policy.tier, reason=reason[:300], run_s=time.perf_counter() - began)

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
