"""The proving ground of GPU kernels: candidates executed as OpenCL by PoCL and compared with the reference.

Work groups, local memory and barriers are those of a GPU; buffers lie between guard bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tvm.target import Target

from kernels.emit_gpu import GpuProgram
from kernels.opencl import emit_opencl
from kernels.workload import Workload, from_prim_func, seeded_inputs
from tests.kernels.gpu_ground import (
    ODD,
    Case,
    drawn,
    reference_of,
    run_and_compared,
    with_shorter_rows,
    without_nth,
)
from tests.kernels.gpu_workloads import PROGRAMS

__all__ = [
    "GROUND", "TARGET", "Case", "Ground", "cases", "overlapping_tiles", "smaller_local", "without_barrier", "workload",
    "wrong_stride",
]  # fmt: skip

TARGET = Target(
    {"kind": "opencl", "max_threads_per_block": 256, "max_num_threads": 256, "max_shared_memory_per_block": 32768,
     "thread_warp_size": 32}
)  # fmt: skip
"""The limits of a small GPU, so that candidates look as they would on one."""

GROUND: Mapping[str, Callable[[], Any]] = {
    **{name: make for name, make in PROGRAMS.items() if " in " not in name},  # PoCL has neither half nor bfloat16
    "matmul in int8": PROGRAMS["matmul in int8"],
    **ODD,
}
"""By name: every kind of program, odd and prime extents among them."""


def workload(name: str) -> Workload:
    return from_prim_func(GROUND[name](), name)


def cases(made: Workload, count: int, seed: int = 5) -> Iterator[Case]:
    """See `gpu_ground.drawn`."""
    return drawn(made, TARGET, emit_opencl, count, seed)


class Ground:
    """A device to execute cases on."""

    def __init__(self, number: int) -> None:
        from tuner.devices.opencl.driver import OpenclGpu

        self._gpu = OpenclGpu(number)

    def wrong(self, case: Case, program: GpuProgram | None = None) -> str:
        """What is wrong with a case's outputs, inputs or guard bytes, or ""; `program` in place of its own."""
        from tuner.devices.gpu.runner import GpuError

        made, run = case.workload, program or case.program
        inputs, *_ = reference_of(made)
        try:
            kernel = self._gpu.kernel(run.source.encode(), run.plan, inputs, list(made.outputs))
        except GpuError as error:
            return f"not compiled: {error}"
        try:
            return run_and_compared(self._gpu, kernel, made)
        finally:
            kernel.free()

    def bits(self, case: Case, runs: int = 3) -> set[bytes]:
        """The different first outputs that a case gives when it is run several times."""
        made, run = case.workload, case.program
        inputs = seeded_inputs(made.inputs, 3)
        kernel = self._gpu.kernel(run.source.encode(), run.plan, inputs, list(made.outputs))
        found = set()
        for _ in range(runs):
            kernel.enqueue(0)
            found.add(kernel.outputs()[0].tobytes())
        kernel.free()
        return found


def without_barrier(program: GpuProgram, number: int) -> GpuProgram | None:
    """The program without one of its barriers; None where it has not so many."""
    return _changed(program, without_nth(program.source, "barrier(CLK_LOCAL_MEM_FENCE);", number))


def wrong_stride(program: GpuProgram, stride: int) -> GpuProgram | None:
    """The program with rows that are one element too short; None where nothing has that stride."""
    return _changed(program, with_shorter_rows(program.source, stride))


_LOCAL = re.compile(r"(__local [^;\[]*)\[(\d+)\];")


def smaller_local(program: GpuProgram) -> GpuProgram | None:
    """The program with half of its local memory; None where it has none."""
    changed, count = _LOCAL.subn(lambda m: f"{m[1]}[{int(m[2]) // 2}];", program.source)
    return _changed(program, changed if count else None)


def _changed(program: GpuProgram, source: str | None) -> GpuProgram | None:
    return None if source is None else GpuProgram(source, program.plan)


def overlapping_tiles(program: GpuProgram) -> GpuProgram | None:
    """The program with two work groups on each tile, and none on the rest; None where there is one group."""
    if program.plan.launches[0].grid[0] < 2:
        return None
    return GpuProgram(program.source.replace("get_group_id(0)", "(get_group_id(0) / 2)"), program.plan)
