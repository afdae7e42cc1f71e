"""The child that runs kernels on the simulated GPU: that of CUDA, with the simulated driver loaded first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.target import ARCH, CAVEATS

native.preload()  # before PyCUDA is imported, which takes the driver that is there

from tuner.devices.cuda.bench import Counter  # noqa: E402
from tuner.devices.cuda.kernel_service import CudaService  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping


class SimulatedCounter(Counter):
    """Counts the simulated GPUs."""


class SimulatedService(CudaService):
    """`CudaService` on the simulated GPU of a number."""

    caveat = CAVEATS.kernel

    def op_describe(self) -> dict[str, Any]:
        """As that of a GPU; its kernels are for no other."""
        described: Mapping[str, Any] = super().op_describe()
        return {**described, "arch": ARCH}
