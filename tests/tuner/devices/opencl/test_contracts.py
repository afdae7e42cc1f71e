"""OpenCL in the suites that every implementation of its seams passes, on PoCL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tvm.target import Target

from kernels.space import Candidate, DesignSpace
from tests.contracts.bench import BenchContract, BundleBenchContract
from tests.contracts.builder import CompilerContract
from tests.contracts.device import DeviceContract, first_of, hopeless
from tests.tuner.devices.opencl.hand_written import job, pocl, pocl_target
from tests.tuner.devices.test_builder import matmul
from tuner.config import MeasureConfig
from tuner.devices.device import Opening
from tuner.devices.opencl import OPENCL
from tuner.devices.opencl.bench import OpenclBench
from tuner.devices.opencl.device import Opencl
from tuner.progress import Progress
from tuner.protocols import Builder, Job, Task


class TestBuilder(CompilerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def builder(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
        made = OPENCL.builder(pocl_target().text, tmp_path_factory.mktemp("built"), workers=2, timeout_s=120)
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        return Task(matmul(), pocl_target().text)

    @pytest.fixture(scope="class")
    @classmethod
    def hopeless(cls, space: DesignSpace) -> Candidate:
        return hopeless(first_of(space))


class TestDevice(DeviceContract):
    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> Target:
        return pocl_target().tvm()

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opencl]:
        folder = tmp_path_factory.mktemp("device")
        made = Opencl(Opening(pocl_target(), MeasureConfig(), 1, folder, folder, Progress()), OPENCL)
        yield made
        made.close()


class TestBench(BenchContract, BundleBenchContract):
    """With kernels that a person wrote."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenclBench]:
        made = OpenclBench(pocl(), "cold", 2, tmp_path_factory.mktemp("bench"))
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job("right", tmp_path_factory.mktemp("job"))

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job("right", tmp_path_factory.mktemp("other"), number=1)

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job("no source", tmp_path_factory.mktemp("broken"))


def test_a_build_log_is_the_reason() -> None:
    pytest.importorskip("pyopencl")
    from tuner.devices.opencl.kernel import reason_of

    log = "clBuildProgram failed: BUILD_PROGRAM_FAILURE\n\nx.cl:3:9: error: use of undeclared identifier 'a'\n1 error"
    assert reason_of(log) == "x.cl:3:9: error: use of undeclared identifier 'a'"
    assert reason_of("\n") == ""
