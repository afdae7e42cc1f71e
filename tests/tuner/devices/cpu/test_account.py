"""The account of a compiled model: its arithmetic on made-up stamps, and a real library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tvm.target import Target

from tests.contracts.device import tiny_model
from tuner.devices.cpu import CPU, account
from tuner.errors import InfrastructureError
from tuner.graph import GraphConfig, build_untuned, clean, lower
from tuner.protocols import Array

INPUTS: list[Array] = [np.ones((4, 8), np.float32)]


TARGET = {"kind": "llvm", "num-cores": 1}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model for TVM's virtual machine, and static."""
    folder = tmp_path_factory.mktemp("libraries")
    target = CPU.from_attributes(TARGET, 1, to_run=True)
    graph = lower(clean(tiny_model().module), GraphConfig("NCHW"), target.tvm())
    static = CPU.assembly(target).assemble(graph, {})
    made = {"vm": build_untuned(tiny_model().module, Target(TARGET)), "static": static}
    for name, executable in made.items():
        executable.export_library(str(folder / f"{name}.so"))
    return {name: folder / f"{name}.so" for name in made}


@pytest.mark.parametrize("runtime", ["vm", "static"])
def test_the_parts_of_a_real_library_add_up(libraries: dict[str, Path], runtime: str) -> None:
    taken = account.take(libraries[runtime], INPUTS, 1, 0.1)
    [kernel] = taken["kernels"]
    assert "matmul" in kernel["symbol"]
    assert kernel["calls"] == 1
    if runtime == "vm":
        assert taken["memory"]["calls"] >= 1  # its output
        assert taken["runtime"]["calls"] > taken["memory"]["calls"]
    else:
        assert taken["memory"] == {"calls": 0, "seconds": 0}
        assert taken["runtime"]["calls"] == 1
    assert taken["inferences"] >= 6
    assert min(kernel["seconds"], taken["runtime"]["seconds"]) > 0
    # An inference of microseconds is nearly all runtime, and even stamps are seen: a real model's add up to 2 %.
    total = kernel["seconds"] + taken["memory"]["seconds"] + taken["runtime"]["seconds"]
    assert 0.2 < total / taken["end_to_end_s"] < 5


def test_calls_are_grouped_and_the_time_between_them_is_the_runtimes() -> None:
    calls = [
        account.Call("vm.builtin.alloc_tensor", 1, 2, True),
        account.Call("conv", 3, 4, True),
        account.Call("vm.builtin.match_shape", 5, 6, True),
        account.Call("conv", 7, 10, True),
        account.Call("vm.builtin.reshape", 8, 9, False),  # within the second: not counted twice
    ]
    stamps = np.array([0, 10, 13, 20, 120, 121, 123, 130, 140, 150, 240, 250], np.int64)
    taken = account.account(calls, [(248.0, stamps + start) for start in (5, 1000, 2000, 7000)])
    assert taken["kernels"] == [{"symbol": "conv", "calls": 2, "seconds": pytest.approx(210e-9)}]
    assert taken["memory"] == {"calls": 1, "seconds": pytest.approx(3e-9)}
    assert taken["runtime"] == {"calls": 4, "seconds": pytest.approx(37e-9)}
    assert taken["end_to_end_s"] == pytest.approx(248e-9)


def test_disturbed_inferences_do_not_count() -> None:
    calls = [account.Call("conv", 1, 2, True)]
    pairs = [(100.0 * slow, np.array([0, 10 * slow, 90 * slow, 100 * slow])) for slow in (1, 1, 1, 50)]
    taken = account.account(calls, pairs)
    assert taken["inferences"] == 4
    assert taken["end_to_end_s"] == pytest.approx(1e-7)
    assert taken["kernels"][0]["seconds"] == pytest.approx(8e-8)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InfrastructureError, match=r"nothing\.so: no account of its time"):
        account.take(tmp_path / "nothing.so", INPUTS, 1, 0.1)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InfrastructureError, match=r"no C compiler found"):
        account.compiled_stamp(tmp_path)
