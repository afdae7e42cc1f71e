"""This machine's CPU as a target: its name, its instruction sets, its threads."""

from __future__ import annotations

import json

import pytest

from tuner import environment
from tuner.config import TargetConfig
from tuner.devices.cpu import target as cpu_target
from tuner.devices.resolve import resolve
from tuner.errors import TargetError


def test_the_host_cpu_is_named_with_its_features_and_threads() -> None:
    resolved = resolve(TargetConfig("llvm"))
    spec = json.loads(resolved.text)
    assert resolved.kind == spec["kind"] == "llvm"
    assert resolved.threads == spec["num-cores"] == environment.usable_threads()
    assert spec["mcpu"]
    assert resolved.device == environment.cpu_model()
    assert resolved.features
    assert resolved.text == json.dumps(spec, sort_keys=True, separators=(",", ":"))
    assert resolved.tvm().kind.name == "llvm"


def test_instruction_sets_that_a_hypervisor_hides_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"kind": "llvm", "mcpu": "znver4", "num-cores": 1}
    everything = frozenset(cpu_target.LINUX_FLAGS.values())
    monkeypatch.setattr(cpu_target, "cpu_flags", lambda: everything)
    assert cpu_target.masked_features(spec) == []
    monkeypatch.setattr(cpu_target, "cpu_flags", lambda: everything - {"avx512_bf16", "avx512_vnni"})
    masked = cpu_target.masked_features(spec)
    assert masked == ["-avx512bf16", "-avx512vnni"]
    left = cpu_target.features_of({**spec, "mattr": masked})
    assert "avx512f" in left
    assert "avx512vnni" not in left


def test_a_mapping_keeps_what_it_says() -> None:
    resolved = resolve(TargetConfig({"kind": "llvm", "mcpu": "x86-64-v2", "num-cores": 1}))
    assert json.loads(resolved.text) == {"kind": "llvm", "mcpu": "x86-64-v2", "num-cores": 1}
    assert resolved.threads == 1
    assert "avx512f" not in resolved.features


def test_two_thread_counts_that_differ_are_refused() -> None:
    with pytest.raises(TargetError, match="num-cores"):
        resolve(TargetConfig({"kind": "llvm", "num-cores": 1}, threads=2))


def test_more_cores_than_there_are_blame_the_mapping() -> None:
    with pytest.raises(TargetError, match=r"target\.spec\.num-cores: 4096, but this process may use"):
        resolve(TargetConfig({"kind": "llvm", "num-cores": 4096}))
