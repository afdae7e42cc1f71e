"""What tests on the simulated GPU share: kernels of y = 2 x that do something wrong, and the environment of a process
that finds the simulated driver in place of NVIDIA's."""

from __future__ import annotations

import importlib.util
import os
import struct
from pathlib import Path

import pytest

from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.compiler import compile_simulated

SECONDS = 40e-6
"""What each of these kernels takes by its estimate."""

_LINES = {
    "double": "y[i] = 2 * x[i];",
    "forgets": "if (i < 7) y[i] = 2 * x[i];",
    "hangs": "while (((volatile float*)x)[0] < 1e30f) {} y[i] = 0;",
    "faults": "y[i] = x[i + 123456789];",
    "misaligned": "*(float4*)(y + i) = float4{};",
    "outside": "y[i] = 2 * x[i]; if (i == 0) y[15] = 1;",
    "inputs": "y[i] = 2 * x[i]; x[i] += 1;",
    "races": "__shared__ float s[15]; s[i] = x[i]; y[i] = 2 * s[14 - i];",
    "beyond shared": "__shared__ float s[15]; s[i] = x[i]; __syncthreads(); y[i] = 2 * s[i + 1];",
    "waits for the clock": "long long t = clock64(); while (clock64() < t + 100) {} y[i] = 2 * x[i];",
    "traps": "__trap(); y[i] = x[i];",
    "waits for nobody": "if (i < 3) __shfl_sync(0x7fff, i, 0); else __syncthreads(); y[i] = 2 * x[i];",
}


def source(name: str) -> str:
    """CUDA source of a kernel."""
    bounds, entry = (4, "main_kernel") if name == "greedy" else (15, "other" if name == "unknown" else "main_kernel")
    line = _LINES.get(name, _LINES["double"])
    return (
        f'extern "C" __global__ void __launch_bounds__({bounds}) {entry}(float* __restrict__ x, float* __restrict__ y) '
        f"{{\n  int i = (int)threadIdx.x;\n  {line}\n}}\n"
    )


def compiled(name: str, folder: Path) -> bytes:
    """A kernel as the simulated driver loads it; `alien` is one of a real GPU."""
    names = ("main_kernel", "other")
    made = compile_simulated(source(name), "sm_90", folder, dict.fromkeys(names, SECONDS)).path.read_bytes()
    if name == "alien":
        return made[:18] + struct.pack("<H", 190) + made[20:]  # the machine of an ELF file: CUDA
    return made


def require() -> Path:
    """The folder of the simulated driver; skips, with the reason, where there is none or nothing to use it with."""
    try:
        folder = native.folder()
    except native.Unavailable as error:
        pytest.skip(f"the simulated GPU needs {error}")
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("PyCUDA is not installed (`make setup` says why)")
    return folder


def environment() -> dict[str, str]:
    """The environment of a process that finds the simulated driver in place of NVIDIA's."""
    return {**os.environ, "LD_LIBRARY_PATH": f"{require()}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
