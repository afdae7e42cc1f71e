"""CUDA targets: what the driver tells of a GPU, and what is missing where there is none."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import pytest

from tests.conftest import gpus
from tuner.config import TargetConfig
from tuner.devices.cuda import target as cuda_target
from tuner.devices.resolve import resolve
from tuner.errors import TargetError


def test_a_mapping_can_be_compiled_for_without_a_gpu() -> None:
    resolved = resolve(TargetConfig({"tag": "nvidia/nvidia-h100"}), to_run=False)
    assert resolved.kind == json.loads(resolved.text)["kind"] == "cuda"
    assert resolved.features == ("sm_90a",)


@pytest.mark.skipif(gpus() > 0, reason="this machine has a GPU")
@pytest.mark.parametrize("spec", ["cuda", {"kind": "cuda", "arch": "sm_90a"}])
def test_without_a_gpu_it_says_what_is_missing_and_what_to_do(spec: Any) -> None:
    with pytest.raises(TargetError) as caught:
        resolve(TargetConfig(spec))
    assert "missing here" in caught.value.message
    assert "driver" in caught.value.message or "GPU" in caught.value.message
    assert caught.value.exit_code == 2
    for way in ("target: llvm", "tuner bundle", "nvidia/nvidia-h100", "tuner measure"):
        assert way in caught.value.hint


@pytest.mark.skipif(gpus() > 0, reason="this machine has a GPU")
def test_without_a_gpu_the_architecture_must_be_stated() -> None:
    with pytest.raises(TargetError, match=r"target\.spec\.arch: missing") as caught:
        resolve(TargetConfig({"kind": "cuda"}), to_run=False)
    assert "arch: sm_90a" in caught.value.hint


class FakeDriver:
    """The driver's answers for one H100, or for a machine whose driver sees `count` devices."""

    def __init__(self, count: int = 1, broken: int = 0) -> None:
        self.count, self.broken = count, broken
        self.attributes = {1: 1024, 8: 49152, 10: 32, 12: 65536, 38: 52428800, 75: 9, 76: 0}

    def cuInit(self, flags: int) -> int:
        return self.broken

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.count  # noqa: SLF001 - the one way back from ctypes.byref
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> int:
        value._obj.value = self.attributes[number]  # noqa: SLF001
        return 0


def test_a_gpu_is_described_as_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    monkeypatch.setattr(cuda_target, "missing_here", lambda: [])
    resolved = resolve(TargetConfig())
    assert (resolved.kind, resolved.device, resolved.features) == ("cuda", "NVIDIA H100", ("sm_90a",))
    from tvm.target import Target

    told = json.loads(resolved.text)
    tagged = json.loads(str(Target({"tag": "nvidia/nvidia-h100"})))
    assert {key: tagged[key] for key in told} == told


def test_an_architecture_that_is_left_out_is_that_of_the_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    assert cuda_target.completed({"kind": "cuda"})["arch"] == "sm_90a"
    assert cuda_target.completed({"kind": "cuda", "arch": "sm_80"})["arch"] == "sm_80"


def test_what_the_driver_lacks_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(broken=999))
    assert "error 999" in cuda_target.missing_here()[0]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(count=0))
    assert "sees none" in cuda_target.missing_here()[0]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cuda_target.missing_here() == ["the package PyCUDA (pip install '.[cuda]')"]


@pytest.mark.gpu
def test_the_real_gpu_answers() -> None:
    gpu = cuda_target.find_gpu()
    assert isinstance(gpu, cuda_target.CudaDevice)
    assert gpu.limits["thread_warp_size"] == 32
