"""CUDA in the suites that every implementation of its seams passes: what needs no GPU, and the bench on one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tvm.target import Target

from kernels.cubin import MissingCompiler, compile_cubin, find_nvcc
from kernels.launch_plan import Argument, Launch, LaunchPlan
from kernels.space import Candidate, DesignSpace
from kernels.tensors import TensorSpec, seeded_inputs
from tests.contracts.bench import BenchContract
from tests.contracts.builder import CompilerContract
from tests.contracts.device import DeviceContract, first_of, hopeless
from tests.tuner.devices.cpu.test_contracts import recording_of
from tests.tuner.devices.test_builder import matmul
from tuner.bundle.expected import expect, to_bytes
from tuner.config import MeasureConfig
from tuner.devices.cuda import CUDA
from tuner.devices.cuda.device import Cuda
from tuner.devices.device import Opening
from tuner.devices.target import ResolvedTarget
from tuner.graph import Lowered
from tuner.progress import Progress
from tuner.protocols import Builder, ExpectedOutput, Job, Task

if TYPE_CHECKING:
    from tuner.devices.cuda.bench import GpuBench

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


N = 1 << 20
BLOCK = 256
SOURCE = """
extern "C" __global__ void k(float* y, const float* x) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = 2.0f * x[i];
}
"""


@pytest.mark.gpu
class TestBench(BenchContract):
    """The only suite that runs kernels on a GPU."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Iterator[GpuBench]:
        pytest.importorskip("pycuda")
        from tuner.devices.cuda.bench import GpuBench

        made = GpuBench(0, "cold")
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls, bench: GpuBench, tmp_path_factory: pytest.TempPathFactory) -> Job:
        require_compiler()
        return doubling(tmp_path_factory.mktemp("job"), bench.arch)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, job: Job) -> Job:
        return dataclasses.replace(job, candidate="the same kernel again")

    @pytest.fixture(scope="class")
    @classmethod
    def broken(cls, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
        path = tmp_path_factory.mktemp("broken") / "not.cubin"
        path.write_bytes(b"\x7fELF and nothing else")
        return dataclasses.replace(job, path=path)


def doubling(folder: Path, arch: str) -> Job:
    """y = 2 x, with the outputs that a bundle would expect."""
    cubin = compile_cubin(SOURCE, arch, folder)
    argument = Argument((N,), "float32")
    plan = LaunchPlan((Launch("k", (1, 0), (N // BLOCK, 1, 1), (BLOCK, 1, 1)),), (argument, argument))
    spec = TensorSpec((N,), "float32")
    [x] = seeded_inputs((spec,), 0)
    values, sums = to_bytes(expect(2.0 * x, 1e-6, 1e-6))
    (folder / "values").write_bytes(values)
    if sums is not None:
        (folder / "sums").write_bytes(sums)
    expected = ExpectedOutput(folder / "values", None if sums is None else folder / "sums", 1e-6, 1e-6)
    return Job(
        "doubling", "a kernel", cubin.path, "k", (spec,), (spec,), 0, expected=(expected,),
        resources={"plan": plan.to_json()},
    )  # fmt: skip
