"""How much faster are products of bfloat16 and of bytes than this program's own float32 ones?

    python experiments/precision/products.py [--size 1024] [--trials 64] [--out results/DEVICE/precision_products.json]

A product with a constant right operand, on one thread, searched in each precision as `tuner run` searches it. The
winners are then timed interleaved; the intervals are those of the median of log ratios. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from experiments.common import cpu_target, give_result, run_script, write_json
from experiments.one_task import A_DAY_S, PACE, opened, searching
from kernels.tensors import TensorSpec, seeded_inputs
from kernels.workload import Workload
from tuner.devices.cpu.kernel_service import KernelLibrary, LoadedKernel
from tuner.devices.target import ResolvedTarget
from tuner.measure.stats import log_ratio_interval
from tuner.protocols import Task
from tuner.tuning.budget import Budget
from tuner.tuning.tune import tune_task

PRECISIONS: Mapping[str, tuple[str, str, str]] = {
    "float32": ("float32", "float32", "float32"),
    "bfloat16": ("bfloat16", "bfloat16", "float32"),
    "uint8": ("uint8", "int8", "int32"),
    "int8": ("int8", "int8", "int32"),
}
"""Of the left operand, the right one and the sums; the first is what the others are compared with."""

ROUND_S = 0.1
"""Seconds of calls of each winner in a round."""


@dataclass(frozen=True)
class Winner:
    """The fastest kernel of a search, on seeded inputs, and what the search said of it."""

    kernel: LoadedKernel
    candidate: str
    trials: int
    failed: Mapping[str, int]
    searched_s: float

    def seconds(self, calls: int) -> float:
        began = time.perf_counter()
        self.kernel.launch(calls)
        return (time.perf_counter() - began) / calls


def product(precision: str, size: int, target: ResolvedTarget) -> Workload:
    """[size, size] by a constant [size, size], as a model's graph makes it."""
    from tvm import relax

    from tuner.graph import GraphConfig, clean, lower

    left, right, result = PRECISIONS[precision]
    [weight] = seeded_inputs((TensorSpec((size, size), right),), 1)
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType((size, size), left))
    with builder.function("main", [x], attrs={"num_input": 1}):
        with builder.dataflow():
            made = relax.op.matmul(x, relax.const(weight, right), out_dtype=result)
            output = builder.emit_output(builder.emit(made))
        builder.emit_func_output(output)
    [task] = lower(clean(builder.finalize()), GraphConfig(), target.tvm()).tasks
    return task.workload


def searched(workload: Workload, target: ResolvedTarget, trials: int, folder: Path) -> Winner:
    """The winner of a search of its own. `folder` keeps its library."""
    task = Task(workload, target.text)
    with opened(target, folder) as device, searching(device, "guided", folder) as searcher:
        session = tune_task(task, searcher, Budget.starting_now(A_DAY_S, trials, searcher.ledger), PACE)
        best, best_s = session.best, session.best_s
        artifact = session.artifact_of(best) if best is not None else None
        if best is None or best_s is None or artifact is None:
            raise SystemExit(f"{workload.name}: nothing was right and fast: {dict(searcher.ledger.failed)}")
        kernel = KernelLibrary(str(artifact.path), artifact.entry, workload.outputs).prepare(
            seeded_inputs(workload.inputs, 0)
        )
        return Winner(kernel, best.to_text(), searcher.ledger.trials, dict(searcher.ledger.failed), best_s)


def compared(size: int, trials: int, rounds: int) -> dict[str, Any]:
    """Every precision searched, then all winners interleaved, in this process."""
    target = cpu_target(1)
    with tempfile.TemporaryDirectory() as folder:
        winners: dict[str, Winner] = {}
        for precision in PRECISIONS:
            own = Path(folder) / precision
            own.mkdir()
            winners[precision] = searched(product(precision, size, target), target, trials, own)
        times = interleaved(winners, rounds)
    return {
        "size": size, "cpu": target.device, "features": list(target.features),
        "kernels": {name: row(winner, times[name], times["float32"], size) for name, winner in winners.items()},
    }  # fmt: skip


def interleaved(winners: Mapping[str, Winner], rounds: int) -> dict[str, list[float]]:
    """Seconds of a call of each winner in every round, in another order each round."""
    calls = {name: max(1, round(ROUND_S / winner.seconds(3))) for name, winner in winners.items()}
    times: dict[str, list[float]] = {name: [] for name in winners}
    order = list(winners)
    for number in range(rounds):
        for name in order[:: -1 if number % 2 else 1]:
            times[name].append(winners[name].seconds(calls[name]))
    return times


def row(winner: Winner, times: Sequence[float], others: Sequence[float], size: int) -> dict[str, Any]:
    """What a precision came to: its median, and how many times as fast as float32 it is, with the interval."""
    ratios = np.log(np.asarray(others) / np.asarray(times))
    return {
        "median_s": statistics.median(times),
        "gops": 2 * size**3 / statistics.median(times) / 1e9,
        "times_float32": math.exp(float(np.median(ratios))),
        "interval": [math.exp(end) for end in log_ratio_interval(ratios)],
        "candidate": winner.candidate,
        "trials": winner.trials,
        "failed": dict(winner.failed),
        "searched_s": winner.searched_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--trials", type=int, default=64, help="of each precision's search")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        give_result({**compared(args.size, args.trials, args.rounds), "load": list(os.getloadavg())})
        return
    options = ["--child", *(f"--{name}={getattr(args, name)}" for name in ("size", "trials", "rounds"))]
    found = run_script(__file__, options, {"TVM_NUM_THREADS": "1"})
    for name, kernel in found["kernels"].items():
        low, high = kernel["interval"]
        print(f"{name}: {kernel['gops']:.0f} GOP/s, {kernel['times_float32']:.2f} x float32 [{low:.2f}, {high:.2f}]")
    if args.out:
        write_json(args.out, found)
    else:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
