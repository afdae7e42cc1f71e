"""Hostile kernels on PoCL: each costs its own trial only, with the right status, and the next one is healthy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tuner.devices.opencl.hand_written import OUTCOMES, job, pocl
from tuner.devices.opencl.bench import OpenclBench, open_devices
from tuner.errors import InfrastructureError, TargetError
from tuner.protocols import SCREEN
from tuner.records import Status


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenclBench]:
    made = OpenclBench(pocl(), "hot", 2, tmp_path_factory.mktemp("bench"), run_timeout_s=60.0)
    yield made
    made.close()


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_kernel_gets_its_status_and_the_next_is_healthy(
    name: str, bench: OpenclBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, words = OUTCOMES[name]
    with monkeypatch.context() as patch:
        if status is Status.RUN_TIMEOUT:  # the others have time enough to be compiled on a busy machine
            patch.setattr(bench, "_run_timeout_s", 4.0)
        measured = bench.measure(job(name, tmp_path), SCREEN)
    assert measured.status is status, measured.reason
    assert words in measured.reason
    healthy = bench.measure(job("right", tmp_path, 1), SCREEN)
    assert healthy.status is Status.OK, healthy.reason


def test_the_bench_says_what_it_times_by_and_that_it_is_a_cpu(bench: OpenclBench) -> None:
    assert bench.description["clock"] in ("events", "wall")
    assert "a CPU, its times are not a GPU's" in bench.device


def test_ceilings_are_measured_by_kernels(bench: OpenclBench) -> None:
    ceilings = bench.ceilings()
    assert 1e8 < ceilings["peak_flops_per_s"] < 1e14
    assert 1e8 < ceilings["bandwidth_bytes_per_s"] < 1e13
    assert "float16" not in ceilings["peaks"] or not pocl().missing_for("float16")


def test_a_driver_that_is_gone_ends_the_bench_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = OpenclBench(pocl(), "hot", 2, tmp_path, run_timeout_s=4.0)
    made.close()
    monkeypatch.setattr("tuner.devices.gpu.bench._HEALTH_PAUSES_S", (0.0, 0.1))
    service = made._service  # noqa: SLF001 - its next child looks for drivers elsewhere
    nowhere = dict.fromkeys(("OCL_ICD_VENDORS", "OPENCL_VENDOR_PATH"), str(tmp_path / "none"))
    monkeypatch.setattr(made, "_service", replace(service, env={**service.env, **nowhere}))
    with pytest.raises(InfrastructureError, match=r"no longer works: .*OpenCL device 0 is gone: there are 0") as caught:
        made.measure(job("right", tmp_path), SCREEN)
    assert "what was measured is kept; look whether its driver is still installed" in caught.value.hint


def test_kernels_of_another_kind_and_devices_that_are_not_there_are_refused() -> None:
    pocl()
    with pytest.raises(TargetError, match="a bundle for OpenCL whose kernels are for sm_90a"):
        open_devices(None, "sm_90a", "hot")
    with pytest.raises(TargetError, match="--gpus: no OpenCL device 99, there are"):
        open_devices([99], "opencl", "hot")
