"""The child that runs CUDA kernels: loads a cubin, checks what it answers, and only then times it.

Made for hosts without TVM: what it needs of a job is in the job, or in files that the job names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kernels.launch_plan import BadPlan, LaunchPlan
from kernels.tensors import seeded_inputs
from tuner.bundle.expected import OutputChecker, from_bytes
from tuner.devices.cuda.driver import CudaGpu, CudaKernel
from tuner.devices.cuda.nvml import Nvml, exclusion_reason
from tuner.devices.cuda.runner import GpuError, GpuRunner, InterleavedSamples, lower_bound_s
from tuner.measure.plausible import plausible
from tuner.protocols import Array, Job, Policy
from tuner.records import Conditions, Fidelity, Measurement, Status

OutputCheck = Callable[[Array], tuple[bool, float, float, str]]

_MOST_TASKS_CACHED = 4
_BROKEN = "the GPU's context no longer works"


def runner(device: int, mode: str, bus_id: str) -> GpuRunner:
    """What tuned kernels are timed with, for whoever else shares the primary context. Raises GpuError."""
    gpu, nvml = _opened(device, bus_id)
    return GpuRunner(gpu, mode, nvml.read)


def _opened(device: int, bus_id: str) -> tuple[CudaGpu, Nvml]:
    """NVML first: it counts the processes on the GPU before this one is among them."""
    nvml = Nvml(bus_id)
    gpu = CudaGpu(device)
    nvml.ours()
    return gpu, nvml


class GpuService:
    """Runs in a child of its own, for one GPU."""

    def __init__(self, device: int, mode: str, bus_id: str = "") -> None:
        self._mode = mode
        self._gpu, self._nvml = _opened(device, bus_id)
        self._runner = GpuRunner(self._gpu, mode, self._nvml.read)
        self._inputs: dict[tuple[str, int], list[Array]] = {}
        self._known_checkers: dict[str, list[OutputCheck]] = {}

    def op_describe(self) -> dict[str, Any]:
        """What this GPU is."""
        gpu = self._gpu
        return {"name": gpu.name, "arch": gpu.arch, "bus_id": gpu.bus_id, "driver": gpu.driver,
                "l2_bytes": gpu.l2_bytes, "peak_bytes_per_s": gpu.peak_bytes_per_s,
                "nvml": self._nvml.missing or "there"}  # fmt: skip

    def op_health(self) -> bool:
        """Whether the GPU runs a known kernel and answers rightly."""
        return self._gpu.healthy()

    def op_run(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any]:
        """Check, then time: {"measurement": as data, "retire": whether this child must not be used again}.

        A failure that leaves the canary alive (a launch that was refused, say) costs its own trial only; after any
        other the context is lost, and this process with it.
        """
        began = time.perf_counter()
        stops = Policy.from_json(policy)
        retire = False
        try:
            measured = self._checked_and_timed(Job.from_json(job), stops)
        except (GpuError, BadPlan) as error:
            retire = not self._gpu.healthy()
            reason = f"{error}; {_BROKEN}" if retire else str(error)
            measured = Measurement(Status.RUN_FAILED, fidelity=stops.fidelity, reason=reason[:300])
        measured = dataclasses.replace(measured, run_s=time.perf_counter() - began)
        return {"measurement": measured.to_json(), "retire": retire}

    def _checked_and_timed(self, job: Job, policy: Policy) -> Measurement:
        inputs = self._seeded(job)
        kernel = self._loaded(job)
        try:
            kernel.enqueue(0)
            self._gpu.synchronize()
            answer = kernel.outputs()
            right, absolute, relative, reason = self._check(job, answer)
            if not right:
                return Measurement(Status.WRONG_RESULT, fidelity=policy.fidelity, reason=reason, max_abs_error=absolute,
                                   max_rel_error=relative)  # fmt: skip
            measured = self._runner.run(_Ready(kernel), inputs, policy)
            floor = lower_bound_s(
                sum(a.nbytes for a in (*inputs, *answer)), self._gpu.l2_bytes, self._gpu.peak_bytes_per_s
            )
            measured = plausible(measured, floor)
            if measured.status is Status.SUSPECT:
                return measured
            if reason := self._after(job, kernel, answer):
                return Measurement(Status.WRONG_RESULT, fidelity=policy.fidelity, reason=reason)
            return dataclasses.replace(measured, max_abs_error=absolute, max_rel_error=relative)
        finally:
            kernel.free()

    def op_outputs(self, job: Mapping[str, Any], path: str) -> None:
        """Store what a kernel computes, as the reference where no independent one can be had. Raises GpuError."""
        kernel = self._loaded(Job.from_json(job))
        try:
            kernel.enqueue(0)
            self._gpu.synchronize()
            with open(path, "wb") as file:
                np.savez(file, *kernel.outputs())
        finally:
            kernel.free()

    def op_measure_interleaved(
        self, jobs: Sequence[Mapping[str, Any]], policy: Mapping[str, Any], budget_s: float, seed: int
    ) -> dict[str, Any]:
        """Check several kernels, then time them interleaved, the first right one twice: {"measurements": as data,
        "control": its A/A control}. Raises GpuError: then it is not known which of them is to blame."""
        began = time.perf_counter()
        stops = Policy.from_json(policy)
        asked = [Job.from_json(job) for job in jobs]
        kernels: list[CudaKernel] = []
        try:
            for job in asked:
                kernels.append(self._loaded(job))
                kernels[-1].enqueue(0)
                self._gpu.synchronize()
            answers = [kernel.outputs() for kernel in kernels]
            checks = [self._check(job, answer) for job, answer in zip(asked, answers, strict=True)]
            right = [i for i, (ok, *_) in enumerate(checks) if ok]
            before = self._nvml.read()
            shown = [*right, *right[:1]]
            turns = self._runner.run_interleaved([kernels[i] for i in shown], stops, budget_s, seed) if right else []
            excluded = exclusion_reason(before, self._nvml.read())
            timed = dict(zip(right, turns, strict=False))
            found = []
            for i, (job, kernel) in enumerate(zip(asked, kernels, strict=True)):
                ok, absolute, relative, reason = checks[i]
                reason = reason if not ok else self._after(job, kernel, answers[i])
                measured = (
                    Measurement(Status.WRONG_RESULT, fidelity=stops.fidelity, reason=reason)
                    if reason
                    else self._of_interleaved(timed[i], stops.fidelity, excluded)
                )
                run_s = (time.perf_counter() - began) / len(jobs)
                measured = dataclasses.replace(measured, run_s=run_s, max_abs_error=absolute, max_rel_error=relative)
                found.append(measured.to_json())
            control = {"rounds": turns[-1].rounds, "seconds": turns[-1].seconds} if right else None
            return {"measurements": found, "control": control}
        finally:
            for kernel in kernels:
                kernel.free()

    def _of_interleaved(self, turn: InterleavedSamples, fidelity: Fidelity, excluded: str) -> Measurement:
        details = {
            "mode": self._mode, "calls_per_sample": turn.calls, "copies": turn.copies, "samples_dropped": turn.dropped,
        }  # fmt: skip
        conditions = Conditions(excluded=excluded, rounds=(tuple(turn.rounds),), details=details)
        return Measurement(Status.OK, tuple(turn.seconds), fidelity, turn.stopped_by, conditions=conditions)

    def _loaded(self, job: Job) -> CudaKernel:
        plan = LaunchPlan.from_json(job.resources["plan"])
        return self._gpu.kernel(job.path.read_bytes(), plan, self._seeded(job), list(job.outputs))

    def _after(self, job: Job, kernel: CudaKernel, answer: Sequence[Array]) -> str:
        """What is wrong after the timing, or "": damage first, which wrong outputs may only follow from."""
        if reason := kernel.damage():
            return reason
        again = kernel.outputs()
        if any(a.tobytes() != b.tobytes() for a, b in zip(answer, again, strict=True)):
            right, _, _, reason = self._check(job, again)
            if not right:
                return f"after timing: {reason}"
        return ""

    def _seeded(self, job: Job) -> list[Array]:
        """The task's inputs. Raises GpuError when this host draws others than the one that compiled."""
        key = (job.task, job.seed)
        if key not in self._inputs:
            while len(self._inputs) >= _MOST_TASKS_CACHED:
                self._inputs.pop(next(iter(self._inputs)))
            drawn = seeded_inputs(job.inputs, job.seed)
            wanted = job.inputs_sha256
            if wanted and [hashlib.sha256(a.tobytes()).hexdigest() for a in drawn] != list(wanted):
                raise GpuError(f"numpy {np.__version__} draws other inputs from seed {job.seed} than the bundle's did")
            self._inputs[key] = drawn
        return self._inputs[key]

    def _check(self, job: Job, answer: Sequence[Array]) -> tuple[bool, float, float, str]:
        worst, relative = 0.0, 0.0
        for judge, output in zip(self._checkers(job), answer, strict=True):
            right, absolute, against_scale, reason = judge(output)
            worst, relative = max(worst, absolute), max(relative, against_scale)
            if not right:
                return False, worst, relative, reason
        return True, worst, relative, ""

    def _checkers(self, job: Job) -> list[OutputCheck]:
        key = f"{job.task} {job.seed}"
        if key not in self._known_checkers:
            while len(self._known_checkers) >= _MOST_TASKS_CACHED:
                self._known_checkers.pop(next(iter(self._known_checkers)))
            self._known_checkers[key] = _from_bundle(job) if job.expected else _from_reference(job)
        return self._known_checkers[key]


def _from_bundle(job: Job) -> list[OutputCheck]:
    checkers: list[OutputCheck] = []
    for stated, output in zip(job.expected, job.outputs, strict=True):
        sums = None if stated.sums is None else stated.sums.read_bytes()
        expected = from_bytes(stated.values.read_bytes(), sums, stated.rtol, stated.atol)
        checkers.append(OutputChecker(expected, int(np.prod(output.shape, dtype=np.int64))).judge)
    return checkers


def _from_reference(job: Job) -> list[OutputCheck]:
    from kernels.reference import Expectation

    reference = job.reference
    assert reference is not None, "a kernel is compared with a reference"
    with np.load(reference.path, allow_pickle=False) as stored:
        return [Expectation(stored[name], reference.dtype, reference.reduction).check for name in stored.files]


class _Ready:
    """A prepared kernel as a launchable, so that what was checked is what is timed."""

    def __init__(self, kernel: CudaKernel) -> None:
        self._kernel = kernel

    def prepare(self, inputs: Sequence[Array]) -> CudaKernel:
        return self._kernel
