"""The proving ground of GPU kernels: candidates executed as OpenCL by PoCL and compared with the reference.

Work groups, local memory and barriers are those of a GPU; buffers lie between guard bytes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import te, tirx, topi
from tvm.target import Target

from kernels.emit_gpu import EmitFailed, GpuProgram
from kernels.opencl import emit_opencl
from kernels.reference import compare, evaluate, reduction_length, working_dtype
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.tensors import seeded_inputs
from kernels.workload import Workload, from_prim_func
from tests.kernels.gpu_workloads import PROGRAMS, conv, depthwise, matmul, reduction, softmax

TARGET = Target(
    {"kind": "opencl", "max_threads_per_block": 256, "max_num_threads": 256, "max_shared_memory_per_block": 32768,
     "thread_warp_size": 32}
)  # fmt: skip
"""The limits of a small GPU, so that candidates look as they would on one."""


def transposed(channels: int, out: int, size: int, stride: int) -> Any:
    data = te.placeholder((1, channels, size, size), name="data")
    weight = te.placeholder((channels, out, 3, 3), name="weight")
    made = topi.nn.conv2d_transpose_nchw(data, weight, (stride, stride), (1, 1, 1, 1), "float32", (0, 0))
    return te.create_prim_func([data, weight, made])


def dilated(channels: int, out: int, size: int) -> Any:
    data = te.placeholder((1, channels, size, size), name="data")
    weight = te.placeholder((out, channels, 3, 3), name="weight")
    return te.create_prim_func([data, weight, topi.nn.conv2d_nchw(data, weight, 1, 2, 2)])


def scan(rows: int, columns: int) -> Any:
    """Sums of the row up to each element."""
    data = te.placeholder((rows, columns), name="data")
    before = te.reduce_axis((0, columns), name="k")

    def cell(i: Any, j: Any) -> Any:
        return te.sum(tirx.if_then_else(before <= j, data[i, before], tirx.const(0, "float32")), axis=before)

    return te.create_prim_func([data, te.compute((rows, columns), cell, name="scan")])


GROUND: Mapping[str, Callable[[], Any]] = {
    **{name: make for name, make in PROGRAMS.items() if " in " not in name},  # PoCL has neither half nor bfloat16
    "matmul of odd": lambda: matmul(33, 45, 27),
    "matrix by vector": lambda: matmul(61, 1, 128),
    "matmul in int8": PROGRAMS["matmul in int8"],
    "batched matmul of primes": lambda: matmul(7, 11, 13, batch=5),
    "conv2d of primes": lambda: conv(5, 7, 13),
    "transposed conv2d": lambda: transposed(6, 8, 7, 2),
    "dilated conv2d": lambda: dilated(6, 8, 11),
    "depthwise conv2d of primes": lambda: depthwise(7, 13, 1),
    "softmax of primes": lambda: softmax(7, 101),
    "max of columns": lambda: reduction("max", 41, 13, 0),
    "scan": lambda: scan(5, 37),
}
"""By name: every kind of program, odd and prime extents among them."""


@dataclass(frozen=True)
class Case:
    """A legal candidate of a program, emitted."""

    workload: Workload
    candidate: Candidate
    program: GpuProgram


def workload(name: str) -> Workload:
    return from_prim_func(GROUND[name](), name)


def cases(made: Workload, count: int, seed: int = 5) -> Iterator[Case]:
    """Up to so many different legal candidates, from each sketch in turn, the passes at random."""
    space, rng = generate(made, TARGET), np.random.default_rng(seed)
    applier, seen = TraceApplier(made, space, TARGET), set[Candidate]()
    for attempt in range(6 * count):
        if len(seen) == count:
            return
        drawn = space.sample_sketch(attempt % len(space.sketches), rng)
        candidate = drawn if drawn is None or attempt % 2 else space.mutate(drawn, rng, 2)
        if candidate is None or candidate in seen:
            continue
        try:
            schedule = applier.apply(candidate)
            program = emit_opencl(schedule.mod, TARGET, made.num_outputs)
        except (InvalidCandidate, EmitFailed):
            continue
        seen.add(candidate)
        yield Case(made, candidate, program)


class Ground:
    """A device to execute cases on."""

    def __init__(self, number: int) -> None:
        from tuner.devices.opencl.driver import OpenclGpu

        self._gpu = OpenclGpu(number)
        self._expected = functools.lru_cache(maxsize=2)(self._evaluated)

    def wrong(self, case: Case, program: GpuProgram | None = None) -> str:
        """What is wrong with a case's outputs, inputs or guard bytes, or ""; `program` in place of its own."""
        from tuner.devices.gpu.runner import GpuError

        made, run = case.workload, program or case.program
        inputs, expected, dtype, reduction = self._expected(made)
        try:
            kernel = self._gpu.kernel(run.source.encode(), run.plan, inputs, list(made.outputs))
        except GpuError as error:
            return f"not compiled: {error}"
        try:
            kernel.enqueue(0)
            self._gpu.synchronize()
            for actual, wanted in zip(kernel.outputs(), expected, strict=True):
                right, _, _, reason = compare(actual, wanted, dtype, reduction)
                if not right:
                    return str(reason)
            return kernel.damage()
        finally:
            kernel.free()

    @staticmethod
    def _evaluated(made: Workload) -> Any:
        inputs, function = seeded_inputs(made.inputs, 3), made.module()["main"]
        expected = evaluate(function, seeded_inputs(made.inputs, 3), made.num_outputs)
        return inputs, expected, working_dtype(function), reduction_length(function)


_BARRIER = "barrier(CLK_LOCAL_MEM_FENCE);"


def without_barrier(program: GpuProgram, number: int) -> GpuProgram | None:
    """The program without one of its barriers; None where it has not so many."""
    parts = program.source.split(_BARRIER)
    if number + 1 >= len(parts):
        return None
    source = _BARRIER.join(parts[: number + 1]) + ";" + _BARRIER.join(parts[number + 1 :])
    return GpuProgram(source, program.plan)


def wrong_stride(program: GpuProgram, stride: int) -> GpuProgram | None:
    """The program with rows that are one element too short; None where nothing has that stride."""
    source, count = re.subn(rf"\* {stride}\b", f"* {stride - 1}", program.source)
    return GpuProgram(source, program.plan) if count else None


def overlapping_tiles(program: GpuProgram) -> GpuProgram | None:
    """The program with two work groups on each tile, and none on the rest; None where there is one group."""
    if program.plan.launches[0].grid[0] < 2:
        return None
    return GpuProgram(program.source.replace("get_group_id(0)", "(get_group_id(0) / 2)"), program.plan)
