"""Trials a second: this project's search against TVM MetaSchedule's `tune_tir`, same task, machine and threads.

    python experiments/throughput/run.py [--trials 64] [--rounds 2] [--out results/...json]

Each side runs in a fresh process, the two in turn. Imports are not counted. MetaSchedule gets its slow import of
tensor intrinsics repaired in its workers (`kernels.metaschedule`), without which it records nothing on a small machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def conv_workload():
    """The 3x3 convolution of ResNet-50's first stage, NCHW, with ReLU."""
    from tvm import te, topi

    from kernels.workload import from_prim_func

    data, weight = te.placeholder((1, 64, 56, 56), name="data"), te.placeholder((64, 64, 3, 3), name="weight")
    out = topi.nn.relu(topi.nn.conv2d_nchw(data, weight, 1, 1, 1))
    return from_prim_func(te.create_prim_func([data, weight, out]), "conv2d_3x3_relu")


def matmul_workload():
    """A 1024 x 1024 x 1024 fp32 product."""
    from tvm import te

    from kernels.workload import from_prim_func

    a, b = te.placeholder((1024, 1024), name="a"), te.placeholder((1024, 1024), name="b")
    k = te.reduce_axis((0, 1024), "k")
    out = te.compute((1024, 1024), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return from_prim_func(te.create_prim_func([a, b, out]), "matmul_1024")


WORKLOADS = {"conv": conv_workload, "matmul": matmul_workload}


def ours(workload, target: dict, threads: int, trials: int) -> dict:
    """The search of `tuner run` on one task, checks and records included."""
    from costmodel.xgb import XgbRanker
    from kernels.features import SCHEMA
    from kernels.passes import PASSES
    from tuner import search
    from tuner.devices.builder import LocalBuilder
    from tuner.devices.cpu.bench import KernelBench
    from tuner.process.pinning import thread_env
    from tuner.protocols import Task
    from tuner.search.ranker import FeatureCache, Ranker
    from tuner.store import SqlStore
    from tuner.tuning.session import Ledger, TaskSession

    class Features:
        def vectors(self, candidates):
            return builder.features(task, candidates)

    task = Task(workload, json.dumps(target))
    with tempfile.TemporaryDirectory() as folder:
        builder = LocalBuilder(task.target, Path(folder, "built"), len(os.sched_getaffinity(0)), 30.0)
        bench = KernelBench("hot", threads, thread_env(threads), 20.0)
        builder.space(task, tuple(PASSES))  # starts the warm process: MetaSchedule's imports are not counted either
        with SqlStore(f"sqlite:///{folder}/records.db") as store:
            began = time.monotonic()
            space = builder.space(task, [p for p in PASSES if p != "fast_math"])
            features = FeatureCache(Features())
            ranker = Ranker(XgbRanker(SCHEMA, seed=0))
            ledger = Ledger(store, "throughput", "none", 0)
            strategy = search.create("guided", search.Problem(space, features, ranker.task(task.key), 0, task))
            session = TaskSession(task, space, strategy, features, builder, bench, ledger, Path(folder), {})
            while ledger.trials < trials:
                session.step(min(16, trials - ledger.trials), lambda: False)
            seconds = time.monotonic() - began
            best = session.best_s
        builder.close()
        bench.close()
    return {"seconds": seconds, "trials": ledger.trials, "best_s": best, "failed": dict(ledger.failed)}


def repaired_import() -> None:
    """What each MetaSchedule build worker runs first."""
    sys.path.insert(0, str(ROOT))
    from kernels.metaschedule import meta_schedule

    meta_schedule()


def metaschedule(workload, target: dict, threads: int, trials: int) -> dict:
    """TVM's own tuner with its defaults, on as many build workers as there are cores."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    from tvm.target import Target

    from kernels.metaschedule import meta_schedule

    ms = meta_schedule()
    with tempfile.TemporaryDirectory() as folder:
        builder = ms.builder.LocalBuilder(
            max_workers=len(os.sched_getaffinity(0)), timeout_sec=90, initializer=repaired_import
        )
        began = time.monotonic()
        database = ms.tir_integration.tune_tir(
            mod=workload.module(), target=Target(target), work_dir=folder, max_trials_global=trials,
            num_trials_per_iter=min(64, trials), builder=builder, seed=0,
        )  # fmt: skip
        seconds = time.monotonic() - began
        times = [
            float(statistics.median(float(s) for s in r.run_secs))
            for r in database.get_all_tuning_records()
            if r.run_secs and max(float(s) for s in r.run_secs) < 1e9
        ]
    return {"seconds": seconds, "trials": trials, "recorded": len(times), "best_s": min(times, default=None)}


SIDES = {"ours": ours, "metaschedule": metaschedule}


def one(side: str, name: str, trials: int, threads: int) -> dict:
    from kernels.metaschedule import meta_schedule
    from tuner.config import TargetConfig
    from tuner.devices.resolve import resolve

    meta_schedule()
    target = json.loads(resolve(TargetConfig(threads=threads)).text)
    workload = WORKLOADS[name]()
    result = SIDES[side](workload, target, threads, trials)
    result["trials_per_s"] = result["trials"] / result["seconds"]
    result["gflops"] = workload.flops / result["best_s"] / 1e9 if result["best_s"] else None
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tasks", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print("RESULT " + json.dumps(one(args.one, args.tasks[0], args.trials, args.threads)))
        return
    found: list[dict] = []
    for round_number in range(args.rounds):
        for task in args.tasks:
            for side in sorted(SIDES, reverse=bool(round_number % 2)):
                command = [sys.executable, __file__, "--one", side, "--tasks", task, "--trials", str(args.trials)]
                command += ["--threads", str(args.threads)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                [line] = [text for text in done.stdout.splitlines() if text.startswith("RESULT ")]
                found.append({"round": round_number, "task": task, "side": side, **json.loads(line[7:])})
                print(json.dumps(found[-1]), flush=True)
    for task in args.tasks:
        rate = {
            s: statistics.median(f["trials_per_s"] for f in found if f["task"] == task and f["side"] == s)
            for s in SIDES
        }
        print(
            f"{task}: ours {rate['ours']:.2f} trials/s, MetaSchedule {rate['metaschedule']:.2f} trials/s, "
            f"ratio {rate['ours'] / rate['metaschedule']:.1f}"
        )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
