"""The best kernel for equal trials and equal seconds: guided, random, TPE, MetaSchedule and PyTorch, task by task.

    python experiments/search/run.py --task matmul_1024 --trials 64 --out results/<machine>/search.json
    python experiments/search/run.py --report --out results/<machine>/search.json

Each search runs in a fresh process, in random order. What each would ship at a checkpoint (32, 64, 128, 256 trials;
60, 180, 600 s) takes part in one interleaved comparison per task, with PyTorch: each kernel in a process of its own, on
fresh inputs, its outputs checked against the reference first. Results add up in the file: run it in slices.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT, ScriptFailed, cpu_target, give_result, run_script, write_json
from experiments.one_task import A_DAY_S, RUNS, silent
from experiments.search.finals import Library, certify
from experiments.search.results import METASCHEDULE, report
from experiments.search.searchers import FORMER_NAMES, SEARCHERS, Limits
from experiments.search.tasks import TASKS

ENDLESS = 4096
"""Trials that no search here comes to the end of."""


def search_one(args: argparse.Namespace) -> None:
    limits = Limits(args.trials, args.seconds or A_DAY_S, Path(args.folder))
    give_result(SEARCHERS[args.one](args.task[0], cpu_target(args.threads), limits).to_json())


def search_all(task: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every searcher's result, in random order, each from a process of its own."""
    searches: dict[str, Any] = {}
    for searcher in random.sample(args.searchers, len(args.searchers)):
        try:
            searches[searcher] = run_script(__file__, _arguments(searcher, task, args, folder))
        except ScriptFailed as error:
            print(f"{task}: {searcher} failed: {str(error).splitlines()[-1:]}", flush=True)
            continue
        print(_line(task, searcher, searches[searcher]), flush=True)
    return searches


def _arguments(searcher: str, task: str, args: argparse.Namespace, folder: Path) -> list[str]:
    own = folder / searcher.replace(", ", "-").replace(" ", "-")
    own.mkdir(parents=True)
    trials, seconds = args.trials, args.seconds
    if searcher.startswith(METASCHEDULE) and args.metaschedule_seconds:
        trials, seconds = max(trials, ENDLESS), args.metaschedule_seconds
    arguments = ["--one", searcher, "--task", task, "--trials", str(trials), "--threads", str(args.threads)]
    return [*arguments, "--folder", str(own), *(["--seconds", str(seconds)] if seconds else [])]


def _line(task: str, searcher: str, search: dict[str, Any]) -> str:
    best = f"best {1e3 * search['curve'][-1][2]:.4g} ms" if search["curve"] else "nothing that runs"
    return f"{task}: {searcher}: {search['trials']} trials, {search['seconds']:.0f} s, {best}"


def measure_task(task: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What the file holds of one task."""
    searches = search_all(task, args, folder)
    finals = {
        f"{searcher} @ {checkpoint}": Library(kernel["path"], kernel["entry"])
        for searcher, search in searches.items()
        for checkpoint, kernel in search["finals"].items()
    }
    final = certify(task, finals, args.threads, not args.no_torch, folder)
    for search in searches.values():
        for kernel in search["finals"].values():
            del kernel["path"]
    return {
        "threads": args.threads,
        "trials": args.trials,
        "limit_s": args.seconds,
        "metaschedule_limit_s": args.metaschedule_seconds or args.seconds,
        "searchers": searches,
        "final": final,
    }


def measure(results: dict[str, Any], args: argparse.Namespace) -> None:
    """Add the tasks that are asked for to the results, and store them after each."""
    from tuner.devices.cpu.machine import ceilings

    peak = ceilings(RUNS, args.threads, silent(), again=True)["peak_flops_per_s"]
    results["peak_flops_per_s"] = max(peak, results.get("peak_flops_per_s", 0.0))
    for task in args.task:
        with tempfile.TemporaryDirectory() as folder:
            results["tasks"][task] = measure_task(task, args, Path(folder))
        write_json(args.out, results)


def searcher_name(name: str) -> str:
    """A searcher by the name it has, or had."""
    current = FORMER_NAMES.get(name, name)
    if current not in SEARCHERS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SEARCHERS)}")
    return current


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--searchers", "--sides", nargs="+", type=searcher_name, default=list(SEARCHERS),
                        metavar="NAME", help=f"of {', '.join(SEARCHERS)}")  # fmt: skip
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--seconds", type=float, help="stop each search after so long")
    parser.add_argument("--metaschedule-seconds", "--rival-seconds", type=float,
                        help="MetaSchedule may search this long, whatever its trials")  # fmt: skip
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "search.json")
    parser.add_argument("--report", action="store_true", help="only print what the file holds")
    parser.add_argument("--picture", type=Path, help="and draw the curves it holds")
    parser.add_argument("--one", type=searcher_name, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.one:
        search_one(args)
        return
    results = json.loads(args.out.read_text()) if args.out.exists() else {"tasks": {}}
    if not args.report:
        measure(results, args)
    for line in report(results):
        print(line)
    if args.picture:
        from experiments.search.picture import draw

        draw(results, args.picture)


if __name__ == "__main__":
    main()
