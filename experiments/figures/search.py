"""Of the search: how soon it finds what is fast, and how many trials a second it makes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.figures.words import MISSING, Figures, duration, percent, table
from experiments.search.results import certified, searchers, torch_s, trials_per_s
from experiments.search.tasks import TASKS, flops

CHECKPOINTS = ("64 trials", "60 s")
OTHERS = {"metaschedule": "MetaSchedule", "torch": "PyTorch"}


def throughput(path: Path) -> Figures:
    """Of experiments/throughput: trials a second of this program's search and of MetaSchedule's.

    Earlier files have the searcher under `side`, and call this program's search `ours`.
    """
    runs: dict[str, dict[bool, list[dict[str, Any]]]] = {}
    for row in json.loads(path.read_text("utf-8")):
        searcher = row["searcher" if "searcher" in row else "side"]
        runs.setdefault(row["task"], {True: [], False: []})[searcher != "metaschedule"].append(row)
    lines = [_rates(task, own_and_other[True], own_and_other[False]) for task, own_and_other in runs.items()]
    heads = ("task", "trials/s", "MetaSchedule", "ratio", "best kernels, GFLOP/s", "MetaSchedule's")
    sentences = [f"{task} {own} trials/s against {other}, {ratio} times" for task, own, other, ratio, *_ in lines]
    return {
        **{f"{line[0]} ratio": line[3] for line in lines},
        "table": table(heads, lines),
        "finding": "; ".join(sentences),
    }


def _rates(task: str, own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Median trials a second of both, their ratio, and the speed of the best kernel of each round."""
    medians = [statistics.median(run["trials_per_s"] for run in runs) for runs in (own, other)]
    speeds = [", ".join(f"{run['gflops']:.0f}" for run in runs) for runs in (own, other)]
    return (task, *(f"{rate:.2f}" for rate in medians), f"{medians[0] / medians[1]:.1f}", *speeds)


def search(path: Path) -> Figures:
    """Of experiments/search: kernels that `guided` and others would ship after equal trials and equal seconds."""
    results = json.loads(path.read_text("utf-8"))
    tasks = {task: results["tasks"][task] for task in TASKS if task in results["tasks"]}
    figures = {"tasks": str(len(tasks)), "peak": f"{results['peak_flops_per_s'] / 1e9:.0f} GFLOP/s"}
    for task, entry in tasks.items():
        figures |= {f"{task} {name}": duration(seconds) for name, seconds in certified(entry).items()}
        figures |= {f"{task} {searcher} trials": str(run["trials"]) for searcher, run in searchers(entry).items()}
    for checkpoint in CHECKPOINTS:
        for other in OTHERS:
            ratios = {task: _times_as_long(entry, other, checkpoint) for task, entry in tasks.items()}
            figures |= _spread(f"{other} @ {checkpoint}", ratios)
    figures |= _spread("trials a second", {task: _times_the_trials(entry) for task, entry in tasks.items()}, digits=1)
    return {**figures, "finding": _search_finding(figures), "table": _search_table(tasks, results["peak_flops_per_s"])}


def _times_as_long(entry: Mapping[str, Any], other: str, checkpoint: str) -> float | None:
    """How many times longer than guided's kernel the other's takes; of PyTorch the best form at any time."""
    seconds = certified(entry)
    own_s = seconds.get(f"guided @ {checkpoint}")
    other_s = torch_s(entry) if other == "torch" else seconds.get(f"{other} @ {checkpoint}")
    return other_s / own_s if own_s and other_s else None


def _times_the_trials(entry: Mapping[str, Any]) -> float | None:
    rates = trials_per_s(entry)
    return rates["guided"] / rates["metaschedule"] if {"guided", "metaschedule"} <= rates.keys() else None


def _spread(name: str, ratios: Mapping[str, float | None], digits: int = 2) -> Figures:
    """Geometric mean and least of a ratio over the tasks that have it; nothing where none has."""
    known = {task: ratio for task, ratio in ratios.items() if ratio is not None}
    if not known:
        return {}
    worst = min(known, key=lambda task: known[task])
    return {
        f"{name} mean": f"{statistics.geometric_mean(known.values()):.{digits}f}",
        f"{name} least": f"{known[worst]:.{digits}f}",
        f"{name} least task": worst,
        f"{name} tasks": str(len(known)),
    }


def _search_finding(figures: Figures) -> str:
    means = {(c, o): figures.get(f"{o} @ {c} mean") for c in CHECKPOINTS for o in OTHERS}
    sentences = [
        f"{mean} times {OTHERS[other]}'s speed after {checkpoint} (tasks: {figures[f'{other} @ {checkpoint} tasks']})"
        for (checkpoint, other), mean in means.items()
        if mean
    ]
    if "trials a second mean" in figures:
        sentences.append(f"{figures['trials a second mean']} times MetaSchedule's trials a second")
    return "; ".join(sentences)


def _search_table(tasks: Mapping[str, Any], peak: float) -> str:
    """A line a task; a column only where some task has something to say in it."""
    columns: dict[str, list[str]] = {"task": list(tasks)}
    for checkpoint in CHECKPOINTS:
        own = {task: certified(entry).get(f"guided @ {checkpoint}") for task, entry in tasks.items()}
        columns[f"guided, {checkpoint}"] = [duration(seconds) if seconds else MISSING for seconds in own.values()]
        columns[f"of peak, {checkpoint}"] = [
            percent(flops(task) / seconds / peak) if seconds and TASKS[task].bound == "arithmetic" else MISSING
            for task, seconds in own.items()
        ]
        for other, name in OTHERS.items():
            ratios = [_times_as_long(entry, other, checkpoint) for entry in tasks.values()]
            columns[f"{name}, {checkpoint}"] = [f"{ratio:.2f}" if ratio else MISSING for ratio in ratios]
    for strategy in ("guided", "metaschedule"):
        known = [trials_per_s(entry).get(strategy) for entry in tasks.values()]
        rates = [f"{rate:.1f}" if rate else MISSING for rate in known]
        columns[f"trials/s, {OTHERS.get(strategy, strategy)}"] = rates
    shown = {name: cells for name, cells in columns.items() if set(cells) != {MISSING}}
    return table(list(shown), list(zip(*shown.values(), strict=True)))
