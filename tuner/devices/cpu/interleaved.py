"""Several kernels of one task timed interleaved, in one process: what drifts, drifts for all of them.

Every round runs one block of each, in random order, all on the same buffers. The incumbent, the first one that is
right, is there twice: its difference from itself is the A/A noise of this process.
"""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

from tuner.devices.cpu.guard import GuardedBuffers
from tuner.devices.cpu.runner import CpuRunner, clock
from tuner.measure.metadata import process_conditions, usage, used_since
from tuner.measure.stats import LEAST_ROUNDS, RARE, StopRule, periods, should_stop, undisturbed_rounds
from tuner.outputs import OutputCheck
from tuner.protocols import Array, Job, Policy, Prepared
from tuner.records import Conditions, Fidelity, Measurement, Status

SLOW_CALL_S = 0.5
"""A first call longer than this is itself a sample good to a per cent; more calls would only cost budget."""

_LOOK_EVERY = 4


class Guarded(Prepared, Protocol):
    """Something prepared on buffers that show what it did to them."""

    buffers: GuardedBuffers


class BuffersSpoiled(Exception):
    """Some kernel wrote where it must not; which one shows when each is measured alone."""


@dataclass(frozen=True)
class Trial:
    """A kernel that was loaded and called once: how long that took, what it put out, whether that was right."""

    job: Job
    inputs: list[Array]
    prepared: Guarded
    first_call_s: float
    outputs: list[Array]
    check: OutputCheck

    def wrong(self, reason: str, fidelity: Fidelity) -> Measurement:
        return self.right(Measurement(Status.WRONG_RESULT, fidelity=fidelity, reason=reason))

    def right(self, measured: Measurement) -> Measurement:
        """`measured`, with how far the answer was from the reference."""
        found = self.check
        return dataclasses.replace(measured, max_abs_error=found.max_abs_error, max_rel_error=found.max_rel_error)

    def one_call(self, fidelity: Fidelity) -> Measurement:
        """The first call as the measurement, where it was long enough."""
        return Measurement(Status.OK, (self.first_call_s,), fidelity, StopRule.ONE_LONG_CALL)


class KernelHolder(Protocol):
    """What a service that holds kernels offers: `kernel.KernelService`."""

    runner: CpuRunner

    def begin(self, job: Job, like: Trial | None = None) -> Trial: ...

    def verify(self, trial: Trial) -> str: ...

    def pin(self, trial: Trial) -> None: ...


@dataclass
class _Entry:
    """One place in the rounds. `cost_s` is what a block costs, its warm call included; `period` how often it runs."""

    prepared: Prepared
    calls: int
    cost_s: float
    period: int = 1
    rounds: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    preempted: int = 0
    elapsed_s: float = 0.0
    stopped_by: StopRule = StopRule.TIME_LIMIT

    def kept(self, undisturbed: Set[int]) -> list[int]:
        """Which of its samples are from quiet rounds; all of them where none is."""
        return [i for i, number in enumerate(self.rounds) if number in undisturbed] or list(range(len(self.rounds)))


def measure_interleaved(
    holder: KernelHolder, jobs: Sequence[Job], policy: Policy, budget_s: float, seed: int
) -> dict[str, Any]:
    """`{measurements, control}`: one Measurement as data for each job, in order, and the incumbent's A/A control.

    `budget_s` is for all of it, loading and checking included. Sampling ends when a rule of `policy` holds for every
    kernel that takes part in every round, or with the budget, but not before three rounds. Raises BuffersSpoiled.
    """
    began = time.perf_counter()
    before = usage()
    load = os.getloadavg()[0]
    trials: list[Trial] = []
    for job in jobs:
        trials.append(holder.begin(job, like=trials[0] if trials else None))
        _require_unspoiled(trials[0])
    timed = [t for t in trials if t.check.ok and t.first_call_s <= SLOW_CALL_S]
    control: _Entry | None = None
    entries: dict[int, _Entry] = {}
    undisturbed: Set[int] = set()
    if timed:
        holder.pin(min(timed, key=lambda t: t.first_call_s))
        entries = {id(t): _enter(holder.runner, t.prepared, t.first_call_s, policy) for t in timed}
        control = _enter(holder.runner, timed[0].prepared, timed[0].first_call_s, policy)
        undisturbed = sample_interleaved(holder.runner, [*entries.values(), control], policy, began + budget_s, seed)
    _require_unspoiled(trials[0])
    common = process_conditions(holder.runner.mode) | {"load_before": load} | used_since(before)
    run_s = (time.perf_counter() - began) / max(len(trials), 1)
    found = []
    for trial in trials:
        measured = _measurement(holder, trial, entries.get(id(trial)), undisturbed, policy, common)
        found.append(dataclasses.replace(measured, run_s=run_s).to_json())
    return {"measurements": found, "control": None if control is None else _pairs_of(control, undisturbed)}


def _require_unspoiled(trial: Trial) -> None:
    if fault := trial.prepared.buffers.fault(trial.inputs):
        raise BuffersSpoiled(f"on buffers that all of them share, {fault}")


def _enter(runner: CpuRunner, prepared: Prepared, first_s: float, policy: Policy) -> _Entry:
    first_s = min(first_s, runner.sample(prepared, 1))
    calls, blocks = runner.calibrate(prepared, first_s, policy.block_s)
    per_call = min([b.seconds for b in blocks], default=first_s)
    return _Entry(prepared, calls, per_call * (calls + 1))


def sample_interleaved(
    runner: CpuRunner, entries: Sequence[_Entry], policy: Policy, deadline: float, seed: int
) -> Set[int]:
    """Fill `entries` with samples; `deadline` is a moment of time.perf_counter. Returns the rounds to keep: a round in
    which something from outside interfered is dropped for all of them, so that what is left still pairs up.
    """
    costs = [entry.cost_s for entry in entries]
    often = [entry for entry in entries if entry.cost_s <= RARE * min(costs)]
    for entry, period in zip(entries, periods(costs), strict=True):
        entry.period = period
    rng = random.Random(seed)
    number = 0
    preempted: list[bool] = []
    while True:
        taking_part = [entry for entry in entries if number % entry.period == 0]
        rng.shuffle(taking_part)
        preempted.append(any([_block(runner, entry, number) for entry in taking_part]))
        number += 1
        if number < LEAST_ROUNDS:
            continue
        if number % _LOOK_EVERY == 0:
            undisturbed = set(undisturbed_rounds(preempted, policy.min_samples))
            if all(_finished(entry, undisturbed, policy) for entry in often):
                break
        if time.perf_counter() >= deadline:
            break
    undisturbed = set(undisturbed_rounds(preempted, policy.min_samples))
    for entry in entries:
        _finished(entry, undisturbed, policy)
    return undisturbed


def _block(runner: CpuRunner, entry: _Entry, number: int) -> bool:
    """Add one sample; whether the process was switched out meanwhile."""
    if runner.hot:
        entry.prepared.launch(1)  # what it needs was driven out by the others
    block = runner.block(entry.prepared, entry.calls)
    entry.preempted += block.preempted
    entry.seconds.append(block.seconds)
    entry.rounds.append(number)
    entry.elapsed_s += block.seconds * entry.calls
    return block.preempted


def _finished(entry: _Entry, undisturbed: Set[int], policy: Policy) -> bool:
    kept = [entry.seconds[i] for i in entry.kept(undisturbed)]
    rule = should_stop(kept, policy, entry.elapsed_s)
    entry.stopped_by = rule or StopRule.TIME_LIMIT
    return rule is not None


def _measurement(
    holder: KernelHolder,
    trial: Trial,
    entry: _Entry | None,
    undisturbed: Set[int],
    policy: Policy,
    common: Mapping[str, Any],
) -> Measurement:
    if not trial.check.ok:
        return trial.wrong(trial.check.reason, policy.fidelity)
    if entry is None:
        return dataclasses.replace(trial.right(trial.one_call(policy.fidelity)), conditions=Conditions(details=common))
    trial.prepared.buffers.fill(trial.inputs)  # they hold what another one wrote
    trial.prepared.launch(1)
    wrong = holder.verify(trial)
    if wrong:
        return trial.wrong(wrong, policy.fidelity)
    pairs = _pairs_of(entry, undisturbed)
    details = {
        **common,
        "calls_per_block": entry.calls,
        "clock_share": max(clock().empty_s, clock().resolution_s) / (entry.calls * min(pairs["seconds"])),
        "samples_preempted": entry.preempted,
        "samples_dropped": len(entry.seconds) - len(pairs["seconds"]),
    }
    conditions = Conditions(rounds=(tuple(pairs["rounds"]),), details=details)
    return trial.right(
        Measurement(Status.OK, tuple(pairs["seconds"]), policy.fidelity, entry.stopped_by, conditions=conditions)
    )


def _pairs_of(entry: _Entry, undisturbed: Set[int]) -> dict[str, Any]:
    kept = entry.kept(undisturbed)
    return {"rounds": [entry.rounds[i] for i in kept], "seconds": [entry.seconds[i] for i in kept]}
