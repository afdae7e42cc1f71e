"""What the searches of a task would ship, and PyTorch, checked and timed in one interleaved comparison."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import write_reference
from experiments.search.tasks import torch_forms, workload
from experiments.search.workers import SEED
from kernels.reference import Expectation
from tuner.measure.comparison import BenchmarkEntry, ComparisonResult, compare_interleaved
from tuner.process.pinning import thread_env
from tuner.process.worker import Child, ChildDied, ChildError, ChildTimeout
from tuner.protocols import Reference

_SECONDS_EACH = 1.5
_BLOCK_S = 0.02
_OUTPUTS_TIMEOUT_S = 60.0


class Library(NamedTuple):
    """A shared library and the entry that is called."""

    path: str
    entry: str


def certify(task: str, finals: Mapping[str, Library], threads: int, with_torch: bool, folder: Path) -> dict[str, Any]:
    """Seconds of everything in `finals`, by `searcher @ checkpoint`, and of PyTorch's forms. A kernel whose outputs are
    wrong has none. What several ship is measured once."""
    reference = write_reference(workload(task), SEED, folder / f"{task}-reference.npz")
    shippers: dict[Library, str] = {}  # the first of those that ship it
    for name, library in finals.items():
        shippers.setdefault(library, name)
    wrong: dict[str, str] = {}
    entries: list[BenchmarkEntry] = []
    try:
        for library, name in shippers.items():
            entry = _kernel_entry(name, task, library, threads)
            entries.append(entry)
            if reason := _what_is_wrong(entry.child, reference, folder):
                wrong[name] = reason
                entries.pop().child.close()
        entries += _torch_entries(task, threads) if with_torch else []
        result = compare_interleaved(entries, time_budget_s=_SECONDS_EACH * len(entries), block_s=_BLOCK_S)
    finally:
        for entry in entries:
            entry.child.close()
    medians = _medians(result)
    seconds = {name: medians.get(shippers[library]) for name, library in finals.items()}
    seconds |= {name: median for name, median in medians.items() if name.startswith("torch")}
    return {"seconds": seconds, "noise_floor": result.noise_floor, "wrong": wrong, "dropped": result.dropped}


def _medians(result: ComparisonResult) -> dict[str, float]:
    return {name: statistics.median(seconds) for name, seconds in result.seconds.items() if seconds}


def _kernel_entry(name: str, task: str, library: Library, threads: int) -> BenchmarkEntry:
    settings = {"task": task, "path": library.path, "entry": library.entry, "threads": threads}
    return BenchmarkEntry(name, Child("experiments.search.workers:KernelWorker", settings, env=thread_env(threads)))


def _torch_entries(task: str, threads: int) -> list[BenchmarkEntry]:
    service, env = "experiments.search.workers:TorchWorker", thread_env(threads)
    return [
        BenchmarkEntry(f"torch: {form}", Child(service, {"task": task, "form": form, "threads": threads}, env=env))
        for form in torch_forms(task)
    ]


def _what_is_wrong(child: Child, reference: Reference, folder: Path) -> str:
    """Why a kernel may not be compared; empty when its outputs are right."""
    outputs = folder / "outputs.npz"
    try:
        child.call("outputs", _OUTPUTS_TIMEOUT_S, path=str(outputs))
    except (ChildDied, ChildError, ChildTimeout) as error:
        return str(error)
    with np.load(reference.path, allow_pickle=False) as wanted, np.load(outputs, allow_pickle=False) as actual:
        for name in wanted.files:
            ok, _, _, reason = Expectation(wanted[name], reference.dtype, reference.reduction).check(actual[name])
            if not ok:
                return reason
    return ""
