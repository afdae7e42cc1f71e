"""Targets: what `auto` means here, what is refused and which field is blamed."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import pytest

from tests.conftest import gpus
from tuner import environment
from tuner.config import TargetConfig
from tuner.devices import resolve as targets
from tuner.devices.resolve import ResolvedTarget, resolve
from tuner.errors import TargetError


def test_the_host_cpu_is_named_with_its_features_and_threads() -> None:
    found = resolve(TargetConfig("llvm"))
    spec = json.loads(found.text)
    assert found.kind == spec["kind"] == "llvm"
    assert found.threads == spec["num-cores"] == environment.usable_threads()
    assert spec["mcpu"]
    assert found.device == environment.cpu_model()
    assert found.features
    assert found.text == json.dumps(spec, sort_keys=True, separators=(",", ":"))


def test_tvm_takes_the_text() -> None:
    from tvm.target import Target

    assert Target(json.loads(resolve(TargetConfig("llvm")).text)).kind.name == "llvm"


def test_auto_is_the_cpu_unless_a_gpu_can_be_used() -> None:
    assert resolve(TargetConfig()).kind == ("llvm" if targets.cuda_missing() else "cuda")


def test_instruction_sets_that_a_hypervisor_hides_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"kind": "llvm", "mcpu": "znver4", "num-cores": 1}
    everything = frozenset(targets.LINUX_FLAGS.values())
    monkeypatch.setattr(targets, "cpu_flags", lambda: everything)
    assert targets.masked_features(spec) == []
    monkeypatch.setattr(targets, "cpu_flags", lambda: everything - {"avx512_bf16", "avx512_vnni"})
    masked = targets.masked_features(spec)
    assert masked == ["-avx512bf16", "-avx512vnni"]
    left = targets.features_of({**spec, "mattr": masked})
    assert "avx512f" in left
    assert "avx512vnni" not in left


def test_fewer_threads_may_be_asked_for_but_not_more() -> None:
    assert resolve(TargetConfig("llvm", threads=1)).threads == 1
    with pytest.raises(TargetError, match=r"target\.threads: 4096, but this process may use"):
        resolve(TargetConfig("llvm", threads=4096))


def test_a_mapping_keeps_what_it_says() -> None:
    found = resolve(TargetConfig({"kind": "llvm", "mcpu": "x86-64-v2", "num-cores": 1}))
    assert json.loads(found.text) == {"kind": "llvm", "mcpu": "x86-64-v2", "num-cores": 1}
    assert found.threads == 1
    assert "avx512f" not in found.features


@pytest.mark.parametrize(
    ("spec", "field", "word"),
    [
        ({"kind": "llvn"}, "target.spec.kind", "not defined"),
        ({"kind": ["llvm"]}, "target.spec.kind", "String"),
        ({"kind": "c"}, "target.spec.kind", "llvm or cuda"),
        ({"kind": "llvm", "mcp": "x"}, "target.spec.mcp", "'mcp'"),
        ({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": "two"}, "target.spec.num-cores", "int"),
        ({"mcpu": "znver4", "opt-level": [], "kind": "llvm"}, "target.spec.opt-level", "int"),
        ({"kind": "llvm", "num-cores": -2}, "target.spec.num-cores", "-2"),
        ({"kind": "llvm", "mcpu": "znver44"}, "target.spec.mcpu", "did you mean 'znver4'?"),
        ({"kind": "llvm", "mtriple": "riscv64-linux-gnu"}, "target.spec.mtriple", "cannot run"),
        ({"tag": "nvidia/nothing"}, "target.spec.tag", "nvidia/nothing"),
        ({"kind": "cuda", "arch": "sm_90a", "max_thread": 4}, "target.spec.max_thread", "max_thread"),
    ],
)
def test_a_wrong_mapping_blames_its_field(spec: dict[str, Any], field: str, word: str) -> None:
    with pytest.raises(TargetError) as caught:
        resolve(TargetConfig(spec))
    assert str(caught.value).startswith(f"{field}: ")
    assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_two_thread_counts_that_differ_are_refused() -> None:
    with pytest.raises(TargetError, match="num-cores"):
        resolve(TargetConfig({"kind": "llvm", "num-cores": 1}, threads=2))


def test_a_cuda_mapping_can_be_compiled_for_without_a_gpu() -> None:
    found = resolve(TargetConfig({"tag": "nvidia/nvidia-h100"}), to_run=False)
    assert found.kind == json.loads(found.text)["kind"] == "cuda"
    assert found.features == ("sm_90a",)


@pytest.mark.skipif(gpus() > 0, reason="this machine has a GPU")
@pytest.mark.parametrize("spec", ["cuda", {"kind": "cuda", "arch": "sm_90a"}])
def test_cuda_without_a_gpu_says_what_is_missing_and_what_to_do(spec: Any) -> None:
    with pytest.raises(TargetError) as caught:
        resolve(TargetConfig(spec))
    assert "missing here" in caught.value.message
    assert "driver" in caught.value.message or "GPU" in caught.value.message
    assert caught.value.exit_code == 2
    for way in ("target: llvm", "tuner bundle", "nvidia/nvidia-h100", "tuner measure"):
        assert way in caught.value.hint


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
    monkeypatch.setattr(targets, "cuda_missing", lambda: [])
    found = resolve(TargetConfig())
    assert isinstance(found, ResolvedTarget)
    assert (found.kind, found.device, found.features) == ("cuda", "NVIDIA H100", ("sm_90a",))
    from tvm.target import Target

    ours = json.loads(found.text)
    tagged = json.loads(str(Target({"tag": "nvidia/nvidia-h100"})))
    assert {key: tagged[key] for key in ours} == ours


def test_what_the_driver_lacks_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(broken=999))
    assert "error 999" in targets.cuda_missing()[0]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver(count=0))
    assert "sees none" in targets.cuda_missing()[0]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert targets.cuda_missing() == ["the package PyCUDA (pip install '.[cuda]')"]


@pytest.mark.gpu
def test_the_real_gpu_answers() -> None:
    gpu = targets.find_gpu()
    assert isinstance(gpu, targets.Gpu)
    assert gpu.limits["thread_warp_size"] == 32
