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

    return GpuProgram(_KERNEL.sub(sized, _whole_vectors(program.source)), program.plan)


def _whole_vectors(source: str) -> str:
    """The source with vectors of bytes as OpenCL writes them.

    TVM's code generator writes one that it gathers element by element as CUDA does, as bits of one integer, which a
    store would write to each element. Raises EmitFailed where the type of such a vector cannot be told.
    """
    while (start := source.find(_byte(0))) >= 0:
        elements: list[str] = []
        end = start
        while source.startswith(_byte(len(elements)), end):
            opening = end + len(_byte(len(elements))) - 1
            closing = _closing(source, opening)
            elements.append(source[opening + 1 : closing].removesuffix(f" << {8 * len(elements)}"))
            end = closing + 2
            if source[end : end + 1] != "|":
                break
            end += 1
        stored = re.match(r", 0, (\w+)", source[end:])
        declared = stored and re.search(rf"\b(u?char)\b[^;,()]*\b{stored[1]}\b", source)
        if not declared:
            raise EmitFailed("a vector of bytes that is not stored at once")
        vector = f"({declared[1]}{len(elements)})({', '.join(elements)})"
        source = source[:start] + vector + source[end:]
    return source


def _byte(number: int) -> str:
    """How TVM begins an element of such a vector."""
    return f"((0x000000ff << {8 * number}) & ("


def _closing(source: str, opening: int) -> int:
    """Where the parenthesis at `opening` ends. Raises EmitFailed."""
    depth = 0
    for place in range(opening, len(source)):
        depth += {"(": 1, ")": -1}.get(source[place], 0)
        if depth == 0:
            return place
    raise EmitFailed("a parenthesis that does not end")


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
