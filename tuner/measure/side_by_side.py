"""Several kernels of one task timed in turn, in one process: what drifts, drifts for all of them.

Every round runs one block of each, in random order. The incumbent, the first one that is right, is there twice, with
buffers of its own each time: its difference from itself is the A/A noise of this process.
"""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tuner.measure.certificate import process_conditions, usage, used_since
from tuner.measure.cpu import CpuRunner, clock
from tuner.measure.guard import GuardedBuffers
from tuner.measure.stats import should_stop, undisturbed
from tuner.outputs import Check
from tuner.protocols import Array, Policy, Prepared
from tuner.records import Measurement, Status, Tier

SLOW_CALL_S = 0.5
"""A first call longer than this is itself a sample good to a per cent; more calls would only cost budget."""

LEAST_ROUNDS = 3
"""Without as many pairs nothing can be said of a difference, so they are run even when the time is over."""

_RARE = 4.0
"""What costs this many times the cheapest takes part in some of the rounds only, for half of the others' time."""

_LOOK_EVERY = 4


class Guarded(Prepared, Protocol):
    """Something prepared on buffers that show what it did to them."""

    buffers: GuardedBuffers


@dataclass(frozen=True)
class Trial:
    """A kernel that was loaded and called once: how long that took, what it answered, whether that was right."""

    job: Mapping[str, Any]
    inputs: list[Array]
    prepared: Guarded
    first_call_s: float
    answer: list[Array]
    check: Check

    def wrong(self, reason: str, tier: Tier) -> Measurement:
        return self.right(Measurement(Status.WRONG_RESULT, tier=tier, reason=reason))

    def right(self, measured: Measurement) -> Measurement:
        """`measured`, with how far the answer was from the reference."""
        found = self.check
        return dataclasses.replace(measured, max_abs_error=found.max_abs_error, max_rel_error=found.max_rel_error)

    def one_call(self, tier: Tier) -> Measurement:
        """The first call as the measurement, where it was long enough."""
        return Measurement(Status.OK, (self.first_call_s,), tier, "one call is long enough")


class Bench(Protocol):
    """What a service that holds kernels offers: `kernel.KernelService`."""

    runner: CpuRunner

    def begin(self, job: Mapping[str, Any]) -> Trial: ...

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
    disturbed: list[bool] = field(default_factory=list)
    elapsed_s: float = 0.0
    stopped_by: str = "time limit"

    def kept(self, minimum: int) -> list[int]:
        return undisturbed(self.disturbed, minimum)


def side_by_side(
    bench: Bench, jobs: Sequence[Mapping[str, Any]], policy: Policy, budget_s: float, seed: int
) -> dict[str, Any]:
    """`{measurements, shadow}`: one Measurement as data for each job, in order, and the incumbent's second entry.

    `budget_s` is for all of it, loading and checking included. Sampling ends when a rule of `policy` holds for every
    kernel that takes part in every round, or with the budget, but not before three rounds.
    """
    began = time.perf_counter()
    before = usage()
    load = os.getloadavg()[0]
    trials = [bench.begin(job) for job in jobs]
    timed = [t for t in trials if t.check.ok and t.first_call_s <= SLOW_CALL_S]
    shadow: _Entry | None = None
    entries: dict[int, _Entry] = {}
    if timed:
        bench.pin(min(timed, key=lambda t: t.first_call_s))
        entries = {id(t): _enter(bench.runner, t.prepared, t.first_call_s, policy) for t in timed}
        again = bench.begin(timed[0].job)
        shadow = _enter(bench.runner, again.prepared, again.first_call_s, policy)
        take_turns(bench.runner, [*entries.values(), shadow], policy, began + budget_s, seed)
    common = process_conditions(bench.runner.mode) | {"load_before": load} | used_since(before)
    run_s = (time.perf_counter() - began) / max(len(trials), 1)
    found = []
    for trial in trials:
        measured = _judge(bench, trial, entries.get(id(trial)), policy, common)
        found.append(dataclasses.replace(measured, run_s=run_s).to_json())
    return {"measurements": found, "shadow": None if shadow is None else _pairs_of(shadow, policy)}


def _enter(runner: CpuRunner, prepared: Prepared, first_s: float, policy: Policy) -> _Entry:
    calls = runner.calls_per_block(prepared, min(first_s, runner.sample(prepared, 1)), policy.block_s)
    per_call = min(runner.sample(prepared, calls), runner.sample(prepared, calls))
    return _Entry(prepared, calls, per_call * (calls + 1))


def take_turns(runner: CpuRunner, entries: Sequence[_Entry], policy: Policy, deadline: float, seed: int) -> None:
    """Fill `entries` with samples. `deadline` is a moment of time.perf_counter."""
    cheapest = min(entry.cost_s for entry in entries)
    often = [entry for entry in entries if entry.cost_s <= _RARE * cheapest]
    all_rounds_s = sum(entry.cost_s for entry in often)
    for entry in entries:
        if entry.cost_s > _RARE * cheapest:
            entry.period = max(1, round(2.0 * entry.cost_s / all_rounds_s))
    rng = random.Random(seed)
    number = 0
    while True:
        taking_part = [entry for entry in entries if number % entry.period == 0]
        rng.shuffle(taking_part)
        for entry in taking_part:
            _block(runner, entry, number)
        number += 1
        if number < LEAST_ROUNDS:
            continue
        if number % _LOOK_EVERY == 0 and all(_finished(entry, policy) for entry in often):
            break
        if time.perf_counter() >= deadline:
            break
    for entry in entries:
        _finished(entry, policy)


def _block(runner: CpuRunner, entry: _Entry, number: int) -> None:
    if runner.hot:
        entry.prepared.launch(1)  # what it needs was driven out by the others
    switches = usage().switches
    seconds = runner.sample(entry.prepared, entry.calls)
    entry.disturbed.append(usage().switches > switches)
    entry.seconds.append(seconds)
    entry.rounds.append(number)
    entry.elapsed_s += seconds * entry.calls


def _finished(entry: _Entry, policy: Policy) -> bool:
    kept = [entry.seconds[i] for i in entry.kept(policy.min_samples)]
    rule = should_stop(kept, policy, entry.elapsed_s)
    entry.stopped_by = rule or "time limit"
    return rule is not None


def _judge(bench: Bench, trial: Trial, entry: _Entry | None, policy: Policy, common: Mapping[str, Any]) -> Measurement:
    if not trial.check.ok:
        return trial.wrong(trial.check.reason, policy.tier)
    wrong = bench.verify(trial)
    if wrong:
        return trial.wrong(wrong, policy.tier)
    if entry is None:
        return dataclasses.replace(trial.right(trial.one_call(policy.tier)), conditions=dict(common))
    pairs = _pairs_of(entry, policy)
    conditions = {
        **common,
        "calls_per_block": entry.calls,
        "clock_share": max(clock().empty_s, clock().resolution_s) / (entry.calls * min(pairs["seconds"])),
        "samples_disturbed": sum(entry.disturbed),
        "samples_dropped": len(entry.seconds) - len(pairs["seconds"]),
        "round": pairs["rounds"],
    }
    return trial.right(
        Measurement(Status.OK, tuple(pairs["seconds"]), policy.tier, entry.stopped_by, conditions=conditions)
    )


def _pairs_of(entry: _Entry, policy: Policy) -> dict[str, Any]:
    kept = entry.kept(policy.min_samples)
    return {"rounds": [entry.rounds[i] for i in kept], "seconds": [entry.seconds[i] for i in kept]}
