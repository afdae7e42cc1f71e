"""Are CUDA candidates right? The long form of tests/kernels/test_cuda_numerics.py: more candidates, any seed.

python experiments/cuda_numerics/run.py [-n CANDIDATES_A_WORKLOAD] [--seed SEED]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.space import TraceApplier, generate
from tests.kernels.gpu_workloads import PROGRAMS, gpu, workload
from tests.kernels.test_cuda_numerics import candidates, wrong_ones


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    checked = wrong = 0
    for name in PROGRAMS:
        task = workload(name)
        space = generate(task, gpu(), tf32=name.startswith("matmul"))
        programs = candidates(space, TraceApplier(task, space, gpu()), asked.n, asked.seed)
        reasons = wrong_ones(task, {key: program for key, (_, program) in programs.items()})
        checked, wrong = checked + len(programs), wrong + len(reasons)
        print(f"{name}: {len(programs)} candidates of {len(space.sketches)} sketches, {len(reasons)} wrong", flush=True)
        for key, reason in reasons.items():
            print(f"  {programs[key][0].to_text()}: {reason}")
    print(f"{checked} candidates, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
