"""CUDA in the suites that every implementation of its seams passes: what needs no GPU, and the bench on one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tvm.target import Target

from kernels.cubin import MissingCompiler, find_nvcc
from kernels.space import Candidate, DesignSpace
from tests.contracts.bench import BenchContract, BundleBenchContract
from tests.contracts.builder import CompilerContract
from tests.contracts.device import DeviceContract, TuningDeviceContract, first_of, hopeless
from tests.gpu.kernels import job
from tests.tuner.devices.cpu.test_contracts import recording_of
from tests.tuner.devices.test_builder import matmul
from tuner.bundle.packing import PackingBench
from tuner.commands.bundle import _CompileOnly
from tuner.config import MeasureConfig
from tuner.devices.cuda import CUDA
from tuner.devices.cuda.device import Cuda
from tuner.devices.device import Opening
from tuner.devices.target import ResolvedTarget
from tuner.graph import Lowered
from tuner.progress import Progress
from tuner.protocols import Builder, Job, Task, TuningDevice
from tuner.records import Status

if TYPE_CHECKING:
    from tuner.devices.cuda.bench import CudaBench

TARGET = str(Target({"tag": "nvidia/nvidia-h100"}))


def require_compiler() -> None:
    """Skips, with the reason, where nothing compiles CUDA."""
    from kernels import nvrtc

    if nvrtc.library() is None:
        try:
            find_nvcc()
        except MissingCompiler as error:
            pytest.skip(str(error))


class TestBuilder(CompilerContract):
    @pytest.fixture(scope="class")
    @classmethod
    def builder(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
        made = CUDA.builder(TARGET, tmp_path_factory.mktemp("built"), workers=2, timeout_s=120)
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        return Task(matmul(), TARGET)

    @pytest.fixture(scope="class")
    @classmethod
    def compiles(cls) -> None:
        require_compiler()

    @pytest.fixture(scope="class")
    @classmethod
    def hopeless(cls, space: DesignSpace) -> Candidate:
        return hopeless(first_of(space))


class TestDevice(DeviceContract):
    """Times are replayed: there may be no GPU."""

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls) -> Target:
        return Target(json.loads(TARGET))

    @pytest.fixture(scope="class")
    @classmethod
    def compiles(cls) -> None:
        require_compiler()

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, graph: Lowered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cuda]:
        folder = tmp_path_factory.mktemp("device")
        target = ResolvedTarget("cuda", TARGET, 1, "some GPU", ("sm_90a",))
        made = Cuda(Opening(target, MeasureConfig(), 1, folder, folder, Progress(), recording_of(graph, folder)), CUDA)
        yield made
        made.close()


class TestCompileOnly(TuningDeviceContract):
    """The device of a bundle's search."""

    outcome = Status.DEFERRED

    @pytest.fixture(scope="class")
    @classmethod
    def compiles(cls) -> None:
        require_compiler()

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TuningDevice]:
        builder = CUDA.builder(TARGET, tmp_path_factory.mktemp("bundle"), workers=1, timeout_s=120)
        yield _CompileOnly(builder, PackingBench())
        builder.close()

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        return Task(matmul(), TARGET)


@pytest.mark.gpu
class TestBench(BenchContract, BundleBenchContract):
    """The only suite that runs kernels on a GPU."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Iterator[CudaBench]:
        pytest.importorskip("pycuda")
        from tuner.devices.cuda.bench import CudaBench

        made = CudaBench(0, "cold")
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        require_compiler()
        return job("right", tmp_path_factory.mktemp("job"))

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job("right", tmp_path_factory.mktemp("other"), number=1)

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, tmp_path_factory: pytest.TempPathFactory) -> Job:
        return job("illegal address", tmp_path_factory.mktemp("broken"))
