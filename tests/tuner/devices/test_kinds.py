"""Every kind of device in the suite that all of them pass, and that the suite covers the whole table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.contracts.device_kind import DeviceKindContract
from tuner.devices import resolve
from tuner.devices.device import DeviceKind

ATTRIBUTES: Mapping[str, Mapping[str, Any]] = {
    "cuda": {"kind": "cuda", "arch": "sm_90a", "max_threads_per_block": 1024, "thread_warp_size": 32,
             "max_shared_memory_per_block": 49152},
    "llvm": {"kind": "llvm", "num-cores": 1},
    "opencl": {"kind": "opencl", "model": "A platform / a device", "max_threads_per_block": 256, "max_num_threads": 256,
               "max_shared_memory_per_block": 32768, "thread_warp_size": 32},
    "simulated_cuda": {"kind": "cuda", "model": "simulated", "arch": "sm_90a", "max_threads_per_block": 1024,
                       "max_num_threads": 1024, "max_shared_memory_per_block": 49152, "thread_warp_size": 32,
                       "registers_per_block": 65536, "l2_cache_size_bytes": 1 << 20},
}  # fmt: skip
"""For each kind a target as a run file may write it out; a new kind needs one."""


class TestKinds(DeviceKindContract):
    @pytest.fixture(params=resolve.KINDS)
    def kind(self, request: pytest.FixtureRequest) -> DeviceKind:
        return resolve.kind_named(request.param)

    @pytest.fixture
    def attributes(self, kind: DeviceKind) -> Mapping[str, Any]:
        return ATTRIBUTES[kind.name]

    def test_it_stands_under_its_name(self, kind: DeviceKind) -> None:
        assert resolve.kind_named(kind.name) is kind


def test_scopes_of_different_kinds_differ() -> None:
    kinds = resolve.all_kinds()
    scopes = {kind.scope("a target", "a device", 1, "hot") for kind in kinds}
    assert len(scopes) == len(kinds) > 1
