"""This machine's CPU in the suites that every implementation of its seams passes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tvm.target import Target

from kernels.space import Candidate, DesignSpace
from kernels.workload import seeded_inputs
from tests.contracts.bench import BenchContract
from tests.contracts.builder import CompilerContract
from tests.contracts.device import CEILINGS, DeviceContract, first_of, hopeless
from tests.contracts.launchable import LaunchableContract
from tests.tuner.devices.test_builder import matmul
from tuner.config import MeasureConfig
from tuner.devices.builder import entry_of
from tuner.devices.cpu import CPU
from tuner.devices.cpu.bench import KernelBench
from tuner.devices.cpu.device import Cpu
from tuner.devices.cpu.kernel_service import KernelLibrary
from tuner.devices.device import Opening
from tuner.devices.target import ResolvedTarget
from tuner.graph import Lowered
from tuner.measure.replay import Recording
from tuner.process.pinning import thread_env
from tuner.progress import Progress
from tuner.protocols import SCREEN, Array, Artifact, Builder, Job, Task, job_of
from tuner.records import Fidelity, Measurement, Status

ATTRIBUTES = {"kind": "llvm", "num-cores": 1}
TARGET = json.dumps(ATTRIBUTES)


class TestBuilder(CompilerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def builder(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
        made = CPU.builder(TARGET, tmp_path_factory.mktemp("built"), workers=2, timeout_s=60)
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        return Task(matmul(), TARGET)

    @pytest.fixture(scope="class")
    @classmethod
    def hopeless(cls, space: DesignSpace) -> Candidate:
        return hopeless(first_of(space))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """A good schedule of a matmul, and the untuned program."""
    folder = tmp_path_factory.mktemp("jobs")
    task = Task(matmul(), TARGET)
    builder = CPU.builder(TARGET, folder / "built", workers=2, timeout_s=60)
    try:
        space = builder.space(task, ())
        candidates = [first_of(space), space.default()]
        built = builder.build(task, candidates)
        references = builder.reference(task, [0, 1], folder)
    finally:
        builder.close()
    assert not isinstance(references, str)
    made = []
    for candidate, artifact in zip(candidates, built, strict=True):
        assert isinstance(artifact, Artifact)
        made.append(job_of(task, candidate, artifact, 0, references[0], (1, references[1])))
    return made


class TestBench(BenchContract):
    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Iterator[KernelBench]:
        made = KernelBench("hot", 1, thread_env(1), timeout_s=20)
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls, jobs: list[Job]) -> Job:
        return jobs[0]

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, jobs: list[Job]) -> Job:
        return jobs[1]

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, jobs: list[Job]) -> Job:
        return dataclasses.replace(jobs[0], entry="not_in_the_library")

    def test_a_result_that_is_wrong_on_other_inputs_is_noticed(self, bench: KernelBench, job: Job) -> None:
        assert job.reference is not None
        measured = bench.measure(dataclasses.replace(job, recheck=(1, job.reference)), SCREEN)
        assert measured.status is Status.WRONG_RESULT
        assert "on other inputs" in measured.reason


class TestKernelLibrary(LaunchableContract):
    @pytest.fixture(scope="class")
    @classmethod
    def launchable(cls, jobs: list[Job]) -> KernelLibrary:
        return KernelLibrary(str(jobs[0].path), jobs[0].entry, jobs[0].outputs)

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls, jobs: list[Job]) -> list[Array]:
        return seeded_inputs(jobs[0].inputs, 0)

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, inputs: list[Array]) -> list[Array]:
        a, b = inputs
        return [a.astype(np.float64) @ b.astype(np.float64)]


class TestDevice(DeviceContract):
    """Times are replayed: what this machine can do at most is not asked here."""

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> Target:
        return Target(ATTRIBUTES)

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, graph: Lowered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cpu]:
        folder = tmp_path_factory.mktemp("device")
        replay = recording_of(graph, folder)
        target = ResolvedTarget("llvm", TARGET, 1, "some CPU")
        made = Cpu(
            Opening(target, MeasureConfig(), 1, folder, folder, Progress(), replay),
            CPU,
            CPU.builder(TARGET, folder, 1, 60),
        )
        yield made
        made.close()


def recording_of(graph: Lowered, folder: Path) -> Path:
    """A recording of the untuned program of a model's one task."""
    [task] = graph.tasks
    measured = Measurement(Status.OK, (1e-4, 1.1e-4, 1.2e-4), Fidelity.SCREEN)
    Recording({(entry_of(task.key, Candidate(-1)), Fidelity.SCREEN): measured}, CEILINGS).save(folder / "replay.json")
    return folder / "replay.json"
