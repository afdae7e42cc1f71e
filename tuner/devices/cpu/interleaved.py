"""Several kernels of one task checked and timed interleaved, in one process and on the same buffers.

The incumbent, the first one that is right, has two entries in the rounds: its difference from itself is the A/A noise
of this process.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tuner.devices.checked import with_errors, wrong_result
from tuner.devices.cpu.guard import GuardedBuffers
from tuner.devices.cpu.runner import CpuRunner, clock_share
from tuner.measure.metadata import process_conditions, usage, used_since
from tuner.measure.rounds import InterleavedSamples, sample_rounds
from tuner.measure.stats import StopRule, should_stop
from tuner.outputs import OutputCheck
from tuner.protocols import Array, Job, Policy, Prepared
from tuner.records import Conditions, Fidelity, Measurement, Status

SLOW_CALL_S = 0.5
"""A first call longer than this is itself a sample good to a per cent; more calls would only cost budget."""


class Guarded(Prepared, Protocol):
    """Something prepared on guarded buffers, which show what it did to them."""

    buffers: GuardedBuffers

    def stay(self) -> None:
        """From now on call on the guarded buffers alone, not on copies of what is constant."""


class BuffersSpoiled(Exception):
    """Some kernel wrote where it must not. Which one is found by measuring each alone."""


@dataclass(frozen=True)
class Trial:
    """A kernel that was loaded and called once: how long that took, its outputs, and whether they were right."""

    job: Job
    inputs: list[Array]
    prepared: Guarded
    first_call_s: float
    outputs: list[Array]
    check: OutputCheck

    def one_call(self, fidelity: Fidelity) -> Measurement:
        """The first call as the measurement, where it was long enough."""
        return Measurement(Status.OK, (self.first_call_s,), fidelity, StopRule.ONE_LONG_CALL)


class KernelHolder(Protocol):
    """What a service that holds kernels offers: see `kernel_service.KernelService`."""

    runner: CpuRunner

    def begin(self, job: Job, like: Trial | None = None) -> Trial:
        """Load a kernel (on the buffers of `like`, where given), call it once, and check its outputs."""

    def verify(self, trial: Trial) -> str:
        """What is wrong after the timing; "" when nothing."""

    def pin(self, trial: Trial) -> None:
        """Pin the threads that a kernel keeps busy."""

    def as_in_model(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Where the mode says so, let kernels of one task take copies of their constants in turn; the conditions that
        say so."""


@dataclass(kw_only=True)
class _CpuSamples(InterleavedSamples):
    """A kernel's samples on the CPU, each a block of `calls` calls. `elapsed_s` is the timed work in all of them,
    `preempted` counts those during which the process was switched out."""

    prepared: Prepared
    calls: int
    elapsed_s: float = 0.0
    preempted: int = 0


def measure_interleaved(
    holder: KernelHolder, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
) -> dict[str, Any]:
    """`{measurements, control}`: one Measurement as data for each job, in order, and the incumbent's A/A control.

    `budget_s` is for all of it, loading and checking included; sampling ends as `sample_rounds` says. A kernel whose
    first call was longer than SLOW_CALL_S takes no part in the rounds. Raises BuffersSpoiled.
    """
    began = time.perf_counter()
    before = usage()
    load = os.getloadavg()[0]
    trials: list[Trial] = []
    for job in jobs:
        trials.append(holder.begin(job, like=trials[0] if trials else None))
        _require_unspoiled(trials[0])
    timed = [t for t in trials if t.check.ok and t.first_call_s <= SLOW_CALL_S]
    rotated = holder.as_in_model(timed)
    samples = _sampled(holder, timed, policy, began + budget_s, seed) if timed else []
    _require_unspoiled(trials[0])
    common = process_conditions(holder.runner.mode) | rotated | {"load_before": load} | used_since(before)
    run_s = (time.perf_counter() - began) / max(len(trials), 1)
    samples_of = {id(trial): entry for trial, entry in zip(timed, samples, strict=False)}
    measurements = []
    for trial in trials:
        measured = _measurement(holder, trial, samples_of.get(id(trial)), policy, common)
        measurements.append(dataclasses.replace(measured, run_s=run_s).to_json())
    return {"measurements": measurements, "control": samples[-1].control().to_json() if samples else None}


def _require_unspoiled(trial: Trial) -> None:
    if fault := trial.prepared.buffers.fault(trial.inputs):
        raise BuffersSpoiled(f"on buffers that all of them share, {fault}")


def _sampled(
    holder: KernelHolder, trials: Sequence[Trial], policy: Policy, deadline: float, seed: int
) -> list[_CpuSamples]:
    """The samples of each trial, then those of the A/A control: the first one's second entry."""
    runner = holder.runner
    holder.pin(min(trials, key=lambda trial: trial.first_call_s))
    entries = [_calibrated(runner, trial.prepared, trial.first_call_s, policy) for trial in [*trials, trials[0]]]
    sample_rounds(entries, lambda entry: _block(runner, entry), lambda entry: entry.elapsed_s, policy, deadline, seed)
    for entry in entries:  # those that took part in some rounds only had no say in when to stop, but have a rule too
        entry.stopped_by = should_stop(entry.seconds, policy, entry.elapsed_s) or StopRule.TIME_LIMIT
    return entries


def _calibrated(runner: CpuRunner, prepared: Prepared, first_s: float, policy: Policy) -> _CpuSamples:
    first_s = min(first_s, runner.sample(prepared, 1))
    calls, blocks = runner.calibrate(prepared, first_s, policy.block_s)
    per_call = min([b.seconds for b in blocks], default=first_s)
    return _CpuSamples(cost_s=per_call * (calls + 1), prepared=prepared, calls=calls)  # with the warm-up call


def _block(runner: CpuRunner, entry: _CpuSamples) -> tuple[float, bool]:
    """Seconds per call of one block, and whether the process was switched out meanwhile."""
    if runner.in_blocks:
        entry.prepared.launch(1)  # a warm-up call: the others have driven its data out of the caches
    block = runner.block(entry.prepared, entry.calls)
    entry.preempted += block.preempted
    entry.elapsed_s += block.seconds * entry.calls
    return block.seconds, block.preempted


def _measurement(
    holder: KernelHolder, trial: Trial, samples: _CpuSamples | None, policy: Policy, common: Mapping[str, Any]
) -> Measurement:
    """What is known of a trial after the timing. `common` are the conditions that all trials share."""
    check = trial.check
    if not check.ok:
        return wrong_result(check.reason, check, policy.fidelity)
    if samples is None:
        measured = dataclasses.replace(trial.one_call(policy.fidelity), conditions=Conditions(details=common))
        return with_errors(measured, check)
    trial.prepared.buffers.fill(trial.inputs)  # they hold what another kernel wrote
    trial.prepared.launch(1)
    wrong = holder.verify(trial)
    if wrong:
        return wrong_result(wrong, check, policy.fidelity)
    details = {
        **common,
        "calls_per_block": samples.calls,
        "clock_share": clock_share(samples.calls, samples.seconds),
        "samples_preempted": samples.preempted,
        "samples_dropped": samples.dropped,
    }
    conditions = Conditions(rounds=(tuple(samples.rounds),), details=details)
    measured = Measurement(
        Status.OK, tuple(samples.seconds), policy.fidelity, samples.stopped_by, conditions=conditions
    )
    return with_errors(measured, check)
