"""The bench of the simulated GPU."""

from __future__ import annotations

import dataclasses

from tuner.devices.cuda.bench import CudaBench
from tuner.devices.cuda.simulated.target import INSTALL, require
from tuner.process.limits import for_kernels


class SimulatedBench(CudaBench):
    """`CudaBench` on the simulated GPU. Its kernels are code of the host, so the child is confined as one that runs
    kernels of a CPU is."""

    service = "tuner.devices.cuda.simulated.kernel_service:SimulatedService"
    counter = "tuner.devices.cuda.simulated.kernel_service:SimulatedCounter"
    install = INSTALL
    advice = "see what `python -m tuner doctor` says of it"
    limits = dataclasses.replace(for_kernels(), file_bytes=1 << 30)

    @classmethod
    def count(cls) -> int:
        """How many there are. Raises TargetError where one cannot be had."""
        require()
        return super().count()
