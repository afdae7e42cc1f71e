"""How many proposed CUDA candidates pass VerifyGPUCode, and how long does a proposal take? Needs no GPU and no nvcc.

python experiments/cuda_spaces/run.py [-n CANDIDATES]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.metaschedule import meta_schedule
from kernels.space import Candidate, InvalidCandidate, TraceApplier, generate
from kernels.space.rules import tune_context
from kernels.workload import Workload, from_prim_func
from tests.kernels.gpu_workloads import conv, conv_nhwc, depthwise, gpu, matmul

WORKLOADS: dict[str, Any] = {
    "matmul 1024^3, fp32": lambda: matmul(1024, 1024, 1024),
    "matmul 1024^3, fp16": lambda: matmul(1024, 1024, 1024, "float16"),
    "matmul 1024^3, bf16": lambda: matmul(1024, 1024, 1024, "bfloat16"),
    "matmul 1024^3, int8": lambda: matmul(1024, 1024, 1024, "int8", "int32"),
    "matmul 1021 x 1019 x 1013, fp16": lambda: matmul(1021, 1019, 1013, "float16"),
    "16 matmuls 384 x 384 x 64, fp16": lambda: matmul(384, 384, 64, "float16", batch=16),
    "conv 3x3 64 -> 64, 56 x 56, fp32": lambda: conv(64, 64, 56),
    "conv 3x3 64 -> 128, 56 x 56, stride 2": lambda: conv(64, 128, 56, stride=2),
    "conv 3x3 128 -> 128, 28 x 28, 32 groups": lambda: conv(128, 128, 28, groups=32),
    "depthwise 3x3 96, 56 x 56, stride 2": lambda: depthwise(96, 56, 2),
    "conv 3x3 64 -> 64, 56 x 56, NHWC, fp16": lambda: conv_nhwc(64, 64, 56),
}


def drawn_by_tvm(workload: Workload, count: int) -> float:
    """The share of TVM's own random draws that pass VerifyGPUCode."""
    from tvm.s_tir import Schedule

    ms = meta_schedule()
    rules = "cuda-tensorcore" if "fp16" in workload.name else "cuda"
    context = tune_context(workload, gpu(), ms.ScheduleRule.create(rules))
    sketches = context.generate_design_space()
    postprocs = ms.Postproc.create("cuda-tensorcore")
    for postproc in postprocs:
        postproc._initialize_with_tune_context(context)  # noqa: SLF001 - TVM has no public name for it
    passed = 0
    for i in range(count):
        schedule = Schedule(workload.module(), seed=i + 1, error_render_level="none")
        trace = sketches[i % len(sketches)].trace
        try:
            type(trace)(trace.insts, {}).apply_to_schedule(schedule, remove_postproc=True)
            passed += all(postproc.apply(schedule) for postproc in postprocs)
        except (RuntimeError, ValueError):
            pass
    return passed / count


def row(name: str, count: int, drawn: int) -> str:
    """One line of the table."""
    workload = from_prim_func(WORKLOADS[name](), name)
    space = generate(workload, gpu())
    applier = TraceApplier(workload, space, gpu())
    rng = np.random.default_rng(0)
    space.sample(rng)  # its first call predicts candidates of every sketch: not timed
    started = time.perf_counter()
    candidates = [space.sample(rng) for _ in range(count)]
    proposing_s = (time.perf_counter() - started) / count
    started = time.perf_counter()
    passed = sum(can_be_applied(applier, candidate) for candidate in candidates)
    applying_s = (time.perf_counter() - started) / count
    tensor = sum(sketch.gpu is not None and sketch.gpu.tensor_cores for sketch in space.sketches)
    tvm = f"{drawn_by_tvm(workload, drawn):.0%}" if drawn and "matmul 1024" in name else ""
    return (
        f"| {name} | {len(space.sketches)} | {tensor} | {passed}/{count} | {proposing_s * 1e3:.2f} ms |"
        f" {applying_s * 1e3:.0f} ms | {tvm} |"
    )


def can_be_applied(applier: TraceApplier, candidate: Candidate) -> bool:
    try:
        applier.apply(candidate)
    except InvalidCandidate:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--tvm", type=int, default=0, help="also draw this many candidates as TVM does")
    asked = parser.parse_args()
    print(
        "| workload | sketches | with tensor cores | pass VerifyGPUCode | a proposal | applying it | TVM's own draws |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in WORKLOADS:
        print(row(name, asked.n, asked.tvm), flush=True)


if __name__ == "__main__":
    main()
