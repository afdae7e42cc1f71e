"""Who else is on the GPU, as far as the driver can tell: with process numbers that we know, and with foreign ones."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tuner.devices.cuda.nvml import OUTSIDE_REASONS, Nvml


class Driver:
    """NVML's answers; `pids` is who computes on the GPU just now."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        pass

    def __init__(self, pids: list[int], deaf: bool = False) -> None:
        self.pids, self.deaf = pids, deaf

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: bytes) -> str:
        if not bus_id:
            raise self.NVMLError("Invalid Argument")
        return "handle"

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return {1: 1980, 2: 3201}[kind]

    def nvmlDeviceGetTemperature(self, handle: str, kind: int) -> int:
        if self.deaf:
            raise self.NVMLError("Not Supported")
        return 41

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 123456

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return 0x4


def opened(monkeypatch: pytest.MonkeyPatch, driver: Driver | None, bus_id: str = "0000:01:00.0") -> Nvml:
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return Nvml(bus_id)


def test_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = opened(monkeypatch, Driver([])).read()
    assert reading is not None
    assert reading.data() == {
        "sm_clock_mhz": 1980, "memory_clock_mhz": 3201, "temperature_c": 41, "power_w": 123.456,
        "clock_reasons": ["power cap"], "other_processes": 0,
    }  # fmt: skip


def test_what_a_card_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = opened(monkeypatch, Driver([], deaf=True)).read()
    assert reading is not None
    assert reading.temperature_c is None
    assert "temperature_c" not in reading.data()


@pytest.mark.parametrize(
    ("before", "with_us", "later", "other_processes"),
    [
        ([], [os.getpid()], [os.getpid()], 0),
        ([7], [7, os.getpid()], [7, 8, os.getpid()], 2),
        ([7], [os.getpid()], [os.getpid()], 0),  # one that died when we came
        ([], [31], [31], 0),  # in a container we are a number that we do not know
        ([7], [7, 31], [7, 31, 9], 2),
        ([7], [7, 31], [31], 0),
    ],
)
def test_strangers_are_counted_without_us(
    before: list[int], with_us: list[int], later: list[int], other_processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(before)
    nvml = opened(monkeypatch, driver)
    driver.pids = with_us
    nvml.count_own()
    driver.pids = later
    reading = nvml.read()
    assert reading is not None
    assert reading.other_processes == other_processes


def test_without_nvml_there_is_no_reading_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = opened(monkeypatch, None)
    nvml.count_own()
    assert nvml.read() is None
    assert "nvidia-ml-py" in nvml.missing
    refused = opened(monkeypatch, Driver([]), bus_id="")
    assert refused.read() is None
    assert "Invalid Argument" in refused.missing


def test_the_power_cap_is_no_outside_reason() -> None:
    assert 0x4 not in OUTSIDE_REASONS
