"""The child that runs OpenCL kernels: what is OpenCL's of it."""

from __future__ import annotations

from typing import Any

from tuner.devices.gpu.kernel_service import GpuService
from tuner.devices.opencl import driver
from tuner.devices.opencl.ceilings import ceilings
from tuner.devices.opencl.driver import OpenclGpu
from tuner.devices.opencl.facts import caveats


class Listing:
    """A child's service: the devices of this machine."""

    def op_list(self) -> list[dict[str, Any]]:
        """Facts of each, as data. Raises GpuError."""
        return [facts.to_json() for facts in driver.devices()]


class OpenclService(GpuService):
    """`GpuService` on the OpenCL device of a number."""

    def __init__(self, device: int, mode: str) -> None:
        self._opencl = OpenclGpu(device)
        self._opencl.choose_clock()
        super().__init__(self._opencl, mode, lambda: None)
        self.caveat = caveats(self._opencl.facts.label).kernel

    def op_describe(self) -> dict[str, Any]:
        """The device's facts, and the clock that its kernels are timed by."""
        return {**self._opencl.facts.to_json(), "name": self._opencl.facts.label, "clock": self._opencl.clock}

    def op_ceilings(self) -> dict[str, Any]:
        """What the device can do at most, as `Device.ceilings` has it."""
        return ceilings(self._opencl)
