"""The child that runs kernels: it loads an artifact, checks it against the reference, and only then times it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels.reference import Expectation
from kernels.workload import TensorSpec, seeded_inputs
from tuner.limits import large_files, memory_growth
from tuner.measure.cpu import CpuRunner
from tuner.measure.guard import GuardedBuffers
from tuner.measure.keeper import Keeper
from tuner.pinning import pin_workers
from tuner.protocols import Array, Artifact, Policy, Reference
from tuner.records import Measurement, Status, Tier
from tuner.worker import ChildDied, ChildError, ChildTimeout

_SLOW_CALL_S = 0.5
"""A first call longer than this is itself a sample good to a per cent; more calls would only cost budget."""

_LOOP_IN_PYTHON = 8
"""Blocks of more calls are run by TVM's own loop, whose start costs about as much as this many calls."""

_PIN_AFTER_S = 0.05
"""Work enough for the threads of a pool to show themselves."""

_MOST_CACHED = 8
"""Sets of inputs, and references: each task has two of either."""

_MOST_HELD = 1 << 30
"""Bytes of inputs that are kept, save that two sets always are: making them again takes longer than most trials."""

_MEMORY_BESIDE = 1 << 30
_MEMORY_TIMES = 8
"""A kernel may allocate this many bytes, and this many times its own tensors: packed layouts need copies of them."""

Verdict = tuple[bool, float | None, float | None, str]
"""Right or not, the greatest absolute and relative error where there is one, why not."""


class LoadedKernel:
    """A kernel of a shared library on fixed inputs. Implements `protocols.Prepared`."""

    def __init__(self, module: Any, entry: str, buffers: GuardedBuffers) -> None:
        import tvm

        self._module = module
        self._entry = entry
        self._function = module[entry]
        self._device = tvm.cpu()
        self._arrays = buffers.tensors
        self.buffers = buffers

    def launch(self, count: int) -> None:
        if count <= _LOOP_IN_PYTHON:
            for _ in range(count):
                self._function(*self._arrays)
            return
        self._module.time_evaluator(self._entry, self._device, number=count - 1, repeat=1)(*self._arrays)

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

    def op_health(self, job: Mapping[str, Any] | None) -> str:
        """Whether this worker still does what it should: "", or what is wrong. `job` is one that was right before."""
        if job is None:
            return "" if float(np.ones(1000, np.float32).sum()) == 1000 else "it cannot add"
        inputs = self._seeded(job)
        prepared = self._library(job).prepare(inputs)
        prepared.launch(1)
        return prepared.buffers.fault(inputs) or self._check(job, prepared.outputs())[3]

    def op_run(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any]:
        """Check, then time, then check again. The answer is a Measurement as data, see `measurement_from_json`.

        `job` is what `job_of` makes. Allocations far beyond the size of the kernel's tensors fail.
        """
        tensors = sum(TensorSpec(tuple(s), d).nbytes for s, d in (*job["inputs"], *job["outputs"]))
        with memory_growth(_MEMORY_BESIDE + _MEMORY_TIMES * tensors + _thread_memory()):
            return self._run(job, policy)

    def _run(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        inputs = self._seeded(job)
        library = self._library(job)
        prepared = library.prepare(inputs)
        start = time.perf_counter()
        prepared.launch(1)
        first_call_s = time.perf_counter() - start
        answer = prepared.outputs()
        fault = prepared.buffers.fault(inputs)
        verdict: Verdict = (False, None, None, fault) if fault else self._check(job, answer)
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
            reason = self._fault_after_timing(job, prepared, inputs, answer)
            if reason:
                measured = Measurement(Status.WRONG_RESULT, tier=tier, reason=reason)
        return measurement_to_json(dataclasses.replace(measured, run_s=time.perf_counter() - began, **errors))

    def _fault_after_timing(
        self, job: Mapping[str, Any], prepared: LoadedKernel, inputs: Sequence[Array], answer: Sequence[Array]
    ) -> str:
        """What is wrong with the buffers as timing left them, or with the answer to other inputs; "" if nothing is."""
        buffers = prepared.buffers
        if fault := buffers.fault(inputs):
            return f"after timing: {fault}"
        if any(not np.array_equal(a, b) for a, b in zip(answer, buffers.outputs, strict=True)):
            right, _, _, reason = self._check(job, buffers.outputs)
            if not right:
                return f"after timing: {reason}"
        other = {**job, **job["again"]}
        inputs = self._seeded(other)
        buffers.fill(inputs)
        prepared.launch(1)
        reason = buffers.fault(inputs) or self._check(other, buffers.outputs)[3]
        return f"on other inputs, after timing: {reason}" if reason else ""

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
            specs = tuple(TensorSpec(tuple(s), d) for s, d in job["inputs"])
            size = sum(spec.nbytes for spec in specs)
            while len(self._inputs) >= _MOST_CACHED or (len(self._inputs) > 1 and size + self._held() > _MOST_HELD):
                self._inputs.pop(next(iter(self._inputs)))
            self._inputs[key] = seeded_inputs(specs, job["seed"])
        return self._inputs[key]

    def _held(self) -> int:
        return sum(array.nbytes for arrays in self._inputs.values() for array in arrays)

    def _check(self, job: Mapping[str, Any], answer: Sequence[Array]) -> Verdict:
        path = job["reference"]
        if path not in self._references:
            while len(self._references) >= _MOST_CACHED:
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


def _thread_memory() -> int:
    """What the stacks of a pool of threads may take: it is started by the first kernel that needs it. Bytes."""
    return (os.cpu_count() or 1) * (16 << 20)


def _save(path: str, arrays: Sequence[Array]) -> None:
    with large_files(), open(path, "wb") as file:
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
    """The parent's side: whatever a kernel does to the child it runs in is a status."""

    def __init__(self, mode: str, threads: int, env: Mapping[str, str], timeout_s: float) -> None:
        settings = {"mode": mode, "threads": threads}
        self._keeper = Keeper("tuner.measure.kernel:KernelService", settings, env, timeout_s)

    def measure(self, job: Mapping[str, Any], policy: Policy) -> Measurement:
        """Check and time one artifact. Whatever goes wrong is a status with a reason.

        Raises InfrastructureError when a kernel that was right before is so no longer.
        """
        began = time.perf_counter()
        try:
            measurement = measurement_from_json(self._keeper.run(job, policy))
        except ChildTimeout as error:
            status, reason = Status.RUN_TIMEOUT, str(error)
        except (ChildDied, ChildError) as error:
            status, reason = Status.RUN_FAILED, str(error)
        else:
            if measurement.status is Status.WRONG_RESULT:
                self._keeper.replace()  # it may have written anywhere
            elif measurement.ok:
                self._keeper.remember(measurement.median_s, job)
            return measurement
        return Measurement(status, tier=policy.tier, reason=reason[:300], run_s=time.perf_counter() - began)

    def store_outputs(self, job: Mapping[str, Any], path: Path) -> str | None:
        """Run once and store the outputs; the reason when that fails."""
        try:
            self._keeper.call("outputs", job=dict(job), path=str(path))
        except (ChildTimeout, ChildDied, ChildError) as error:
            return str(error)
        return None

    def close(self) -> None:
        self._keeper.close()


def job_of(artifact: Artifact, task_key: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec],
           seed: int, reference: Reference, again: tuple[int, Reference] | None = None) -> dict[str, Any]:  # fmt: skip
    """What the child needs to know to run an artifact. `again`: the seed and the reference of the check after timing;
    without them it has the same inputs, which a stale output still does not survive."""
    other_seed, other = again or (seed, reference)
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
        "again": {"seed": other_seed, "reference": str(other.path)},
    }
