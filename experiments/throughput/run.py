"""Trials a second: this project's search against TVM MetaSchedule's `tune_tir`, same task, machine and threads.

    python experiments/throughput/run.py [--trials 64] [--rounds 2] [--out results/...json]

Each search runs in a fresh process, the two interleaved. Imports are not counted. MetaSchedule's slow import of tensor
intrinsics is repaired in its workers (`kernels.metaschedule`): without that it records nothing on a small machine.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments import metaschedule
from experiments.common import cpu_target, give_result, run_script, write_json
from experiments.one_task import A_DAY_S, PACE, opened, searching
from experiments.throughput.workloads import WORKLOADS
from kernels.metaschedule import meta_schedule
from kernels.passes import PASSES
from kernels.workload import Workload
from tuner.devices.target import ResolvedTarget
from tuner.protocols import Task
from tuner.tuning.budget import Budget
from tuner.tuning.tune import tune_task

Row = dict[str, Any]
"""What one search came to, as the file has it."""


def guided(workload: Workload, target: ResolvedTarget, trials: int, folder: Path) -> Row:
    """The search of `tuner run` on one task, checks and records included."""
    task = Task(workload, target.text)
    with opened(target, folder) as device:
        device.lower_bound_s(task)  # measures the machine's ceilings where they are not known
        device.builder.space(task, tuple(PASSES))  # starts the workers: MetaSchedule's imports are not counted either
        with searching(device, "guided", folder) as searcher:
            began = time.monotonic()
            session = tune_task(task, searcher, Budget.starting_now(A_DAY_S, trials, searcher.ledger), PACE)
            seconds = time.monotonic() - began
    ledger = searcher.ledger
    return {"seconds": seconds, "trials": ledger.trials, "best_s": session.best_s, "failed": dict(ledger.failed)}


def by_metaschedule(workload: Workload, target: ResolvedTarget, trials: int, folder: Path) -> Row:
    """TVM's own tuner."""
    builder = metaschedule.builder()
    began = time.monotonic()
    database = metaschedule.tune(workload, target, trials, folder, builder)
    seconds = time.monotonic() - began
    measured = [metaschedule.median_s(record.run_secs) for record in database.get_all_tuning_records()]
    times = [trial_s for trial_s in measured if not math.isnan(trial_s)]
    return {"seconds": seconds, "trials": trials, "recorded": len(times), "best_s": min(times, default=None)}


SEARCHERS: Mapping[str, Callable[[Workload, ResolvedTarget, int, Path], Row]] = {
    "guided": guided,
    "metaschedule": by_metaschedule,
}


def search(searcher: str, name: str, trials: int, threads: int) -> Row:
    meta_schedule()  # imported by either: what it takes is not counted
    workload = WORKLOADS[name]()
    with tempfile.TemporaryDirectory() as folder:
        row = SEARCHERS[searcher](workload, cpu_target(threads), trials, Path(folder))
    row["trials_per_s"] = row["trials"] / row["seconds"]
    row["gflops"] = workload.flops / row["best_s"] / 1e9 if row["best_s"] else None
    return row


def search_all(tasks: Sequence[str], rounds: int, trials: int, threads: int) -> list[Row]:
    """Every searcher on every task, in the other order each round, each in a fresh process."""
    rows: list[Row] = []
    for round_number in range(rounds):
        for task in tasks:
            for searcher in sorted(SEARCHERS, reverse=bool(round_number % 2)):
                options = ["--tasks", task, "--trials", str(trials), "--threads", str(threads)]
                result = run_script(__file__, ["--one", searcher, *options])
                rows.append({"round": round_number, "task": task, "searcher": searcher, **result})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def summary(task: str, rows: Sequence[Row]) -> str:
    rates = {
        searcher: statistics.median(
            row["trials_per_s"] for row in rows if row["task"] == task and row["searcher"] == searcher
        )
        for searcher in SEARCHERS
    }
    own, other = rates["guided"], rates["metaschedule"]
    return f"{task}: guided {own:.2f} trials/s, MetaSchedule {other:.2f} trials/s, ratio {own / other:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tasks", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=SEARCHERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        give_result(search(args.one, args.tasks[0], args.trials, args.threads))
        return
    rows = search_all(args.tasks, args.rounds, args.trials, args.threads)
    for task in args.tasks:
        print(summary(task, rows))
    if args.out:
        write_json(args.out, rows)


if __name__ == "__main__":
    main()
