"""What the driver reports of a GPU around a measurement: clocks, temperature, throttling, other processes.

Only read. Clocks, limits and modes of the card are never set.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OUTSIDE_REASONS = {
    0x8: "hardware slowdown", 0x20: "software thermal slowdown", 0x40: "hardware thermal slowdown",
    0x80: "power brake",
}  # fmt: skip
"""Bits of nvmlClocksEventReasons that come from outside the kernel: its time is excluded from winning."""

OTHER_REASONS = {
    0x1: "idle", 0x2: "application clocks", 0x4: "power cap", 0x10: "sync boost", 0x100: "display clocks",
}  # fmt: skip
"""Bits that are recorded and exclude nothing: a kernel that reaches the power cap is limited by what it does itself."""


@dataclass(frozen=True)
class GpuState:
    """Implements `gpu.runner.GpuState`: one reading, in MHz, degrees Celsius and watts; None where the driver does not
    tell. `reasons` are the bits of nvmlClocksEventReasons; `other_processes` counts those that compute on this GPU
    besides this one."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    reasons: int
    other_processes: int

    def data(self) -> dict[str, Any]:
        """As the conditions of a measurement hold it: without what is None."""
        words = {**OUTSIDE_REASONS, **OTHER_REASONS}
        readings = {
            "sm_clock_mhz": self.sm_clock_mhz, "memory_clock_mhz": self.memory_clock_mhz,
            "temperature_c": self.temperature_c, "power_w": self.power_w,
        }  # fmt: skip
        return {
            **{name: value for name, value in readings.items() if value is not None},
            "clock_reasons": [w for bit, w in words.items() if self.reasons & bit],
            "other_processes": self.other_processes,
        }

    def outside_reason(self) -> str:
        """Why a time taken now may not win; "" when it may."""
        for bit, word in OUTSIDE_REASONS.items():
            if self.reasons & bit:
                return f"throttled: {word}"
        return f"contended: {self.other_processes} other process(es) on this GPU" if self.other_processes else ""


class Nvml:
    """Readings of one GPU. `missing` says why there are none, "" when there are.

    In a container the driver does not know this process by its own number, so that its own processes must be counted:
    open it before this process has a context, and call `count_own` once it has one.
    """

    def __init__(self, bus_id: str) -> None:
        self.missing = ""
        self._own = 0
        try:
            import pynvml
        except ImportError:
            self.missing = "the package nvidia-ml-py is not installed"
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
            self._there_before = len(self._processes())
        except pynvml.NVMLError as error:
            self.missing = f"NVML: {error}"

    def count_own(self) -> None:
        """Take the processes that came since this was opened for this one."""
        if not self.missing:
            self._own = max(len(self._processes()) - self._there_before, 0)

    def read(self) -> GpuState | None:
        """A reading, or None where there is no NVML."""
        if self.missing:
            return None
        nvml = self._nvml
        power = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(self._handle))
        return GpuState(
            self._ask(lambda: nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM)),
            self._ask(lambda: nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_MEM)),
            self._ask(lambda: nvml.nvmlDeviceGetTemperature(self._handle, nvml.NVML_TEMPERATURE_GPU)),
            None if power is None else power / 1000.0,
            int(self._ask(self._reasons) or 0),
            self._other_processes(),
        )

    def close(self) -> None:
        if not self.missing:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _reasons(self) -> int:
        named = getattr(self._nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        older = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        return int((named or older)(self._handle))

    def _other_processes(self) -> int:
        processes = self._processes()
        return len(processes) - 1 if os.getpid() in processes else max(len(processes) - self._own, 0)

    def _processes(self) -> list[int]:
        processes = self._ask(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        return [int(process.pid) for process in processes or ()]

    def _ask(self, query: Callable[[], Any]) -> Any:
        """What `query` returns, or None where this driver or this card does not tell."""
        try:
            return query()
        except self._nvml.NVMLError:
            return None
