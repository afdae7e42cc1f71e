"""The child that runs kernels on the simulated GPU: that of CUDA, with the simulated driver loaded first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.target import ARCH, CAVEATS

native.preload()  # before PyCUDA is imported, which takes the driver that is there

from tuner.devices.cuda.bench import Counter  # noqa: E402
from tuner.devices.cuda.driver import CudaGpu  # noqa: E402
from tuner.devices.cuda.kernel_service import CudaService  # noqa: E402
from tuner.devices.gpu.runner import Timing  # noqa: E402


class SimulatedCounter(Counter):
    """Counts the simulated GPUs."""


class SimulatedGpu(CudaGpu):
    """A CUDA device whose clock stands still while the host enqueues: the host is never late for it."""

    def time(self, work: Callable[[], None]) -> Timing:
        return dataclasses.replace(super().time(work), host_s=0.0)


class SimulatedService(CudaService):
    """`CudaService` on the simulated GPU of a number."""

    caveat = CAVEATS.kernel
    opened_as = SimulatedGpu

    def op_describe(self) -> dict[str, Any]:
        """As that of a GPU; its kernels are for no other."""
        described: Mapping[str, Any] = super().op_describe()
        return {**described, "arch": ARCH}
