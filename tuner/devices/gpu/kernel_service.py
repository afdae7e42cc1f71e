"""The child that runs kernels on a GPU: it loads them, checks their outputs, and only then times them.

For hosts without TVM: what it needs of a job is in the job, or in files that the job names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kernels.launch_plan import BadPlan, LaunchPlan
from kernels.tensors import TensorSpec, seeded_inputs
from tuner.bundle.expected import OutputChecker, from_bytes
from tuner.caveats import NONE, Caveat
from tuner.devices.checked import Ready, with_errors, wrong_result
from tuner.devices.gpu.runner import (
    Gpu,
    GpuError,
    GpuPrepared,
    GpuRunner,
    GpuSamples,
    GpuState,
    exclusion_reason,
    lower_bound_s,
)
from tuner.measure.plausible import plausible
from tuner.outputs import OutputCheck
from tuner.protocols import Array, Job, Policy
from tuner.records import Conditions, Fidelity, Measurement, Status

Checker = Callable[[Array], tuple[bool, float, float, str]]
"""Of an output: whether it is right, its greatest absolute error, that error over the output's scale, and why not."""

_MOST_TASKS_CACHED = 4
_BROKEN = "the GPU's context no longer works"


class GpuKernel(GpuPrepared, Protocol):
    """A compiled program on fixed inputs. Methods raise GpuError."""

    def outputs(self) -> list[Array]:
        """The outputs of the last call on the first copy."""

    def damage(self) -> str:
        """What the kernel changed that is not its output: its inputs, or bytes around any buffer. "" when nothing."""

    def free(self) -> None:
        """Give its memory back. Errors are ignored."""


class DrivenGpu(Gpu, Protocol):
    """What the service needs of a driver, besides what the runner needs. `peak_bytes_per_s` is 0 where it is not
    known."""

    peak_bytes_per_s: float

    def kernel(
        self, compiled: bytes, plan: LaunchPlan, inputs: Sequence[Array], outputs: Sequence[TensorSpec]
    ) -> GpuKernel:
        """A compiled program on fixed inputs, ready to be enqueued; its outputs hold NaN. Raises GpuError."""

    def healthy(self) -> bool:
        """Whether a known kernel still runs and gets its outputs right."""


@dataclass(frozen=True)
class _Trial:
    """A kernel that was called once: its outputs, and whether they are right."""

    job: Job
    kernel: GpuKernel
    outputs: list[Array]
    check: OutputCheck


class GpuService:
    """Runs in a child of its own, for one GPU. `mode` is hot or cold; `read_state` reads what the driver tells.

    A device's service adds `op_describe`, the name of the GPU among what it returns, and makes the driver. `caveat` is
    that of its times, which every measurement carries.
    """

    caveat: Caveat = NONE

    def __init__(self, gpu: DrivenGpu, mode: str, read_state: Callable[[], GpuState | None]) -> None:
        self._mode = mode
        self._gpu = gpu
        self._read_state = read_state
        self._runner = GpuRunner(gpu, mode, read_state)
        self._inputs: dict[tuple[str, int], list[Array]] = {}
        self._known_checkers: dict[str, list[Checker]] = {}

    def op_health(self) -> bool:
        """Whether the GPU runs a known kernel and gets its outputs right."""
        return self._gpu.healthy()

    def op_run(self, job: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, Any]:
        """Check, then time, then check again: {"measurement": as data, "retire": whether this child must not be used
        any more}.

        A failure that leaves the GPU healthy (a launch that was refused, say) costs its own trial only; after any
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
        measured = dataclasses.replace(self._told(measured), run_s=time.perf_counter() - began)
        return {"measurement": measured.to_json(), "retire": retire}

    def op_outputs(self, job: Mapping[str, Any], path: str) -> None:
        """Store what a kernel computes, as the reference where no independent one can be had. Raises GpuError."""
        with self._called_once(Job.from_json(job)) as kernel, open(path, "wb") as file:
            np.savez(file, *kernel.outputs())

    def op_measure_interleaved(
        self, jobs: Sequence[Mapping[str, Any]], policy: Mapping[str, Any], budget_s: float, seed: int
    ) -> dict[str, Any]:
        """Check several kernels, then time them interleaved, the first right one twice: {"measurements": as data,
        "control": its A/A control}. Raises GpuError: then it is not known which of them is to blame."""
        began = time.perf_counter()
        stops = Policy.from_json(policy)
        asked = [Job.from_json(job) for job in jobs]
        with contextlib.ExitStack() as stack:
            kernels = [stack.enter_context(self._called_once(job)) for job in asked]
            trials = [self._trial(job, kernel) for job, kernel in zip(asked, kernels, strict=True)]
            right = [trial for trial in trials if trial.check.ok]
            before = self._read_state()
            entries = [trial.kernel for trial in [*right, *right[:1]]]
            samples = self._runner.run_interleaved(entries, stops, budget_s, seed) if entries else []
            excluded = exclusion_reason(before, self._read_state())
            samples_of = {id(trial): taken for trial, taken in zip(right, samples, strict=False)}
            measurements = []
            for trial in trials:
                measured = self._of_interleaved(trial, samples_of.get(id(trial)), stops.fidelity, excluded)
                run_s = (time.perf_counter() - began) / len(jobs)
                measurements.append(dataclasses.replace(self._told(measured), run_s=run_s).to_json())
        return {"measurements": measurements, "control": samples[-1].control().to_json() if samples else None}

    def _told(self, measured: Measurement) -> Measurement:
        """A measurement that says what its times are, where they have a caveat."""
        if not self.caveat.words or measured.failed:
            return measured
        details = {**measured.conditions.details, "times": self.caveat.words}
        return dataclasses.replace(measured, conditions=dataclasses.replace(measured.conditions, details=details))

    def _checked_and_timed(self, job: Job, policy: Policy) -> Measurement:
        inputs = self._seeded(job)
        with self._called_once(job) as kernel:
            trial = self._trial(job, kernel)
            if not trial.check.ok:
                return wrong_result(trial.check.reason, trial.check, policy.fidelity)
            measured = self._runner.run(Ready(job.entry, kernel), inputs, policy)
            nbytes = sum(a.nbytes for a in (*inputs, *trial.outputs))
            bound_s = lower_bound_s(nbytes, self._gpu.l2_bytes, self._gpu.peak_bytes_per_s)
            measured = plausible(measured, bound_s)
            if measured.status is Status.SUSPECT:
                return measured
            if reason := self._after_timing(trial):
                return Measurement(Status.WRONG_RESULT, fidelity=policy.fidelity, reason=reason)
            return with_errors(measured, trial.check)

    def _of_interleaved(
        self, trial: _Trial, samples: GpuSamples | None, fidelity: Fidelity, excluded: str
    ) -> Measurement:
        """What is known of a trial after the rounds; `samples` are None where it was wrong before them."""
        if samples is None:
            return wrong_result(trial.check.reason, trial.check, fidelity)
        if reason := self._after_timing(trial):
            return wrong_result(reason, trial.check, fidelity)
        details = {
            "mode": self._mode, "calls_per_sample": samples.calls, "copies": samples.copies,
            "samples_dropped": samples.dropped,
        }  # fmt: skip
        conditions = Conditions(excluded=excluded, rounds=(tuple(samples.rounds),), details=details)
        measured = Measurement(Status.OK, tuple(samples.seconds), fidelity, samples.stopped_by, conditions=conditions)
        return with_errors(measured, trial.check)

    @contextlib.contextmanager
    def _called_once(self, job: Job) -> Iterator[GpuKernel]:
        """A job's kernel, loaded on its inputs and called once; its memory is freed in the end. Raises GpuError."""
        plan = LaunchPlan.from_json(job.resources["plan"])
        kernel = self._gpu.kernel(job.path.read_bytes(), plan, self._seeded(job), list(job.outputs))
        try:
            kernel.enqueue(0)
            self._gpu.synchronize()
            yield kernel
        finally:
            kernel.free()

    def _trial(self, job: Job, kernel: GpuKernel) -> _Trial:
        outputs = kernel.outputs()
        return _Trial(job, kernel, outputs, self._check(job, outputs))

    def _after_timing(self, trial: _Trial) -> str:
        """What is wrong after the timing, or "": damage first, which wrong outputs may only follow from."""
        if reason := trial.kernel.damage():
            return reason
        outputs = trial.kernel.outputs()
        if any(a.tobytes() != b.tobytes() for a, b in zip(trial.outputs, outputs, strict=True)):
            check = self._check(trial.job, outputs)
            if not check.ok:
                return f"after timing: {check.reason}"
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

    def _check(self, job: Job, outputs: Sequence[Array]) -> OutputCheck:
        worst, relative = 0.0, 0.0
        for check, output in zip(self._checkers(job), outputs, strict=True):
            right, absolute, against_scale, reason = check(output)
            worst, relative = max(worst, absolute), max(relative, against_scale)
            if not right:
                return OutputCheck(False, worst, relative, reason)
        return OutputCheck(True, worst, relative)

    def _checkers(self, job: Job) -> list[Checker]:
        key = f"{job.task} {job.seed}"
        if key not in self._known_checkers:
            while len(self._known_checkers) >= _MOST_TASKS_CACHED:
                self._known_checkers.pop(next(iter(self._known_checkers)))
            self._known_checkers[key] = _from_bundle(job) if job.expected else _from_reference(job)
        return self._known_checkers[key]


def _from_bundle(job: Job) -> list[Checker]:
    checkers: list[Checker] = []
    for expectation, output in zip(job.expected, job.outputs, strict=True):
        sums = None if expectation.sums is None else expectation.sums.read_bytes()
        expected = from_bytes(expectation.values.read_bytes(), sums, expectation.rtol, expectation.atol)
        checkers.append(OutputChecker(expected, int(np.prod(output.shape, dtype=np.int64))).check)
    return checkers


def _from_reference(job: Job) -> list[Checker]:
    from kernels.reference import expectations

    reference = job.reference
    assert reference is not None, "a kernel is compared with a reference"
    with np.load(reference.path, allow_pickle=False) as stored:
        outputs = [stored[name] for name in stored.files]
    made = expectations(outputs, reference.dtype, reference.reduction, reference.rounding, reference.passing)
    return [expectation.check for expectation in made]
