"""How deep should loops be unrolled? Build seconds and GFLOP/s of initial candidates at each depth.

    python experiments/unroll/run.py [--candidates 6]

Packed 3x3 and 1x1 convolutions of ResNet-50, all threads, one process; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

DEPTHS = (0, 16, 64, 256, 512)
SHAPES = ((64, 64, 56, 3), (256, 256, 14, 3), (1024, 256, 14, 1), (512, 512, 7, 3))  # in, out, height, kernel


def workload(channels: int, outputs: int, height: int, kernel: int):
    from tvm import te

    from kernels.workload import from_prim_func
    from tuner.graph.layout import Geometry

    pad = kernel // 2
    geometry = Geometry(
        (1, channels, height, height), (outputs, channels, kernel, kernel), (1, 1), (pad,) * 4, (1, 1), 1
    )
    data = te.placeholder((1, channels // 16, height, height, 16), name="data")
    weight = te.placeholder((outputs // 16, channels // 16, kernel, kernel, 16, 16), name="weight")
    return from_prim_func(te.create_prim_func([data, weight, geometry.dense(16, 16)(data, weight)]), "conv2d")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", "--seeds", type=int, default=6, help="initial candidates of each convolution")
    count = parser.parse_args().candidates
    threads = len(os.sched_getaffinity(0))
    os.environ["TVM_NUM_THREADS"] = str(threads)
    import json

    import tvm
    from tvm.target import Target

    from kernels.passes import PassConfig, Unroll
    from kernels.space import Candidate, TraceApplier, generate
    from kernels.workload import seeded_inputs
    from tuner.config import TargetConfig
    from tuner.devices.resolve import resolve
    from tuner.process.pinning import pin_workers

    target = Target(json.loads(resolve(TargetConfig()).text))
    build_s: dict[int, list[float]] = {d: [] for d in DEPTHS}
    gflops: dict[int, list[float]] = {d: [] for d in DEPTHS}
    pinned = False
    scratch = tempfile.mkdtemp()
    for shape in SHAPES:
        task = workload(*shape)
        space = generate(task, target)
        applier = TraceApplier(task, space, target)
        arrays = [tvm.runtime.tensor(a) for a in seeded_inputs(task.args, 0)]
        for initial in space.initial_candidates()[:count]:
            for depth in DEPTHS:
                candidate = Candidate(initial.sketch, initial.decisions, PassConfig().replace(Unroll(depth)))
                schedule = applier.apply(candidate)
                began = time.perf_counter()
                library = tvm.compile(schedule.mod, target=target)
                library.mod.write_to_file(str(Path(scratch, "kernel.o")))
                build_s[depth].append(time.perf_counter() - began)
                timer = library.mod.time_evaluator("main", tvm.cpu(), number=5, repeat=5)
                pinned = pinned or pin_workers(lambda timer=timer, arrays=arrays: timer(*arrays), threads)
                gflops[depth].append(task.flops / statistics.median(timer(*arrays).results) / 1e9)
    for depth in DEPTHS:
        print(
            f"unroll {depth:4}: build {statistics.mean(build_s[depth]):.2f} s, "
            f"geometric mean {statistics.geometric_mean(gflops[depth]):.0f} GFLOP/s, best {max(gflops[depth]):.0f}"
        )


if __name__ == "__main__":
    main()
