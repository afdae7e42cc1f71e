"""Launch plans cross machines: the data form round-trips, and a foreign one is checked field by field."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kernels.launch_plan import Argument, BadPlan, Launch, LaunchPlan

PLAN = LaunchPlan(
    launches=(
        Launch("main_kernel", (0, 1, 3), (8, 4, 1), (16, 16, 1), static_shared_bytes=2048),
        Launch("main_kernel_1", (3, 2), (8, 1, 1), (256, 1, 1), 65536, cluster=(2, 1, 1), cooperative=True),
    ),
    arguments=(Argument((96, 64), "float16"), Argument((64, 80), "bfloat16"), Argument((96, 80), "float32")),
    workspaces=(96 * 80 * 4,),
)


def test_a_plan_survives_json() -> None:
    assert LaunchPlan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN


def test_sizes() -> None:
    assert [a.nbytes for a in PLAN.arguments] == [96 * 64 * 2, 64 * 80 * 2, 96 * 80 * 4]
    assert (PLAN.num_args, PLAN.kernels) == (3, ("main_kernel", "main_kernel_1"))
    assert (PLAN.launches[0].threads, PLAN.launches[0].blocks, PLAN.launches[1].shared_bytes) == (256, 32, 65536)


def launch(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["launches"][1].update(changes)


def plan(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data.update(changes)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (plan(version=2), "plan.version"),
        (plan(extra=1), "plan: missing or unknown: extra"),
        (plan(launches=[]), "plan.launches: empty"),
        (plan(launches={}), "plan.launches"),
        (plan(num_outputs=4), "plan.num_outputs"),
        (plan(num_outputs=True), "plan.num_outputs"),
        (plan(workspaces=[-1]), r"plan.workspaces\[0\]"),
        (plan(workspaces=[2**39, 2**39]), "more than a terabyte"),
        (plan(arguments=[{"shape": [2], "dtype": "object"}]), r"plan.arguments\[0\].dtype"),
        (plan(arguments=[{"shape": [2], "dtype": ["float32"]}]), r"plan.arguments\[0\].dtype"),
        (plan(arguments=[{"shape": [-2], "dtype": "float32"}]), r"plan.arguments\[0\].shape\[0\]"),
        (launch(args=[4]), r"plan.launches\[1\].args\[0\]"),
        (launch(args=[-1]), r"plan.launches\[1\].args\[0\]"),
        (launch(args=[1.0]), r"plan.launches\[1\].args\[0\]"),
        (launch(kernel="a b"), r"plan.launches\[1\].kernel"),
        (launch(kernel="x\n"), r"plan.launches\[1\].kernel"),
        (launch(kernel=None), r"plan.launches\[1\].kernel"),
        (launch(grid=[0, 1, 1]), r"plan.launches\[1\].grid"),
        (launch(grid=[1, 65536, 1]), r"plan.launches\[1\].grid"),
        (launch(grid=[1, 1]), r"plan.launches\[1\].grid"),
        (launch(block=[1024, 2, 1]), "2048 threads"),
        (launch(block=[1, 1, 128]), r"plan.launches\[1\].block"),
        (launch(dynamic_shared_bytes=2**20), "dynamic_shared_bytes"),
        (launch(static_shared_bytes=200000), "bytes of shared memory"),
        (launch(cluster=[3, 1, 1]), "does not divide"),
        (launch(cluster=[8, 4, 1]), "does not divide"),
        (launch(cooperative=1), "cooperative"),
        (launch(callback="x"), "missing or unknown: callback"),
        (lambda data: data["launches"][0].pop("grid"), "missing or unknown: grid"),
    ],
)
def test_a_bad_plan_is_rejected_and_the_field_named(change: Callable[[dict[str, Any]], None], field: str) -> None:
    data = json.loads(json.dumps(PLAN.to_json()))
    change(data)
    with pytest.raises(BadPlan, match=field):
        LaunchPlan.from_json(data)


@pytest.mark.parametrize("data", [None, [], "plan", 3, {}])
def test_what_is_no_plan_at_all(data: Any) -> None:
    with pytest.raises(BadPlan, match=r"^plan"):
        LaunchPlan.from_json(data)


def test_a_plan_needs_no_tvm() -> None:
    code = "import sys, kernels.launch_plan; print([m for m in ('tvm', 'numpy', 'tvm_ffi') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
