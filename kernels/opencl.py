"""Scheduled TensorIR -> OpenCL C and launch plan. Needs no device."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tvm
from tvm.target import Target

from kernels.emit_gpu import EmitFailed, GpuProgram, emit

HALF, DOUBLE = "cl_khr_fp16", "cl_khr_fp64"
"""The extensions without which a device has no arithmetic in float16, or in float64."""

EXTENSION_OF: Mapping[str, str] = {"float16": HALF, "float64": DOUBLE}
"""By dtype, what a device must have for it."""

_KERNEL = re.compile(r"__kernel void (\w+)\(")


def lowering_target(target: Target) -> Target:
    """The target that programs are lowered for: TVM must not count on threads that run in step, which OpenCL does not
    promise, so that a reduction among threads needs its barriers."""
    return Target({**json.loads(str(target)), "thread_warp_size": 1})


def emit_opencl(module: tvm.IRModule, target: Target, num_outputs: int = 1) -> GpuProgram:
    """Lower the scheduled function `main` to OpenCL C, each kernel with its work-group size as an attribute.

    Raises EmitFailed when TVM rejects the schedule, or where local memory would be sized at the launch.
    """
    program = emit(module, lowering_target(target), num_outputs)
    if any(launch.dynamic_shared_bytes for launch in program.plan.launches):
        raise EmitFailed("local memory that is sized at the launch")
    blocks: dict[str, set[Any]] = {}
    for launch in program.plan.launches:
        blocks.setdefault(launch.kernel, set()).add(launch.block)

    def sized(match: re.Match[str]) -> str:
        of_kernel = blocks.get(match[1], set())
        if len(of_kernel) != 1:
            return match[0]
        x, y, z = next(iter(of_kernel))
        return f"__kernel __attribute__((reqd_work_group_size({x}, {y}, {z}))) void {match[1]}("

    return GpuProgram(_KERNEL.sub(sized, program.source), program.plan)


def renamed(program: GpuProgram, prefix: str) -> GpuProgram:
    """The program with other names for its kernels, so that several of them are one source."""
    names = {kernel: f"{prefix}_{number}" for number, kernel in enumerate(program.plan.kernels)}
    pattern = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names))
    source = pattern.sub(lambda match: names[match[0]], program.source)
    launches = tuple(replace(launch, kernel=names[launch.kernel]) for launch in program.plan.launches)
    return GpuProgram(source, replace(program.plan, launches=launches))
