"""A recorded space as a device, in the suites that every device passes, and what a recording makes of a job."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from kernels.space import Candidate
from tests.contracts.bench import BenchContract
from tests.contracts.builder import BuilderContract
from tests.contracts.device import TuningDeviceContract
from tuner.protocols import SCREEN, Artifact, Bench, Builder, Job, Task, TuningDevice, job_of
from tuner.records import Status
from tuner.simulate.device import SimulatedBench, SimulatedDevice, task_of
from tuner.simulate.recording import SpaceRecording
from tuner.simulate.space import RecordedSpace

RECORDING = SpaceRecording(
    "toy", "kernel", "a device", ("a", "b"), ((1, 2, 4), (8, 16)),
    np.array([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1]], dtype=np.int16), np.array([4.0, 3.0, math.nan, 2.0, 1.0]),
)  # fmt: skip
"""Five legal configurations of six, one of which failed when it was recorded."""

TASK = task_of(RECORDING)


def device_in(folder: Path) -> SimulatedDevice:
    return SimulatedDevice.of(RECORDING, RecordedSpace.of(RECORDING.values, RECORDING.choices), folder)


class TestBuilder(BuilderContract):
    writes_files = False

    @pytest.fixture(scope="class")
    @classmethod
    def builder(cls, tmp_path_factory: pytest.TempPathFactory) -> Builder:
        return device_in(tmp_path_factory.mktemp("simulated")).builder

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        return TASK


def job_in(folder: Path, *decisions: int) -> Job:
    builder, candidate = device_in(folder).builder, Candidate(0, decisions)
    [built] = builder.build(TASK, [candidate])
    assert isinstance(built, Artifact)
    references = builder.reference(TASK, [0], folder)
    assert not isinstance(references, str)
    return job_of(TASK, candidate, built, 0, references[0])


class TestBench(BenchContract):
    interleaves = False
    gives_up = False

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Bench:
        return SimulatedBench(RECORDING)

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job_in(tmp_path_factory.mktemp("simulated"), 0, 0)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job_in(tmp_path_factory.mktemp("simulated"), 1, 1)

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job_in(tmp_path_factory.mktemp("simulated"), 2, 0)

    def test_a_time_is_the_one_that_was_recorded(self, bench: Bench, job: Job, other: Job) -> None:
        assert [bench.measure(one, SCREEN).samples_s for one in (job, other)] == [(4.0,), (1.0,)]

    def test_what_was_not_recorded_is_a_failure(self, bench: Bench, job: Job) -> None:
        unknown = dataclasses.replace(job, candidate=Candidate(0, (2, 1)).to_text())
        measured = bench.measure(unknown, SCREEN)
        assert measured.status is Status.RUN_FAILED
        assert "not recorded" in measured.reason


class TestDevice(TuningDeviceContract):
    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, tmp_path_factory: pytest.TempPathFactory) -> TuningDevice:
        return device_in(tmp_path_factory.mktemp("simulated"))

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        return TASK
