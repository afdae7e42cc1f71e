"""Does the foretold code size tell which candidates are slow to build? Random legal candidates, built one by one.

    python experiments/codesize/run.py [--tasks matmul_1024 conv_3x3] [--draws 16]

Build seconds are CPU seconds of one process, so that a busy machine changes them little.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["matmul_1024", "conv_3x3", "conv_7x7", "softmax"])
    parser.add_argument("--draws", type=int, default=16)
    args = parser.parse_args()
    import tvm
    from tvm.target import Target

    from experiments.search.tasks import workload
    from kernels.codesize import code_size
    from kernels.space import InvalidCandidate, Replayer, generate
    from tuner.config import TargetConfig
    from tuner.targets import resolve

    text = resolve(TargetConfig()).text
    target, made = Target(json.loads(text)), Path(tempfile.mkdtemp(), "kernel.o")
    rows = []
    for name in args.tasks:
        task = workload(name)
        space = generate(task, target)
        replayer = Replayer(task, space, target)
        rng = np.random.default_rng(0)
        refused = 0
        for _ in range(args.draws):
            candidate = space.sample(rng)
            try:
                schedule = replayer.apply(candidate)
            except InvalidCandidate:
                refused += 1
                continue
            began = time.perf_counter()
            size = code_size(schedule.mod["main"], space.vector_lanes)
            told = time.perf_counter() - began
            start = time.process_time()
            with tvm.transform.PassContext(opt_level=3, config=candidate.passes.context_options()):
                library = tvm.compile(schedule.mod, target=Target(candidate.passes.target_options(json.loads(text))))
                library.mod.write_to_file(str(made))
            rows.append((size, made.stat().st_size, time.process_time() - start, told))
            print(
                f"{name:14} foretold {size:6.0f}  object {rows[-1][1]:7} bytes  build {rows[-1][2]:5.2f} s  "
                f"{1e3 * told:4.1f} ms  {candidate.to_text()}",
                flush=True,
            )
        print(f"{name}: {refused} of {args.draws} refused")
    size, bytes_, seconds, told = np.array(rows).T
    by_size, by_seconds = (np.corrcoef(ranks(size), ranks(other))[0, 1] for other in (bytes_, seconds))
    print(
        f"{len(rows)} candidates: rank correlation with the object's size {by_size:.2f}, with build s {by_seconds:.2f}"
    )
    print(f"foretelling takes {1e3 * np.median(told):.1f} ms (median)")
    for half, chosen in (("smaller", size <= np.median(size)), ("larger", size > np.median(size))):
        print(f"{half} half: {seconds[chosen].mean():.2f} s to build on average, {seconds[chosen].max():.2f} at most")


if __name__ == "__main__":
    main()
