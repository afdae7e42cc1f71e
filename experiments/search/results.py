"""A file of results read, those of earlier versions included: who searched, what was certified, and by how much."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.search.tasks import flops

BASE = "guided"
"""The searcher that the others are compared with."""

METASCHEDULE = "metaschedule"

TaskResults = Mapping[str, Any]
"""What the file holds of one task."""


def searchers(task_results: TaskResults) -> Mapping[str, Any]:
    """The searches of a task by searcher. Earlier files have them under `sides`."""
    searches: Mapping[str, Any] = task_results["searchers" if "searchers" in task_results else "sides"]
    return searches


def certified(task_results: TaskResults) -> dict[str, float]:
    """Seconds by `searcher @ checkpoint` and by `torch: form`, as far as they were measured."""
    return {name: float(seconds) for name, seconds in task_results["final"]["seconds"].items() if seconds}


def torch_s(task_results: TaskResults) -> float | None:
    """Seconds of PyTorch's fastest form."""
    return min((s for name, s in certified(task_results).items() if name.startswith("torch")), default=None)


def trials_per_s(task_results: TaskResults) -> dict[str, float]:
    """By searcher."""
    return {name: search["trials"] / search["seconds"] for name, search in searchers(task_results).items()}


def ratios(task_results: TaskResults) -> dict[str, float]:
    """How many times longer than guided's kernel the others' take, by `searcher @ checkpoint`. MetaSchedule has the
    faster of its two kernels."""
    seconds, fastest_torch_s = certified(task_results), torch_s(task_results)
    result: dict[str, float] = {}
    for name, kernel_s in seconds.items():
        searcher, _, checkpoint = name.partition(" @ ")
        base_s = seconds.get(f"{BASE} @ {checkpoint}")
        if base_s is None:
            continue
        if searcher != BASE:
            key = f"{METASCHEDULE} (better builder) @ {checkpoint}" if searcher.startswith(METASCHEDULE) else name
            result[key] = min(result.get(key, math.inf), kernel_s / base_s)
        elif fastest_torch_s is not None:
            result[f"torch, best form @ {checkpoint}"] = fastest_torch_s / base_s
    return result


def throughput_ratio(task_results: TaskResults) -> float | None:
    """Guided's trials a second over those of MetaSchedule, with the builder that is quicker."""
    rates = trials_per_s(task_results)
    others = [rate for name, rate in rates.items() if name.startswith(METASCHEDULE)]
    return rates[BASE] / max(others) if BASE in rates and others else None


# --- the report ---------------------------------------------------------------------------------------


def report(results: Mapping[str, Any]) -> Iterator[str]:
    """Lines: each task's kernels, the fastest first, then geometric means over the tasks."""
    for task, task_results in results["tasks"].items():
        yield from _task_lines(task, task_results, results.get("peak_flops_per_s"))
    by_name: dict[str, list[float]] = {}
    for task_results in results["tasks"].values():
        for name, ratio in ratios(task_results).items():
            by_name.setdefault(name, []).append(ratio)
    yield "\nhow many times longer than guided (geometric mean, least, tasks):"
    for name, values in sorted(by_name.items()):
        yield f"    {statistics.geometric_mean(values):6.3f}  {min(values):6.3f}  {len(values):3}  {name}"
    rates = [rate for entry in results["tasks"].values() if (rate := throughput_ratio(entry)) is not None]
    if rates:
        mean, least = statistics.geometric_mean(rates), min(rates)
        yield (
            "trials a second, guided's over MetaSchedule's (quicker builder): "
            f"geometric mean {mean:.1f}, least {least:.1f}, {len(rates)} tasks"
        )


def _task_lines(task: str, task_results: TaskResults, peak_flops_per_s: float | None) -> Iterator[str]:
    work = flops(task)
    yield f"{task} ({task_results['threads']} threads)"
    for name, seconds in sorted(certified(task_results).items(), key=lambda item: item[1]):
        share = f"  {100 * work / seconds / peak_flops_per_s:5.1f} % of peak" if work and peak_flops_per_s else ""
        yield f"    {1e3 * seconds:9.4f} ms{share}  {name}"
    rates = sorted(trials_per_s(task_results).items())
    yield "    trials a second: " + ", ".join(f"{searcher} {rate:.2f}" for searcher, rate in rates)
