"""Scheduled TensorIR -> OpenCL C and launch plan. Needs no device."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import tvm
from tvm.target import Target

from kernels.emit_gpu import EmitFailed, GpuProgram, emit

_FIRST = "// Function:"
"""How TVM begins each kernel; before the first one stand pragmas and macros."""

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


def joined(programs: Iterable[GpuProgram]) -> str:
    """The sources of programs whose kernels have different names as one, what they begin with alike only once."""
    prologues: dict[str, None] = {}
    bodies = []
    for program in programs:
        prologue, mark, body = program.source.partition(_FIRST)
        prologues[prologue.strip()] = None
        bodies.append(mark + body)
    return "\n".join([*filter(None, prologues), *bodies])
