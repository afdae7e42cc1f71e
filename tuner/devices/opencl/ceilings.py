"""What an OpenCL device can do at most: multiply-adds in registers, and copies of memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.launch_plan import Argument, Launch, LaunchPlan
from kernels.tensors import TensorSpec
from tuner.devices.opencl.driver import OpenclGpu
from tuner.devices.opencl.facts import EXTENSION_OF
from tuner.devices.opencl.kernel import OpenclKernel

_GROUPS, _GROUP = 64, 64
_CHAINS, _STEPS = 8, 1024
"""Independent multiply-adds that a work item has under way, and how many times it does them all."""

_LANES = (1, 16)
"""Of the vectors in them: a GPU's work items are its lanes, a CPU has vectors of its own."""

_COPIED_BYTES = 64 << 20
_SAMPLES = 5

_NAMES = {"float32": "float", "float16": "half"}
"""Of dtypes in OpenCL C."""


def ceilings(gpu: OpenclGpu) -> dict[str, Any]:
    """Peak flop/s of each dtype that the device has, and bytes/s. Raises GpuError."""
    peaks = {
        dtype: max(_peak(gpu, dtype, name, lanes) for lanes in _LANES)
        for dtype, name in _NAMES.items()
        if not gpu.facts.missing_for(dtype)
    }
    return {
        "peak_flops_per_s": peaks["float32"], "peaks": peaks, "bandwidth_bytes_per_s": _bandwidth(gpu), "levels": [],
        "cache_bytes": gpu.facts.cache_bytes, "method": "OpenCL kernels of multiply-adds, and of copies",
    }  # fmt: skip


def _peak(gpu: OpenclGpu, dtype: str, scalar: str, lanes: int) -> float:
    name = scalar if lanes == 1 else f"{scalar}{lanes}"
    chains = "".join(f"  x{i} = x{i} * a + b;\n" for i in range(_CHAINS))
    extension = EXTENSION_OF.get(dtype)
    pragma = f"#pragma OPENCL EXTENSION {extension} : enable\n" if extension else ""
    source = (
        f"{pragma}__kernel void peak(__global {name}* in, __global {name}* out) {{\n"
        f"  {name} a = in[0], b = in[1]" + "".join(f", x{i} = in[0] + {i}" for i in range(_CHAINS)) + ";\n"
        f"  for (int step = 0; step < {_STEPS}; ++step) {{\n{chains}  }}\n"
        f"  out[get_global_id(0)] = {' + '.join(f'x{i}' for i in range(_CHAINS))};\n}}\n"
    )
    groups = _GROUPS * max(1, gpu.facts.compute_units // 8)
    flops = 2.0 * _CHAINS * _STEPS * groups * _GROUP * lanes
    given = np.repeat(np.array([0.5, 0.25], dtype), lanes)
    return flops / _fastest_s(gpu, source, "peak", given, groups, dtype, lanes)


def _bandwidth(gpu: OpenclGpu) -> float:
    source = (
        "__kernel void copied(__global float4* in, __global float4* out) "
        "{ out[get_global_id(0)] = in[get_global_id(0)]; }"
    )
    given = np.ones(_COPIED_BYTES // 4, np.float32)
    groups = _COPIED_BYTES // 16 // _GROUP
    return 2 * _COPIED_BYTES / _fastest_s(gpu, source, "copied", given, groups, "float32", 4)


def _fastest_s(gpu: OpenclGpu, source: str, name: str, given: Any, groups: int, dtype: str, lanes: int = 1) -> float:
    output = TensorSpec((groups * _GROUP * lanes,), dtype)
    arguments = (Argument(given.shape, dtype), Argument(output.shape, dtype))
    plan = LaunchPlan((Launch(name, (0, 1), (groups, 1, 1), (_GROUP, 1, 1)),), arguments)
    kernel: OpenclKernel = gpu.kernel(source.encode(), plan, [given], [output])
    try:
        kernel.enqueue(0)
        gpu.synchronize()
        return min(gpu.time(lambda: kernel.enqueue(0)).device_s for _ in range(_SAMPLES))
    finally:
        kernel.free()
