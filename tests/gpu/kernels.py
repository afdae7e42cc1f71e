"""Hand-written CUDA kernels that behave and misbehave, each as a job that a bench can be given."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kernels.cubin import compile_cubin
from kernels.launch_plan import Argument, Launch, LaunchPlan
from kernels.tensors import TensorSpec, scale_of, seeded_inputs
from tuner.bundle.expected import expect, to_bytes
from tuner.protocols import ExpectedOutput, Job

N = 1 << 22
BLOCK = 256

DOUBLE = "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = 2.0f * x[i];"

SOURCES: Mapping[str, str] = {
    "right": DOUBLE,
    "endless": DOUBLE + " if (i == 0) while (*(volatile float*)x == *(volatile float*)x) {}",
    "illegal address": DOUBLE + " if (i == 7) *(float*)0x10 = 1.0f;",
    "misaligned": DOUBLE + " if (i == 7) *(float2*)((char*)y + 4) = make_float2(1.0f, 1.0f);",
    "neighbour's buffer": DOUBLE + " if (i < 64) y[n + i] = 3.0f;",
    "its input": DOUBLE + " if (i == 9) ((float*)x)[9] += 1.0f;",
    "half of it": "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n / 2) y[i] = 2.0f * x[i];",
    "wrong values": "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = 2.0f * x[i] + (i == 12345);",
    "trap": DOUBLE + ' if (i == 3) asm("trap;");',
}
"""By what is wrong with them. All should compute y = 2 x."""

EXPECTED: Mapping[str, tuple[str, str]] = {
    "right": ("ok", ""),
    "endless": ("run timeout", "no reply"),
    "illegal address": ("run failed", ""),
    "misaligned": ("run failed", ""),
    "neighbour's buffer": ("wrong result", "outside"),
    "its input": ("wrong result", "changed input"),
    "half of it": ("wrong result", ""),
    "wrong values": ("wrong result", ""),
    "trap": ("run failed", ""),
    "wrong grid": ("wrong result", ""),
    "too many threads": ("run failed", ""),
    "too much shared memory": ("run failed", ""),
}
"""Status, and words of the reason that do not depend on the driver."""


def arch() -> str:
    """The compute capability of the first GPU, as nvcc calls it."""
    asked = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader", "--id=0"]
    return "sm_" + subprocess.check_output(asked, text=True).split()[0].replace(".", "")


def job(name: str, folder: Path, number: int = 0, n: int = N) -> Job:
    """A kernel of SOURCES or EXPECTED, compiled for the GPU here. Raises kernels.cubin.MissingCompiler without nvcc."""
    body = SOURCES.get(name, DOUBLE)
    source = f'extern "C" __global__ void k(float* y, const float* x) {{ const int n = {n}; {body} }} // {number}'
    cubin = compile_cubin(source, arch(), folder)
    grid, block, shared = (-(-n // BLOCK), 1, 1), (BLOCK, 1, 1), 0
    if name == "wrong grid":
        grid = (max(grid[0] // 2, 1), 1, 1)
    if name == "too many threads":
        block = (1024, 2, 1)
    if name == "too much shared memory":
        shared = 1 << 20
    arguments = (Argument((n,), "float32"), Argument((n,), "float32"))
    plan = LaunchPlan((Launch("k", (1, 0), grid, block, shared),), arguments).to_json()
    tensor = TensorSpec((n,), "float32")
    [x] = seeded_inputs((tensor,), 0)
    right = 2.0 * x.astype(np.float64)
    expected = expect(right, 1e-6, 1e-6 * scale_of(right))
    values, sums = folder / f"{n}.values", folder / f"{n}.sums"
    content, content_of_sums = to_bytes(expected)
    values.write_bytes(content)
    if content_of_sums is not None:
        sums.write_bytes(content_of_sums)
    output = ExpectedOutput(values, None if content_of_sums is None else sums, 1e-6, expected.atol)
    return Job(
        f"{n:016x}", name, cubin.path, "k", (tensor,), (tensor,), 0, expected=(output,), resources={"plan": plan},
    )  # fmt: skip
