"""The ceilings, measured in a real child."""

from __future__ import annotations

import pytest

from tuner.devices.cpu.ceilings import lower_bound_s
from tuner.process.pinning import thread_env
from tuner.process.worker import Child


@pytest.mark.slow
def test_ceilings_are_measured_and_plausible() -> None:
    with Child("tuner.devices.cpu.ceilings:Ceilings", {"threads": 1}, env=thread_env(1)) as child:
        found = child.call("measure", 120)
    assert 1e9 < found["peak_flops_per_s"] < 1e12  # one core
    assert 1e8 < found["bandwidth_bytes_per_s"] < 1e12
    assert found["cache_bytes"] >= 1 << 15
    assert "1 threads" in found["method"]
    peaks = found["peaks"]
    assert found["peak_flops_per_s"] == peaks["float32"] > peaks["float64"] > 1e8
    if {"bfloat16", "int8"} <= peaks.keys():
        assert peaks["int8"] > 1.5 * peaks["bfloat16"] and peaks["bfloat16"] > 1.2 * peaks["float32"]
    rates = [level["bytes_per_s"] for level in found["levels"]]
    assert all(rate > 1e9 for rate in rates)
    if len(rates) > 1:
        assert rates[0] > rates[-1]  # the innermost cache is the fastest


def test_a_kernel_in_cache_is_bound_by_arithmetic_alone() -> None:
    ceilings = {"peak_flops_per_s": 100e9, "bandwidth_bytes_per_s": 10e9, "cache_bytes": 1 << 20}
    assert lower_bound_s(1e9, 1000, ceilings) == pytest.approx(0.01)
    assert lower_bound_s(0, 1 << 20, ceilings) == 0
    assert lower_bound_s(0, (1 << 20) + 10**9, ceilings) == pytest.approx(0.1)
    assert lower_bound_s(1e11, (1 << 20) + 10**9, ceilings) == pytest.approx(1.0)
