"""GPU candidates executed without a GPU: emitted as OpenCL and run by PoCL on the CPU, with threads and barriers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tvm.target import Target

from kernels.emit_gpu import GpuProgram, emit
from kernels.reference import compare, evaluate, reduction_length, working_dtype
from kernels.space import InvalidCandidate, TraceApplier, generate
from kernels.tensors import poison
from kernels.workload import Workload, seeded_inputs
from tests.kernels.gpu_workloads import PROGRAMS, gpu, workload

cl: Any = pytest.importorskip("pyopencl", reason="needs pyopencl and pocl-binary-distribution")
OPENCL = Target({"kind": "opencl", "max_threads_per_block": 1024, "max_shared_memory_per_block": 16384,
                 "max_num_threads": 1024, "thread_warp_size": 1})  # fmt: skip
NAMES = [name for name in PROGRAMS if " in " not in name]  # float32: tensor cores and half are not OpenCL's
GUARD, PATTERN = 4096, 0xA5


def pocl() -> Any:
    for platform in cl.get_platforms():
        if platform.name == "Portable Computing Language":
            return platform.get_devices()[0]
    pytest.skip("PoCL is not installed")


def programs(made: Workload, count: int) -> list[GpuProgram]:
    """Emitted legal candidates, from each sketch in turn. No asynchronous copies: OpenCL has none of CUDA's."""
    target = gpu("sm_75", 16384)
    space, rng = generate(made, target), np.random.default_rng(5)
    plain = [s for s in space.sketches if not (s.gpu and s.gpu.tensor_cores)]
    applier, found = TraceApplier(made, space, target), []
    for attempt in range(3 * count):
        candidate = space.sample_sketch(plain[attempt % len(plain)].number, rng)
        assert candidate is not None
        try:
            schedule = applier.apply(candidate)
        except InvalidCandidate:
            continue
        found.append(emit(schedule.mod, OPENCL, made.num_outputs, {"tirx.use_async_copy": False}))
        if len(found) == count:
            break
    return found


def run(program: GpuProgram, made: Workload) -> str:
    """What is wrong with a program's outputs or guard bytes, or ""."""
    context = cl.Context([pocl()])
    queue = cl.CommandQueue(context)
    kernels = cl.Program(context, program.source).build()
    inputs = seeded_inputs(made.inputs, 3)
    arrays = [*inputs, *map(poison, made.outputs), *[np.zeros(n, np.uint8) for n in program.plan.workspaces]]
    edge = np.full(GUARD, PATTERN, np.uint8).tobytes()
    whole = [
        cl.Buffer(context, cl.mem_flags.COPY_HOST_PTR, hostbuf=bytearray(edge + array.tobytes() + edge))
        for array in arrays
    ]
    inner = [buffer.get_sub_region(GUARD, array.nbytes) for buffer, array in zip(whole, arrays, strict=True)]
    for launch in program.plan.launches:
        kernel = cl.Kernel(kernels, launch.kernel)
        size = [grid * block for grid, block in zip(launch.grid, launch.block, strict=True)]
        kernel(queue, size, list(launch.block), *[inner[slot] for slot in launch.args])
    queue.finish()
    for buffer, array in zip(whole, arrays, strict=True):
        held = np.empty(array.nbytes + 2 * GUARD, np.uint8)
        cl.enqueue_copy(queue, held, buffer)
        if held[:GUARD].tobytes() != edge or held[-GUARD:].tobytes() != edge:
            return "guard bytes were written"
        array.view(np.uint8).reshape(-1)[:] = held[GUARD:-GUARD]
    func = made.module()["main"]
    expected = evaluate(func, seeded_inputs(made.inputs, 3), made.num_outputs)
    for actual, wanted in zip(arrays[len(inputs) :], expected, strict=False):
        right, _, _, reason = compare(actual, wanted, working_dtype(func), reduction_length(func))
        if not right:
            return str(reason)
    return ""


@pytest.mark.parametrize("name", NAMES)
def test_candidates_are_right(name: str) -> None:
    pocl()
    made = workload(name)
    emitted = programs(made, 3)
    assert emitted
    assert [run(program, made) for program in emitted] == [""] * len(emitted)


def test_a_wrong_stride_is_seen() -> None:
    pocl()
    made = workload("sum")
    for program in programs(made, 2):
        source, count = re.subn(r"\* 31\b", "* 30", program.source)
        assert count
        assert run(GpuProgram(source, program.plan), made)
