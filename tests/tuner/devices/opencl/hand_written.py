"""Hand-written OpenCL kernels that behave and misbehave, each as a job that a bench can be given. All should compute
y = 2 x."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernels.launch_plan import Argument, Launch, LaunchPlan
from kernels.tensors import TensorSpec, seeded_inputs
from tuner.config import TargetConfig
from tuner.devices import resolve
from tuner.devices.opencl.facts import POCL, Facts
from tuner.devices.opencl.target import find_devices
from tuner.devices.target import ResolvedTarget
from tuner.protocols import Job, Reference
from tuner.records import Status

N, BLOCK = 1 << 12, 64
TENSOR = TensorSpec((N,), "float32")
DOUBLE = "int i = get_global_id(0); y[i] = 2.0f * x[i];"

SOURCES: Mapping[str, str] = {
    "right": DOUBLE,
    "endless": DOUBLE + " volatile int go = 1; while (go) {}",
    "far out of bounds": DOUBLE + " if (i == 7) y[1L << 40] = 1.0f;",
    "neighbour's buffer": DOUBLE + " if (i < 64) y[N + i] = 3.0f;",
    "before its buffer": DOUBLE + " if (i == 0) y[-1] = 3.0f;",
    "its input": DOUBLE + " if (i == 9) ((__global float*)x)[9] += 1.0f;",
    "half of it": "int i = get_global_id(0); if (i < N / 2) y[i] = 2.0f * x[i];",
    "wrong values": DOUBLE + " if (i == 1234) y[i] += 1.0f;",
    "no source": "int i = get_global_id(0); y[i] = two * x[i];",
    "too much local memory": "__local float many[1 << 19]; int i = get_global_id(0); many[get_local_id(0)] = x[i]; "
    "barrier(CLK_LOCAL_MEM_FENCE); y[i] = 2.0f * many[get_local_id(0)];",
}
"""By what is wrong with them."""

OUTCOMES: Mapping[str, tuple[Status, str]] = {
    "right": (Status.OK, ""),
    "endless": (Status.RUN_TIMEOUT, "no reply"),
    "far out of bounds": (Status.RUN_FAILED, "SIG"),
    "neighbour's buffer": (Status.WRONG_RESULT, "wrote outside argument 1"),
    "before its buffer": (Status.WRONG_RESULT, "wrote outside argument 1"),
    "its input": (Status.WRONG_RESULT, "changed input 0"),
    "half of it": (Status.WRONG_RESULT, "not finite"),
    "wrong values": (Status.WRONG_RESULT, "1 of 4096 values wrong"),
    "no source": (Status.RUN_FAILED, "undeclared identifier 'two'"),
    "too much local memory": (Status.RUN_FAILED, "bytes of local memory, the device has"),
    "wrong local size": (Status.RUN_FAILED, "INVALID_WORK_GROUP_SIZE"),
    "no such kernel": (Status.RUN_FAILED, "no kernel tripled"),
    "grid too small": (Status.WRONG_RESULT, "not finite"),
}


def pocl() -> Facts:
    """PoCL's device; skips where it is not."""
    found = find_devices(2)
    if isinstance(found, str):
        pytest.skip(f"needs pyopencl and PoCL: {found}")
    facts = next((facts for facts in found if facts.platform == POCL), None)
    return facts or pytest.skip("PoCL is not installed")


def pocl_target(threads: int = 2) -> ResolvedTarget:
    """PoCL's device as a target."""
    return resolve.resolve(TargetConfig({"kind": "opencl", "platform": pocl().platform}, threads))


def job(name: str, folder: Path, number: int = 0) -> Job:
    """A kernel of SOURCES or OUTCOMES."""
    body = SOURCES.get(name, DOUBLE)
    path = folder / f"{number}.cl"
    header = f"#define N {N}\n__kernel __attribute__((reqd_work_group_size({BLOCK}, 1, 1))) void doubled"
    path.write_text(
        f"{header}(__global const float* restrict x, __global float* restrict y) {{ {body} }} // {number}\n"
    )
    launch = Launch("doubled", (0, 1), (N // BLOCK, 1, 1), (BLOCK, 1, 1))
    changes: Mapping[str, Launch] = {
        "wrong local size": replace(launch, grid=(2 * N // BLOCK, 1, 1), block=(BLOCK // 2, 1, 1)),
        "no such kernel": replace(launch, kernel="tripled"),
        "grid too small": replace(launch, grid=(N // BLOCK - 1, 1, 1)),
    }
    argument = Argument((N,), "float32")
    plan = LaunchPlan((changes.get(name, launch),), (argument, argument))
    [x] = seeded_inputs((TENSOR,), 3)
    np.savez(folder / f"{number}.npz", 2 * x)
    reference = Reference(folder / f"{number}.npz", "float32", 1)
    resources = {"plan": plan.to_json()}
    return Job("t", f'[{number},[],""]', path, name, (TENSOR,), (TENSOR,), 3, reference, resources=resources)
