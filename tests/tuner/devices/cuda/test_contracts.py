"""CUDA in the suites that every implementation of its seams passes: what needs no GPU, and the bench on one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from tuner.measure.entries import EXACT, EXACT_WHOLE
from tuner.models import ImportedModel, Reduced
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

    @pytest.mark.parametrize(
        ("reduced", "computed_in"),
        [
            (None, {"torch": "", "onnxruntime_cpu": ""}),
            (Reduced("float16", 2.0**-11), {"torch": "float32", "torch_graph_fp16": "float16",
             "onnxruntime_cuda_fp16": "float16", "onnxruntime_cpu": "float32"}),
            (Reduced("bfloat16", 2.0**-8), {"torch_bf16": "bfloat16", "onnxruntime_cuda": "float32"}),
            (Reduced("int8"), {"onnxruntime_cuda": "int8"}),
            (Reduced("int8", whole={"of": "floats"}), {"torch": "float32", "onnxruntime_cuda_int8": "int8"}),
            (Reduced("auto", 2.0**-8, {"of": "floats"}), {"torch_bf16": "bfloat16", "onnxruntime_cuda_int8": "int8"}),
        ],
    )  # fmt: skip
    def test_baselines_in_the_model_s_precision_stand_beside_and_say_so(
        self, device: Cuda, model: ImportedModel, reduced: Reduced | None, computed_in: Mapping[str, str]
    ) -> None:
        made = replace(model, reduced=reduced)
        entries = {e.name: e for e in device.entries(made, {}, ("torch", "torch_channels_last", "onnxruntime"))}
        assert {name: entries[name].precision for name in computed_in} == computed_in
        short = {"float16": "_fp16", "bfloat16": "_bf16", "int8": "_int8"}
        other = {ending for dtype, ending in short.items() if dtype not in computed_in.values()}
        assert not [name for name in entries if name.endswith(tuple(other))]
        of_floats = {name for name, entry in entries.items() if entry.whole}
        assert bool(of_floats) == bool(reduced and reduced.whole)
        assert all(entries[name].settings["model_spec"] == {"of": "floats"} for name in of_floats)
        unit = entries[EXACT].settings.get("unit", 0.0)
        assert unit == (reduced.unit if reduced else 0.0)
        assert (EXACT_WHOLE in entries) == bool(of_floats)


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
