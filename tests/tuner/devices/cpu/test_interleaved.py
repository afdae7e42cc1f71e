"""Interleaved timing: which kernel is timed how often, and what one that spoils the common inputs does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.workload import TensorSpec
from tuner.devices.cpu.guard import GuardedBuffers
from tuner.devices.cpu.interleaved import BuffersSpoiled, Trial, measure_interleaved
from tuner.devices.cpu.runner import CpuRunner
from tuner.outputs import OutputCheck
from tuner.protocols import AaControl, Job, Policy
from tuner.records import Fidelity, Measurement, Status

POLICY = Policy(Fidelity.CERTIFY, min_samples=5, min_time_s=0.01, max_time_s=5.0, half_width=0.2, block_s=0.0005)


INPUTS = [np.ones(4, dtype=np.float32)]


def buffers() -> GuardedBuffers:
    return GuardedBuffers(INPUTS, [TensorSpec((4,), "float32")])


@dataclass
class Busy:
    """Keeps a core busy for `call_s` a call, on an input and an output."""

    call_s: float
    spoils: bool = False
    buffers: GuardedBuffers = field(default_factory=buffers)
    calls: int = 0

    def launch(self, count: int) -> None:
        deadline = time.perf_counter() + self.call_s * count
        while time.perf_counter() < deadline:
            pass
        self.calls += count
        self.buffers.outputs[0][:] = 1.0
        if self.spoils and self.calls > 3:
            self.buffers.inputs[0][0] += 1.0

    def stay(self) -> None:
        pass

    def outputs(self) -> list[Any]:
        return [self.buffers.outputs[0].copy()]


def job_of(number: int) -> Job:
    return Job("task", "", Path(), str(number), (), (), seed=0)


class Holder:
    """The service's part, without a library to load: a job's entry is the number of a Busy."""

    def __init__(self, *kernels: Busy) -> None:
        self.runner = CpuRunner()
        self._kernels = kernels
        self.pinned = 0

    def begin(self, job: Job, like: Trial | None = None) -> Trial:
        kernel = self._kernels[int(job.entry)]
        if like is not None:
            kernel.buffers = like.prepared.buffers
            kernel.buffers.fill(INPUTS)
        kernel.launch(1)
        return Trial(job, INPUTS, kernel, kernel.call_s, [np.ones(4, dtype=np.float32)], OutputCheck(True, 0.0, 0.0))

    def verify(self, trial: Trial) -> str:
        return "" if np.array_equal(trial.outputs[0], trial.prepared.outputs()[0]) else "after timing: differs"

    def pin(self, trial: Trial) -> None:
        self.pinned += 1

    def as_in_model(self, trials: Sequence[Trial]) -> dict[str, Any]:
        return {"constant_copies": 7 * len(trials)}


def run(*kernels: Busy, budget_s: float = 0.2) -> tuple[list[Measurement], AaControl | None, Holder]:
    """The measurements, the first kernel's A/A control, and what held the kernels."""
    holder = Holder(*kernels)
    answer = measure_interleaved(holder, [job_of(n) for n in range(len(kernels))], POLICY, budget_s, seed=1)
    control = None if answer["control"] is None else AaControl.from_json(answer["control"])
    return [Measurement.from_json(m) for m in answer["measurements"]], control, holder


def test_equals_take_part_in_every_round() -> None:
    (a, b), control, holder = run(Busy(0.0006), Busy(0.0006))
    assert a.status is b.status is Status.OK
    assert holder.pinned == 1
    assert control is not None
    rounds = set(a.conditions.rounds[0]) & set(b.conditions.rounds[0]) & set(control.rounds)
    assert len(rounds) >= 3
    assert 0.0006 <= a.median_s < 0.003
    assert a.max_abs_error == 0.0


def test_the_slow_one_takes_part_less_often_and_not_never() -> None:
    (fast, slow), _, _ = run(Busy(0.0005), Busy(0.02), budget_s=0.4)
    assert 1 <= len(slow.samples_s) < len(fast.samples_s)
    assert slow.conditions.rounds[0][0] == 0
    assert set(slow.conditions.rounds[0]) <= set(range(1000))


def test_a_spent_budget_still_gives_three_rounds() -> None:
    (a, b), control, _ = run(Busy(0.001), Busy(0.001), budget_s=0.0)
    assert control is not None
    assert [len(a.samples_s), len(b.samples_s), len(control.rounds)] == [3, 3, 3]
    assert a.stopped_by == "time limit"


def test_a_call_of_half_a_second_is_its_own_sample() -> None:
    (a,), control, _ = run(Busy(0.6), budget_s=0.1)
    assert a.samples_s == (0.6,)
    assert a.stopped_by == "one call is long enough"
    assert control is None


def test_common_inputs_that_change_end_the_comparison() -> None:
    with pytest.raises(BuffersSpoiled):
        run(Busy(0.0005), Busy(0.0005, spoils=True))
