"""On a real GPU: right kernels are timed as other timers time them, hostile ones cost their own trial only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels.cubin import MissingCompiler
from tests.gpu.kernels import EXPECTED, N, job
from tuner.protocols import CERTIFY, RANK, SCREEN, Job
from tuner.records import Status

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    pytest.importorskip("pycuda")
    from tuner.devices.cuda.bench import CudaBench

    made = CudaBench(0, "cold")
    yield made
    made.close()


def prepared(name: str, folder: Path) -> Job:
    try:
        return job(name, folder)
    except MissingCompiler as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", EXPECTED)
def test_each_kernel_gets_its_status_and_the_next_is_healthy(
    name: str, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.devices.gpu import bench as gpu_bench

    monkeypatch.setattr(gpu_bench, "RUN_TIMEOUT_S", 5.0)
    measured = bench.measure(prepared(name, tmp_path), SCREEN)
    status, words = EXPECTED[name]
    assert measured.status == status, measured.reason
    assert words in measured.reason
    healthy = bench.measure(prepared("right", tmp_path), SCREEN)
    assert healthy.status is Status.OK, healthy.reason


def test_a_copy_runs_at_the_speed_of_the_memory(bench: Any, tmp_path: Path) -> None:
    measured = bench.measure(job("right", tmp_path, n=1 << 26), RANK)
    assert measured.ok, measured.reason
    rate = 2 * 4 * (1 << 26) / measured.median_s
    assert rate > 1e11, "slower than any memory of a GPU of these ten years"
    assert rate < 2e13


def test_two_certifications_agree(bench: Any, tmp_path: Path) -> None:
    policy = dataclasses.replace(CERTIFY, max_time_s=3.0)
    first, second = (bench.measure(job("right", tmp_path), policy) for _ in range(2))
    assert first.median_s == pytest.approx(second.median_s, rel=0.02)


def test_nvml_tells_the_clock(bench: Any, tmp_path: Path) -> None:
    pytest.importorskip("pynvml")
    conditions = bench.measure(job("right", tmp_path), SCREEN).conditions.details
    assert conditions["before"]["sm_clock_mhz"] > 100
    assert conditions["after"]["other_processes"] == 0


def test_it_works_beside_pytorch_on_the_same_context() -> None:
    pytest.importorskip("pycuda")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    from tuner.devices.cuda.driver import CudaGpu

    gpu = CudaGpu(0)
    tensor = torch.arange(N, device="cuda", dtype=torch.float32)
    timing = gpu.time(lambda: tensor.mul_(2.0))
    assert timing.device_s > 0
    assert gpu.healthy()
    assert np.array_equal(tensor.cpu().numpy(), 2.0 * np.arange(N, dtype=np.float32))
    gpu.close()
    assert float(tensor.sum()) > 0, "PyTorch goes on afterwards"
