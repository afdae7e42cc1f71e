"""The proving ground of CUDA kernels: candidates compiled for the simulated GPU, run through PyCUDA and compared with
the reference. Barriers, shared memory, fragments and asynchronous copies are executed, and every access is checked."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kernels.cubin import CompileFailed
from kernels.emit_gpu import EmitFailed, GpuProgram, emit
from kernels.reference import compare, evaluate, reduction_length, working_dtype
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.tensors import seeded_inputs
from kernels.workload import Workload, from_prim_func
from tests.kernels.gpu_workloads import PROGRAMS, conv, depthwise, gpu, matmul, reduction, softmax
from tests.kernels.opencl_ground import dilated, scan, transposed
from tuner.devices.cuda.simulated import native
from tuner.devices.cuda.simulated.compiler import compile_simulated

TARGET = gpu("sm_90a")

GROUND: Mapping[str, Callable[[], Any]] = {
    **PROGRAMS,
    "matmul of odd": lambda: matmul(33, 45, 27),
    "matrix by vector": lambda: matmul(61, 1, 128),
    "batched matmul of primes": lambda: matmul(7, 11, 13, batch=5),
    "matmul in bfloat16 of primes": lambda: matmul(31, 37, 61, "bfloat16"),
    "conv2d of primes": lambda: conv(5, 7, 13),
    "transposed conv2d": lambda: transposed(6, 8, 7, 2),
    "dilated conv2d": lambda: dilated(6, 8, 11),
    "depthwise conv2d of primes": lambda: depthwise(7, 13, 1),
    "softmax of primes": lambda: softmax(7, 101),
    "max of columns": lambda: reduction("max", 41, 13, 0),
    "scan": lambda: scan(5, 37),
}
"""By name: every kind of program, odd and prime extents and tensor cores among them."""


SAMPLE = (
    "matmul of primes", "matmul in half", "matmul in bfloat16 of primes", "matmul in int8", "conv2d of primes",
    "depthwise conv2d of primes", "softmax of primes", "scan",
)  # fmt: skip
"""Of GROUND, for the suite of tests."""


@dataclass(frozen=True)
class Case:
    """A legal candidate of a program, emitted."""

    workload: Workload
    candidate: Candidate
    program: GpuProgram


def workload(name: str) -> Workload:
    return from_prim_func(GROUND[name](), name)


def cases(made: Workload, count: int, seed: int = 5, sketch: int | None = None) -> Iterator[Case]:
    """Up to so many different legal candidates, from each sketch in turn, or from one, the passes at random."""
    space, rng = generate(made, TARGET), np.random.default_rng(seed)
    applier, seen = TraceApplier(made, space, TARGET), set[Candidate]()
    for attempt in range(6 * count):
        if len(seen) == count:
            return
        drawn = space.sample_sketch(attempt % len(space.sketches) if sketch is None else sketch, rng)
        candidate = drawn if drawn is None or attempt % 2 else space.mutate(drawn, rng, 2)
        if candidate is None or candidate in seen:
            continue
        try:
            schedule = applier.apply(candidate)
            program = emit(schedule.mod, TARGET, made.num_outputs)
        except (InvalidCandidate, EmitFailed):
            continue
        seen.add(candidate)
        yield Case(made, candidate, program)


class Ground:
    """The simulated GPU of this process, to execute cases on. `folder` is for what is compiled."""

    def __init__(self, folder: Path) -> None:
        native.preload()
        from tuner.devices.cuda.driver import CudaGpu

        self._folder = folder
        self._gpu = CudaGpu(0)
        self._expected = functools.lru_cache(maxsize=2)(self._evaluated)

    def wrong(self, case: Case, source: str | None = None) -> str:
        """What is wrong with a case's outputs, inputs or guard bytes, or ""; `source` in place of its own."""
        from tuner.devices.gpu.runner import GpuError

        made, plan = case.workload, case.program.plan
        inputs, expected, dtype, length = self._expected(made)
        try:
            cubin = compile_simulated(source or case.program.source, "sm_90", self._folder, {})
            kernel = self._gpu.kernel(cubin.path.read_bytes(), plan, inputs, list(made.outputs))
        except (GpuError, CompileFailed) as error:
            return f"not compiled: {error}"
        try:
            kernel.enqueue(0)
            self._gpu.synchronize()
            for actual, wanted in zip(kernel.outputs(), expected, strict=True):
                right, _, _, reason = compare(actual, wanted, dtype, length)
                if not right:
                    return str(reason)
            return kernel.damage()
        except GpuError as error:
            native.reset()
            return str(error)
        finally:
            kernel.free()

    def close(self) -> None:
        """Give the GPU back, which a process must before it ends."""
        self._gpu.close()

    @staticmethod
    def _evaluated(made: Workload) -> Any:
        inputs, function = seeded_inputs(made.inputs, 3), made.module()["main"]
        expected = evaluate(function, seeded_inputs(made.inputs, 3), made.num_outputs)
        return inputs, expected, working_dtype(function), reduction_length(function)


_BARRIER = "__syncthreads();"


def without_barrier(source: str, number: int) -> str | None:
    """The source without one of its barriers; None where it has not so many."""
    parts = source.split(_BARRIER)
    if number + 1 >= len(parts):
        return None
    return _BARRIER.join(parts[: number + 1]) + ";" + _BARRIER.join(parts[number + 1 :])


def wrong_stride(source: str, stride: int) -> str | None:
    """The source with rows that are one element too short; None where nothing has that stride."""
    changed, count = re.subn(rf"\* {stride}\b", f"* {stride - 1}", source)
    return changed if count else None


_FRAGMENT = re.compile(r"(mma_sync\(\w+\[\d+\], \w+)\[(\d+)\]")
_LOADED = re.compile(r"(load_matrix_sync\(\w+matrix_a\w+\[\d+\], .*, )(\d+)\);")
_WAIT = re.compile(r"\btvm_builtin_ptx_cp_async_wait_group\w+\(\);")
_SHARED = re.compile(r"(__shared__ [^;\[]*)\[(\d+)\];")


def swapped_fragment(source: str) -> str | None:
    """The source whose first product on tensor cores takes another fragment; None where there is but one."""
    numbers = {match[2] for match in _FRAGMENT.finditer(source)}
    if not {"0", "1"} <= numbers:
        return None
    return _FRAGMENT.sub(lambda m: f"{m[1]}[{1 if m[2] == '0' else 0}]", source, count=1)


def narrower(source: str) -> str | None:
    """The source that loads fragments from rows that are 8 elements shorter; None where it loads none."""
    changed, count = _LOADED.subn(lambda m: f"{m[1]}{int(m[2]) - 8});", source)
    return changed if count else None


def without_wait(source: str) -> str | None:
    """The source that never waits for asynchronous copies; None where it makes none."""
    changed, count = _WAIT.subn(";", source)
    return changed if count and re.search(r"cp\.async\.c[ag]", source) else None


def beyond_shared(source: str) -> str:
    """The source with half of its shared memory."""
    return _SHARED.sub(lambda m: f"{m[1]}[{int(m[2]) // 2}];", source)
