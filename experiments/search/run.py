"""The best kernel for equal trials and equal seconds: guided, random, TPE, MetaSchedule and PyTorch, task by task.

    python experiments/search/run.py --task matmul_1024 --trials 64 --out results/<machine>/search.json
    python experiments/search/run.py --report --out results/<machine>/search.json

Each search runs in a fresh process, in random order. What each would ship at a checkpoint (32, 64, 128, 256 trials;
60, 180, 600 s) goes into one contest per task, round by round in random order with PyTorch, each in its own process
on fresh inputs, checked against the reference first. Results add up in the file: run it in slices.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments.search.hosts import SEED  # noqa: E402
from experiments.search.sides import SIDES  # noqa: E402
from experiments.search.tasks import TASKS, flops, torch_forms, workload  # noqa: E402

BASE = "guided"
ENDLESS = 4096
"""Trials that no search here comes to the end of."""
A_DAY_S = 86_400.0


def search_one(args: argparse.Namespace) -> None:
    from tuner.config import TargetConfig
    from tuner.devices.resolve import resolve

    target = resolve(TargetConfig(threads=args.threads)).text
    seconds = args.seconds or A_DAY_S
    found = SIDES[args.one](args.task[0], target, args.threads, args.trials, seconds, Path(args.folder))
    Path(args.folder, "found.json").write_text(json.dumps(found))


def search_all(task: str, args: argparse.Namespace, folder: Path) -> dict[str, dict]:
    """Every side's search, in random order, each in a process of its own."""
    sides = list(args.sides)
    random.shuffle(sides)
    found = {}
    for side in sides:
        own = folder / side.replace(", ", "-").replace(" ", "-")
        own.mkdir(parents=True)
        trials, seconds = args.trials, args.seconds
        if side.startswith("metaschedule") and args.rival_seconds:
            trials, seconds = max(trials, ENDLESS), args.rival_seconds
        command = [sys.executable, __file__, "--one", side, "--task", task, "--trials", str(trials)]
        command += ["--threads", str(args.threads), "--folder", str(own)]
        command += ["--seconds", str(seconds)] if seconds else []
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        if not (own / "found.json").exists():
            print(f"{task}: {side} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            continue
        found[side] = json.loads((own / "found.json").read_text())
        best = found[side]["curve"][-1][2] if found[side]["curve"] else math.nan
        print(
            f"{task}: {side}: {found[side]['trials']} trials, {found[side]['seconds']:.0f} s, best {1e3 * best:.4g} ms",
            flush=True,
        )
    return found


def final(task: str, found: dict[str, dict], args: argparse.Namespace, folder: Path) -> dict:
    """Certified seconds of everything that a side would ship, and of PyTorch's forms, from one contest."""
    from tuner.measure.comparison import BenchmarkEntry, compare_interleaved
    from tuner.process.pinning import thread_env
    from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout

    env = thread_env(args.threads)
    ships: dict[str, tuple[str, str]] = {}
    for side, result in found.items():
        for checkpoint, kernel in result["finals"].items():
            ships[f"{side} @ {checkpoint}"] = (kernel["path"], kernel["entry"])
    wrong, contenders, names = {}, [], {}
    for kernel in dict.fromkeys(ships.values()):
        name = next(n for n, k in ships.items() if k == kernel)
        settings = {"task": task, "path": kernel[0], "entry": kernel[1], "threads": args.threads}
        child = Child("experiments.search.hosts:KernelBaselineWorker", settings, env=env)
        try:
            reason = _judge(task, child, folder)
        except (ChildDied, ChildError, ChildTimeout) as error:
            reason = str(error)
        if reason:
            wrong[name] = reason
            child.close()
            continue
        names[kernel] = name
        contenders.append(BenchmarkEntry(name, child))
    if not args.no_torch:
        for form in torch_forms(task):
            child = Child(
                "experiments.search.hosts:TorchHost", {"task": task, "form": form, "threads": args.threads}, env=env
            )
            contenders.append(BenchmarkEntry(f"torch: {form}", child))
    result = compare_interleaved(contenders, time_budget_s=1.5 * len(contenders), block_s=0.02, seed=0)
    for contender in contenders:
        contender.child.close()
    medians = {name: statistics.median(times) for name, times in result.seconds.items() if times}
    certified = {ship: medians.get(names.get(kernel, "")) for ship, kernel in ships.items()}
    certified |= {name: medians[name] for name in medians if name.startswith("torch")}
    return {"seconds": certified, "noise_floor": result.noise_floor, "wrong": wrong, "dropped": result.dropped}


def _judge(task: str, child, folder: Path) -> str:
    """What is wrong with a kernel's answer; empty when it is right."""
    from kernels.reference import Expectation, evaluate, reduction_length, working_dtype
    from kernels.workload import seeded_inputs

    made = workload(task)
    function = made.module()["main"]
    path = folder / f"{task}-reference.npz"
    if not path.exists():
        outputs = evaluate(function, seeded_inputs(made.inputs, SEED), made.num_outputs)
        with open(path, "wb") as file:
            np.savez(file, *outputs)
    child.call("outputs", 60.0, path=str(folder / "answer.npz"))
    with np.load(path) as wanted, np.load(folder / "answer.npz") as answer:
        for name in wanted.files:
            expectation = Expectation(wanted[name], working_dtype(function), reduction_length(function))
            ok, _, _, reason = expectation.check(answer[name])
            if not ok:
                return str(reason)
    return ""


def report(results: dict) -> None:
    """One line a task and side, then geometric means of what each rival takes over what guided takes."""
    ratios: dict[str, list[float]] = {}
    throughput: list[float] = []
    peak = results.get("peak_flops_per_s")
    for task, entry in results["tasks"].items():
        times = {k: v for k, v in entry["final"]["seconds"].items() if v}
        torch = min((v for k, v in times.items() if k.startswith("torch")), default=None)
        rate = flops(task)
        print(f"{task} ({entry['threads']} threads)")
        for name, seconds in sorted(times.items(), key=lambda item: item[1]):
            share = f"  {100 * rate / seconds / peak:5.1f} % of peak" if rate and peak else ""
            print(f"    {1e3 * seconds:9.4f} ms{share}  {name}")
        for name, seconds in times.items():
            side, _, checkpoint = name.partition(" @ ")
            mine = times.get(f"{BASE} @ {checkpoint}")
            if mine and side.startswith("metaschedule"):
                ratios.setdefault(f"metaschedule (better builder) @ {checkpoint}\0{task}", []).append(seconds / mine)
            elif mine and checkpoint and side != BASE:
                ratios.setdefault(f"{name}\0{task}", []).append(seconds / mine)
            if torch and side == BASE:
                ratios.setdefault(f"torch, best form, against guided @ {checkpoint}\0{task}", []).append(
                    torch / seconds
                )
        rates = {side: found["trials"] / found["seconds"] for side, found in entry["sides"].items()}
        print("    trials a second: " + ", ".join(f"{side} {rate:.2f}" for side, rate in sorted(rates.items())))
        if BASE in rates and (others := [rate for side, rate in rates.items() if side.startswith("metaschedule")]):
            throughput.append(rates[BASE] / max(others))
    means: dict[str, list[float]] = {}
    for key, values in ratios.items():
        means.setdefault(key.partition("\0")[0], []).append(min(values))
    print("\nhow many times longer than guided (geometric mean, least, tasks):")
    for name, values in sorted(means.items()):
        print(f"    {statistics.geometric_mean(values):6.3f}  {min(values):6.3f}  {len(values):3}  {name}")
    if throughput:
        print(
            f"trials a second, guided's over MetaSchedule's (quicker builder): geometric mean "
            f"{statistics.geometric_mean(throughput):.1f}, least {min(throughput):.1f}, {len(throughput)} tasks"
        )


def draw(results: dict, path: Path) -> None:
    """Best so far against seconds, a panel for each task; PyTorch's best form as a line across."""
    import matplotlib.pyplot as plt

    tasks = results["tasks"]
    columns = min(4, len(tasks))
    lines = -(-len(tasks) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(3.6 * columns, 2.8 * lines), layout="constrained", squeeze=False
    )
    for panel in panels.flat[len(tasks) :]:
        panel.set_axis_off()
    for panel, (task, entry) in zip(panels.flat, tasks.items(), strict=False):
        certified = entry["final"]["seconds"]
        rival = min((s for name, s in certified.items() if name.startswith("torch") and s), default=None)
        end = max(found["seconds"] for found in entry["sides"].values())
        for side, found in sorted(entry["sides"].items()):
            curve = [(second, best) for _, second, best in found["curve"]]
            curve.append((found["seconds"], curve[-1][1]))
            panel.step(
                *zip(*((x, 1e3 * y) for x, y in curve), strict=True),
                where="post",
                label=side,
                color=f"C{list(SIDES).index(side)}",
            )
        if rival is not None:
            panel.axhline(1e3 * rival, color="0.5", linestyle=":", label="PyTorch")
        lowest = min([found["curve"][-1][2] for found in entry["sides"].values()] + ([rival] if rival else []))
        panel.set(title=task, xlim=(0, end), ylim=(0.8e3 * lowest, 4e3 * lowest))
    named = {
        label: line for panel in panels.flat for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower right", ncols=len(named))
    figure.supxlabel("seconds of search")
    figure.supylabel("best so far, screened, ms")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--seconds", type=float, help="stop each search after so long")
    parser.add_argument("--rival-seconds", type=float, help="MetaSchedule may search this long, whatever its trials")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "search.json")
    parser.add_argument("--report", action="store_true", help="only print what the file holds")
    parser.add_argument("--picture", type=Path, help="and draw the curves it holds")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        search_one(args)
        return
    results = json.loads(args.out.read_text()) if args.out.exists() else {"tasks": {}}
    if not args.report:
        from tuner.process.pinning import thread_env
        from tuner.process.worker import Child

        ceilings = Child(
            "tuner.devices.cpu.ceilings:Ceilings", {"threads": args.threads}, env=thread_env(args.threads)
        ).call("measure", 60.0)
        results["peak_flops_per_s"] = max(ceilings["peak_flops_per_s"], results.get("peak_flops_per_s", 0.0))
        for task in args.task:
            with tempfile.TemporaryDirectory() as folder:
                found = search_all(task, args, Path(folder))
                decided = final(task, found, args, Path(folder))
            for side in found.values():
                for kernel in side["finals"].values():
                    del kernel["path"]
            results["tasks"][task] = {
                "threads": args.threads,
                "trials": args.trials,
                "limit_s": args.seconds,
                "rival_limit_s": args.rival_seconds or args.seconds,
                "sides": found,
                "final": decided,
            }
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(results, indent=1) + "\n")
    report(results)
    if args.picture:
        draw(results, args.picture)


if __name__ == "__main__":
    main()
