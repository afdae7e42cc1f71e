"""Data sheets of GPUs, for the analytical model. Standard library only.

Figures are the vendors' own, at boost clock. The ceilings of a report do not come from here: those are measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class GpuSpec:
    """A data sheet. `_flops` are flop/s, dense, a multiply-add being 2: `tensor_flops` of operands of 16 bits, and
    `byte_flops` of bytes, 0 where tensor cores take none; `_bytes` are bytes/s; `l2_size` is in bytes."""

    name: str
    arch: str
    multiprocessors: int
    clock_hz: float
    fp32_flops: float
    tensor_flops: float
    byte_flops: float
    dram_bytes: float
    l2_bytes: float
    l2_size: int

    @property
    def shared_bytes(self) -> float:
        """Bandwidth of all shared memories in bytes/s: 32 banks of 4 bytes a clock each."""
        return 128.0 * self.multiprocessors * self.clock_hz


_MIB = 1 << 20
GPUS: Mapping[str, GpuSpec] = {
    gpu.name: gpu
    for gpu in (
        GpuSpec("RTX 2080 Ti", "sm_75", 68, 1.545e9, 13.4e12, 54e12, 215e12, 616e9, 1.9e12, int(5.5 * _MIB)),
        GpuSpec("TITAN RTX", "sm_75", 72, 1.77e9, 16.3e12, 130e12, 261e12, 672e9, 2.1e12, 6 * _MIB),
        GpuSpec("RTX 3090", "sm_86", 82, 1.695e9, 35.6e12, 71e12, 284e12, 936e9, 2.5e12, 6 * _MIB),
        GpuSpec("RTX A4000", "sm_86", 48, 1.56e9, 19.2e12, 77e12, 153e12, 448e9, 1.5e12, 4 * _MIB),
        GpuSpec("V100", "sm_70", 80, 1.53e9, 15.7e12, 125e12, 0.0, 900e9, 2.5e12, 6 * _MIB),
        GpuSpec("A100", "sm_80", 108, 1.41e9, 19.5e12, 312e12, 624e12, 1555e9, 4.5e12, 40 * _MIB),
        GpuSpec("L40", "sm_89", 142, 2.49e9, 90.5e12, 181e12, 362e12, 864e9, 5.0e12, 96 * _MIB),
        GpuSpec("H100", "sm_90a", 132, 1.98e9, 67e12, 990e12, 1979e12, 3350e9, 5.5e12, 50 * _MIB),
        GpuSpec("H200", "sm_90a", 132, 1.98e9, 67e12, 990e12, 1979e12, 4800e9, 5.5e12, 50 * _MIB),
        GpuSpec("B200", "sm_100a", 148, 1.85e9, 75e12, 2250e12, 4500e12, 8000e9, 9.0e12, 126 * _MIB),
    )
}


MODELLED_AS = "sm_75"
"""OpenCL does not tell how a device is built: for the analytical model, a GPU of the middle stands for it."""


def gpu_of(arch: str) -> GpuSpec:
    """The most capable listed GPU of an architecture. Raises ValueError where none is listed."""
    for gpu in reversed(tuple(GPUS.values())):
        if gpu.arch.rstrip("af") == arch.rstrip("af"):
            return gpu
    raise ValueError(f"no GPU of {arch!r} is listed; known: {', '.join(sorted({g.arch for g in GPUS.values()}))}")


LEAST_SM: Mapping[str, int] = {"float16": 70, "int8": 75, "bfloat16": 80, "float32": 80, "fp8": 89}
"""The first architecture whose tensor cores take an operand dtype; float32 stands for TF32."""


def sm_number(arch: str) -> int:
    """`sm_90a` -> 90. Raises ValueError."""
    matched = re.fullmatch(r"sm_(\d+)[af]?", arch)
    if matched is None:
        raise ValueError(f"not a CUDA architecture: {arch!r}")
    return int(matched[1])
