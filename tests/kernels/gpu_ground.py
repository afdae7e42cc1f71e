"""What the proving grounds of GPU kernels share: programs, candidates of them, how a run is compared, sabotages."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import IRModule, te, tirx, topi
from tvm.target import Target

from kernels.emit_gpu import EmitFailed, GpuProgram
from kernels.reference import compare, evaluate, reduction_length, working_dtype
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.tensors import seeded_inputs
from kernels.workload import Workload
from tests.kernels.gpu_workloads import conv, depthwise, matmul, reduction, softmax


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


ODD: Mapping[str, Callable[[], Any]] = {
    "matmul of odd": lambda: matmul(33, 45, 27),
    "matrix by vector": lambda: matmul(61, 1, 128),
    "batched matmul of primes": lambda: matmul(7, 11, 13, batch=5),
    "conv2d of primes": lambda: conv(5, 7, 13),
    "transposed conv2d": lambda: transposed(6, 8, 7, 2),
    "dilated conv2d": lambda: dilated(6, 8, 11),
    "depthwise conv2d of primes": lambda: depthwise(7, 13, 1),
    "softmax of primes": lambda: softmax(7, 101),
    "max of columns": lambda: reduction("max", 41, 13, 0),
    "scan": lambda: scan(5, 37),
}
"""By name: programs in float32 beside those of gpu_workloads, most of them of odd and prime extents."""


@dataclass(frozen=True)
class Case:
    """A legal candidate of a program, emitted."""

    workload: Workload
    candidate: Candidate
    program: GpuProgram


def drawn(
    made: Workload, target: Target, emit: Callable[[IRModule, Target, int], GpuProgram], count: int, seed: int,
    sketch: int | None = None,
) -> Iterator[Case]:  # fmt: skip
    """Up to so many different legal candidates, from each sketch in turn, or from one, the passes at random."""
    space, rng = generate(made, target), np.random.default_rng(seed)
    applier, seen = TraceApplier(made, space, target), set[Candidate]()
    for attempt in range(6 * count):
        if len(seen) == count:
            return
        sample = space.sample_sketch(attempt % len(space.sketches) if sketch is None else sketch, rng)
        candidate = sample if sample is None or attempt % 2 else space.mutate(sample, rng, 2)
        if candidate is None or candidate in seen:
            continue
        try:
            schedule = applier.apply(candidate)
            program = emit(schedule.mod, target, made.num_outputs)
        except (InvalidCandidate, EmitFailed):
            continue
        seen.add(candidate)
        yield Case(made, candidate, program)


@functools.lru_cache(maxsize=2)
def reference_of(made: Workload) -> tuple[Any, Any, str, int]:
    """The inputs of a workload, what is right for them, the dtype of its arithmetic and its longest sum."""
    inputs, function = seeded_inputs(made.inputs, 3), made.module()["main"]
    expected = evaluate(function, seeded_inputs(made.inputs, 3), made.num_outputs)
    return inputs, expected, working_dtype(function), reduction_length(function)


def run_and_compared(gpu: Any, kernel: Any, made: Workload) -> str:
    """Run a kernel once: what is wrong with its outputs, inputs or guard bytes, or "". Raises GpuError."""
    _, expected, dtype, length = reference_of(made)
    kernel.enqueue(0)
    gpu.synchronize()
    for actual, wanted in zip(kernel.outputs(), expected, strict=True):
        right, _, _, reason = compare(actual, wanted, dtype, length)
        if not right:
            return str(reason)
    return str(kernel.damage())


def without_nth(source: str, statement: str, number: int) -> str | None:
    """The source with one of its places of a statement empty; None where it has not so many."""
    parts = source.split(statement)
    if number + 1 >= len(parts):
        return None
    return statement.join(parts[: number + 1]) + ";" + statement.join(parts[number + 1 :])


def with_shorter_rows(source: str, stride: int) -> str | None:
    """The source with rows that are one element too short; None where nothing has that stride."""
    changed, count = re.subn(rf"\* {stride}\b", f"* {stride - 1}", source)
    return changed if count else None
