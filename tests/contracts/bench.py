"""What every Bench, and every BundleBench, promises. A test module subclasses the suite and gives it jobs."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from tuner.devices.device import BundleBench
from tuner.protocols import CERTIFY, RANK, SCREEN, Bench, Job, Policy
from tuner.records import Measurement, Status


class Measuring(Protocol):
    """What a bench and one for bundles have in common."""

    def measure(self, job: Job, policy: Policy) -> Measurement: ...

    def close(self) -> None: ...


class MeasuringContract:
    """Fixtures: a `bench`, fresh for the class; a good `job`; a `broken` one, which cannot be run.

    `outcome` is what becomes of a good job. `gives_up`: the bench censors.
    """

    outcome = Status.OK
    gives_up = True

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Measuring:
        raise NotImplementedError("the implementation's test module provides the bench")

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls) -> Job:
        raise NotImplementedError("the implementation's test module provides a good job")

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls) -> Job:
        raise NotImplementedError("the implementation's test module provides a job that cannot be run")

    @pytest.mark.parametrize("policy", [SCREEN, RANK], ids=lambda policy: str(policy.fidelity))
    def test_a_good_job_is_measured_at_the_fidelity_asked_for(self, bench: Measuring, job: Job, policy: Policy) -> None:
        measured = bench.measure(job, policy)
        assert measured.status is self.outcome, measured.reason
        assert measured.fidelity is policy.fidelity
        assert Measurement.from_json(json.loads(json.dumps(measured.to_json()))) == measured

    def test_a_broken_job_is_a_status_and_does_not_affect_the_next(
        self, bench: Measuring, job: Job, broken: Job
    ) -> None:
        failed = bench.measure(broken, SCREEN)
        assert failed.status in (Status.RUN_FAILED, Status.RUN_TIMEOUT, Status.WRONG_RESULT)
        assert failed.fidelity is SCREEN.fidelity
        assert failed.reason
        assert bench.measure(job, SCREEN).status is self.outcome

    def test_measuring_does_not_change_the_job(self, bench: Measuring, job: Job) -> None:
        before = json.dumps(job.to_json())
        bench.measure(job, SCREEN)
        assert json.dumps(job.to_json()) == before

    def test_what_is_too_slow_is_given_up(self, bench: Measuring, job: Job) -> None:
        measured = bench.measure(job, dataclasses.replace(SCREEN, give_up_above_s=1e-12))
        assert measured.status is (Status.CENSORED if self.gives_up else self.outcome)
        assert measured.censored_at_s == (1e-12 if self.gives_up else None)
        assert bench.measure(job, dataclasses.replace(SCREEN, give_up_above_s=1e3)).status is self.outcome

    def test_it_may_be_closed_twice(self, bench: Measuring) -> None:
        bench.close()
        bench.close()


class BundleBenchContract(MeasuringContract):
    """As well: it names its device."""

    def test_it_names_its_device(self, bench: BundleBench) -> None:
        assert bench.device
        assert bench.device == bench.device.strip()


class BenchContract(MeasuringContract):
    """As well: `other` is another good job of the task. `interleaves`: the bench has an A/A control."""

    interleaves = True

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls) -> Job:
        raise NotImplementedError("the implementation's test module provides another good job of the same task")

    def test_interleaved_jobs_have_a_measurement_each_in_their_order(
        self, bench: Bench, job: Job, other: Job, broken: Job
    ) -> None:
        measured, _ = bench.measure_interleaved([job, broken, other], RANK, 0.3, seed=0)
        first, failed, last = measured
        assert (first.status, last.status) == (self.outcome, self.outcome), (first.reason, last.reason)
        assert failed.status is not self.outcome
        assert failed.reason
        assert {m.fidelity for m in measured} == {RANK.fidelity}

    def test_the_control_is_of_the_rounds_of_the_others(self, bench: Bench, job: Job, other: Job) -> None:
        measured, control = bench.measure_interleaved([job, other], CERTIFY, 0.3, seed=1)
        assert [m.status for m in measured] == [self.outcome] * 2
        if not self.interleaves:
            assert control is None
            return
        assert control is not None
        assert len(control.rounds) == len(control.seconds) >= 3
        assert list(control.rounds) == sorted(set(control.rounds))
        assert min(control.seconds) > 0
        for one in measured:
            [rounds] = one.conditions.rounds
            assert len(rounds) == len(one.samples_s)
            assert set(rounds) & set(control.rounds)

    def test_interleaving_ends_with_its_budget(self, bench: Bench, job: Job, other: Job) -> None:
        endless = dataclasses.replace(CERTIFY, min_time_s=100.0, max_time_s=200.0, half_width=0.0)
        began = time.monotonic()
        measured, _ = bench.measure_interleaved([job, other], endless, 0.3, seed=2)
        assert time.monotonic() - began < 30.0
        assert [m.status for m in measured] == [self.outcome] * 2

    def test_outputs_are_stored_with_their_shapes_or_there_is_a_reason(
        self, bench: Bench, job: Job, broken: Job, tmp_path: Path
    ) -> None:
        assert bench.store_outputs(broken, tmp_path / "broken.npz")
        reason = bench.store_outputs(job, tmp_path / "outputs.npz")
        if reason is not None:
            assert reason
            assert not (tmp_path / "outputs.npz").exists()
            return
        with np.load(tmp_path / "outputs.npz", allow_pickle=False) as stored:
            shapes = [(stored[name].shape, str(stored[name].dtype)) for name in stored.files]
        assert shapes == [(spec.shape, spec.dtype) for spec in job.outputs]

    def test_it_goes_on_after_it_is_renewed(self, bench: Bench, job: Job) -> None:
        bench.renew()
        assert bench.measure(job, SCREEN).status is self.outcome

    def test_a_second_check_is_asked_for_or_not(self, bench: Bench, job: Job) -> None:
        assert bench.rechecks is (job.recheck is not None)
