"""Occupancy agrees with the calculator that NVIDIA ships, on thousands of kernels of every architecture."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from kernels.cubin import MissingCompiler, find_nvcc
from kernels.occupancy import MULTIPROCESSORS, Occupancy, occupancy

ORACLE = r"""
#include <cstdio>
#include "cuda_occupancy.h"
int main() {
  int major, minor, threads_sm, regs_sm, threads, registers;
  long shared_sm, optin, reserved, shared;
  while (scanf("%d %d %d %d %ld %ld %ld %d %d %ld", &major, &minor, &threads_sm, &regs_sm, &shared_sm, &optin,
               &reserved, &threads, &registers, &shared) == 10) {
    cudaOccDeviceProp p = {};
    p.computeMajor = major; p.computeMinor = minor; p.maxThreadsPerBlock = 1024;
    p.maxThreadsPerMultiprocessor = threads_sm; p.regsPerBlock = 65536; p.regsPerMultiprocessor = regs_sm;
    p.warpSize = 32; p.sharedMemPerBlock = 49152; p.sharedMemPerMultiprocessor = shared_sm; p.numSms = 1;
    p.sharedMemPerBlockOptin = optin; p.reservedSharedMemPerBlock = reserved;
    cudaOccFuncAttributes a = {};
    a.maxThreadsPerBlock = 1024; a.numRegs = registers; a.sharedSizeBytes = 0; a.numBlockBarriers = 0;
    a.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN; a.maxDynamicSharedSizeBytes = shared;
    cudaOccDeviceState s = {};
    s.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult r;
    int code = cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &a, &s, threads, shared);
    printf("%d\n", code ? -code : r.activeBlocksPerMultiprocessor);
  }
}
"""


def test_it_agrees_with_the_calculator_of_the_toolkit(tmp_path: Path) -> None:
    try:
        command = [find_nvcc(), "--dryrun", "-x", "cu", "/dev/null"]
    except MissingCompiler as error:
        pytest.skip(str(error))
    plan = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    toolkit = Path(plan.partition("TOP=")[2].split("\n")[0])
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None or not (toolkit / "include" / "cuda_occupancy.h").exists():
        pytest.skip("no host compiler, or a toolkit without cuda_occupancy.h")
    (tmp_path / "oracle.cpp").write_text(ORACLE)
    binary = tmp_path / "oracle"
    subprocess.run([compiler, "-I", toolkit / "include", "-o", binary, tmp_path / "oracle.cpp"], check=True)
    rng = random.Random(0)
    cases = [
        (
            sm,
            rng.randint(1, 1024),
            rng.randint(1, 255),
            rng.choice((0, rng.randint(1, 50_000), rng.randint(1, 240_000))),
        )
        for sm in MULTIPROCESSORS
        for _ in range(500)
    ]
    lines = []
    for sm, threads, registers, shared in cases:
        has = MULTIPROCESSORS[sm]
        lines.append(
            f"{sm // 10} {sm % 10} {has.threads} {has.registers} {has.shared} {has.shared_per_block} {has.reserved} "
            f"{threads} {registers} {shared}"
        )
    expected = subprocess.run(
        [binary], input="\n".join(lines), capture_output=True, text=True, check=True
    ).stdout.split()
    computed = [occupancy(f"sm_{sm}", t, r, s).blocks for sm, t, r, s in cases]
    differ = [
        (case, blocks, int(wanted))
        for case, blocks, wanted in zip(cases, computed, expected, strict=True)
        if blocks != int(wanted)
    ]
    assert not differ, f"{len(differ)} of {len(cases)}: {differ[:5]}"


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "limiter"),
    [
        (1024, 32, 0, "threads"),
        (32, 16, 0, "blocks"),
        (256, 255, 0, "registers"),
        (128, 32, 100_000, "shared memory"),
    ],
)
def test_the_limiter_is_named(threads: int, registers: int, shared: int, limiter: str) -> None:
    assert occupancy("sm_90a", threads, registers, shared).limiter == limiter


def test_a_full_multiprocessor() -> None:
    assert occupancy("sm_90a", 1024, 32, 0) == Occupancy(2, 64, 1.0, "threads")


def test_what_cannot_be_launched() -> None:
    assert occupancy("sm_75", 64, 32, 70_000).blocks == 0
    assert occupancy("sm_80", 1024, 128, 0) == Occupancy(0, 0, 0.0, "registers")


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ValueError, match="sm_35"):
        occupancy("sm_35", 32, 32, 0)
