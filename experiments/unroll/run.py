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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import cpu_target
from kernels.passes import PassConfig
from kernels.passes.unroll import Unroll
from kernels.space import Candidate, TraceApplier, generate
from kernels.tensors import seeded_inputs
from kernels.workload import Workload, from_prim_func
from tuner.process.pinning import pin_workers

DEPTHS = (0, 16, 64, 256, 512)
SHAPES = ((64, 64, 56, 3), (256, 256, 14, 3), (1024, 256, 14, 1), (512, 512, 7, 3))  # in, out, height, kernel
LANES = 16


@dataclass(frozen=True)
class Built:
    depth: int
    build_s: float
    gflops: float


def convolution(channels: int, outputs: int, height: int, kernel: int) -> Workload:
    from tvm import te

    from tuner.graph.convolution import Geometry

    pad, blocks = kernel // 2, channels // LANES
    geometry = Geometry(
        (1, channels, height, height), (outputs, channels, kernel, kernel), (1, 1), (pad, pad, pad, pad), (1, 1), 1
    )
    data = te.placeholder((1, blocks, height, height, LANES), name="data")
    weight = te.placeholder((outputs // LANES, blocks, kernel, kernel, LANES, LANES), name="weight")
    return from_prim_func(te.create_prim_func([data, weight, geometry.dense(LANES, LANES)(data, weight)]), "conv2d")


class Builder:
    """Builds candidates and times them in this process, whose threads it pins with the first one."""

    def __init__(self, threads: int, folder: Path) -> None:
        self._threads = threads
        self._target = cpu_target(threads).tvm()
        self._object = folder / "kernel.o"
        self._pinned = False

    def built(self, workload: Workload, candidates: int) -> Iterator[Built]:
        """The initial candidates of a workload, each at every depth."""
        import tvm

        space = generate(workload, self._target)
        applier = TraceApplier(workload, space, self._target)
        arrays = [tvm.runtime.tensor(array) for array in seeded_inputs(workload.args, 0)]
        for initial in space.initial_candidates()[:candidates]:
            for depth in DEPTHS:
                candidate = Candidate(initial.sketch, initial.decisions, PassConfig().replace(Unroll(depth)))
                build_s, module = self._build(applier.apply(candidate).mod)
                yield Built(depth, build_s, workload.flops / self._seconds(module, arrays) / 1e9)

    def _build(self, scheduled: Any) -> tuple[float, Any]:
        import tvm

        began = time.perf_counter()
        module = tvm.compile(scheduled, target=self._target).mod
        module.write_to_file(str(self._object))
        return time.perf_counter() - began, module

    def _seconds(self, module: Any, arrays: Sequence[Any]) -> float:
        import tvm

        timer = module.time_evaluator("main", tvm.cpu(), number=5, repeat=5)
        self._pinned = self._pinned or pin_workers(lambda: timer(*arrays), self._threads)
        return float(statistics.median(timer(*arrays).results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", "--seeds", type=int, default=6, help="initial candidates of each convolution")
    candidates = parser.parse_args().candidates
    threads = len(os.sched_getaffinity(0))
    os.environ["TVM_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(threads, Path(folder))
        built = [one for shape in SHAPES for one in builder.built(convolution(*shape), candidates)]
    for depth in DEPTHS:
        build_s, gflops = zip(*((one.build_s, one.gflops) for one in built if one.depth == depth), strict=True)
        print(
            f"unroll {depth:4}: build {statistics.mean(build_s):.2f} s, "
            f"geometric mean {statistics.geometric_mean(gflops):.0f} GFLOP/s, best {max(gflops):.0f}"
        )


if __name__ == "__main__":
    main()
