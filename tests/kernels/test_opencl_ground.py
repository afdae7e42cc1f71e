"""Over 300 GPU candidates executed without a GPU: emitted as OpenCL, run by PoCL. Sabotages: experiments/opencl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels.opencl_ground import (
    GROUND,
    Case,
    Ground,
    cases,
    overlapping_tiles,
    without_barrier,
    workload,
    wrong_stride,
)

pytest.importorskip("pyopencl", reason="needs pyopencl and pocl-binary-distribution")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    from tuner.devices.opencl.driver import devices
    from tuner.devices.opencl.facts import POCL

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCL_CACHE_DIR", str(tmp_path_factory.mktemp("pocl")))
        patch.setenv("PYOPENCL_NO_CACHE", "1")
        patch.setenv(
            "POCL_EXTRA_BUILD_FLAGS", "-cl-opt-disable"
        )  # a third of the time; barriers and memory are as ever
        number = next((facts.number for facts in devices() if facts.platform == POCL), None)
        if number is None:
            pytest.skip("PoCL is not installed")
        yield Ground(number)


EXECUTED: dict[str, int] = {}


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUND)
def test_candidates_are_right(name: str, ground: Ground) -> None:
    drawn = list(cases(workload(name), 11 if "conv2d" in name else 15))
    assert [ground.wrong(case) for case in drawn] == [""] * len(drawn)
    EXECUTED[name] = len(drawn)


def test_enough_was_executed() -> None:
    if len(EXECUTED) < len(GROUND):
        pytest.skip("only a part of the programs was asked for")
    assert min(EXECUTED.values()) >= 5, EXECUTED
    assert sum(EXECUTED.values()) >= 300, EXECUTED


@pytest.fixture(scope="module")
def product() -> Case:
    """A matrix product whose operands are staged in local memory."""
    return next(case for case in cases(workload("matmul of odd"), 4) if case.program.plan.launches[0].grid[0] > 1)


def test_a_barrier_that_is_missing_is_seen(ground: Ground, product: Case) -> None:
    sabotaged = without_barrier(product.program, 1)  # the one between staging and use
    assert sabotaged is not None
    found = ground.wrong(product, sabotaged)
    assert "wrong" in found or "not finite" in found


def test_a_wrong_stride_is_seen(ground: Ground) -> None:
    for case in cases(workload("sum"), 2):
        sabotaged = wrong_stride(case.program, 31)
        assert sabotaged is not None
        assert ground.wrong(case, sabotaged)


def test_overlapping_tiles_are_seen(ground: Ground, product: Case) -> None:
    sabotaged = overlapping_tiles(product.program)
    assert sabotaged is not None
    assert "not finite" in ground.wrong(product, sabotaged)


def test_the_work_group_s_size_is_in_the_source(product: Case) -> None:
    [launch] = product.program.plan.launches
    x, y, z = launch.block
    assert f"__kernel __attribute__((reqd_work_group_size({x}, {y}, {z}))) void main_kernel(" in product.program.source


def test_programs_are_joined_under_other_names(ground: Ground, product: Case, tmp_path: Path) -> None:
    from kernels.emit_gpu import GpuProgram
    from kernels.opencl import joined, renamed

    first, second = renamed(product.program, "a"), renamed(product.program, "b")
    assert first.plan.kernels == ("a_0",)
    both = GpuProgram(joined([first, second]), second.plan)
    assert "main_kernel" not in both.source
    assert ground.wrong(product, both) == ""
