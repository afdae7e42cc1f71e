"""The child that runs CUDA kernels: what is CUDA's of it."""

from __future__ import annotations

from typing import Any

from tuner.devices.cuda.driver import CudaGpu
from tuner.devices.cuda.nvml import Nvml
from tuner.devices.gpu.kernel_service import GpuService
from tuner.devices.gpu.runner import GpuRunner


def runner(device: int, mode: str, bus_id: str) -> GpuRunner:
    """The runner of tuned kernels, for baselines that share the primary context. Raises GpuError."""
    gpu, nvml = _opened(device, bus_id, CudaGpu)
    return GpuRunner(gpu, mode, nvml.read)


def _opened(device: int, bus_id: str, kind: type[CudaGpu]) -> tuple[CudaGpu, Nvml]:
    """NVML first: it counts the processes on the GPU before this one is among them."""
    nvml = Nvml(bus_id)
    gpu = kind(device)
    nvml.count_own()
    return gpu, nvml


class CudaService(GpuService):
    """`GpuService` on the CUDA device of a number, opened as `opened_as`."""

    opened_as = CudaGpu

    def __init__(self, device: int, mode: str, bus_id: str = "") -> None:
        self._cuda, self._nvml = _opened(device, bus_id, self.opened_as)
        super().__init__(self._cuda, mode, self._nvml.read)

    def op_describe(self) -> dict[str, Any]:
        """The GPU's name, architecture, bus id, driver, cache and memory rate; and why there is no NVML, if so."""
        gpu = self._cuda
        return {"name": gpu.name, "arch": gpu.arch, "bus_id": gpu.bus_id, "driver": gpu.driver,
                "l2_bytes": gpu.l2_bytes, "peak_bytes_per_s": gpu.peak_bytes_per_s,
                "nvml": self._nvml.missing or "there"}  # fmt: skip
