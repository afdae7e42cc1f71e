"""The analytical model estimates plain cases as anyone would, and names what bounds them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kernels.gpus import GPUS, gpu_of
from kernels.roofline import FEATURE_NAMES, Work, estimate

H100 = GPUS["H100"]
PRODUCT = Work(
    blocks=264, threads=256, registers=128, shared_memory=32768, flops=2.0 * 128 * 128 * 4096,
    l2_bytes=128 * 4096 * 8e0,
    shared_bytes=64 * 4096 * 128.0, least_dram_bytes=3 * 4096 * 2048 * 4.0, steps=128, independent=64, overhead=1.1,
)  # fmt: skip


def test_a_large_product_is_bound_by_arithmetic_near_the_peak() -> None:
    made = estimate(PRODUCT, H100)
    assert made.bound_by == "arithmetic"
    ideal = PRODUCT.blocks * PRODUCT.flops / H100.fp32_flops
    assert ideal < made.seconds < 2 * ideal


def test_a_copy_is_bound_by_device_memory() -> None:
    nbytes = 2.0**30
    copy = Work(8192, 256, 32, 0, 0.0, nbytes / 8192, 0.0, nbytes, independent=4)
    made = estimate(copy, H100)
    assert made.bound_by == "device memory"
    assert nbytes / H100.dram_bytes < made.seconds < 1.5 * nbytes / H100.dram_bytes


@pytest.mark.parametrize(
    "worse",
    [
        {"conflicts": 16.0},
        {"coalesced": 0.1},
        {"spilled": 100},
        {"independent": 1, "threads": 32, "shared_memory": 200_000},
        {"blocks": 265},
        {"overhead": 3.0},
        {"l2_bytes": 1e8},
    ],
    ids=lambda change: next(iter(change)),
)
def test_more_work_or_waste_takes_longer(worse: dict[str, float]) -> None:
    assert estimate(replace(PRODUCT, **worse), H100).seconds > 1.02 * estimate(PRODUCT, H100).seconds  # type: ignore[arg-type]


def test_tensor_cores_help() -> None:
    assert estimate(replace(PRODUCT, tensor_cores=True), H100).seconds < estimate(PRODUCT, H100).seconds


def test_what_cannot_be_launched_takes_infinite_time() -> None:
    made = estimate(replace(PRODUCT, shared_memory=300_000), H100)
    assert (made.seconds, made.bound_by) == (math.inf, "shared memory")
    assert len(made.features()) == len(FEATURE_NAMES)


def test_features_are_finite() -> None:
    made = estimate(PRODUCT, H100).features()
    assert len(made) == len(FEATURE_NAMES)
    assert all(map(math.isfinite, made))


def test_the_gpu_of_an_architecture() -> None:
    assert gpu_of("sm_90a").name == "H200"
    assert gpu_of("sm_80").name == "A100"
    with pytest.raises(ValueError, match="sm_61"):
        gpu_of("sm_61")
