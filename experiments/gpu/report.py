"""The report of what was measured on a GPU."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.bundle import Manifest
from tuner.bundle.measurements import Row
from tuner.records import Fidelity

_CAREFUL_FIRST = (Fidelity.CERTIFY, Fidelity.RANK, Fidelity.SCREEN)
_MOST_OF_A_STEP = 4000  # characters


def best_by_task(rows: Sequence[Row]) -> dict[str, Row]:
    """The fastest row of each task, of the most careful fidelity that it has."""
    best: dict[str, Row] = {}
    for row in sorted((row for row in rows if row.measurement.ok), key=_order):
        best.setdefault(row.task, row)
    return best


def _order(row: Row) -> tuple[int, float]:
    return _CAREFUL_FIRST.index(row.measurement.fidelity), row.measurement.median_s


def table(manifest: Manifest, best: Mapping[str, Row], baselines: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Markdown rows of every task with the fastest baseline of the same precision, and their ratio."""
    lines = ["| kernel | weight | tuned, us | best baseline | us | baseline / tuned |", "|---|---|---|---|---|---|"]
    ratios = []
    for task in manifest.tasks:
        row = best.get(task.key)
        timed = {name: s for name, s in baselines.get(task.key, {}).items() if not name.endswith("_tf32")}
        tuned_s = row.measurement.median_s if row else math.nan
        name = min(timed, key=timed.__getitem__, default="")
        if timed and row:
            ratios.append(timed[name] / tuned_s)
        fastest = f"{name} | {1e6 * timed[name]:.2f} | {timed[name] / tuned_s:.2f}" if timed else "none | |"
        lines.append(f"| {task.name} | {task.weight} | {1e6 * tuned_s:.2f} | {fastest} |")
    if ratios:
        lines.append(f"\nGeometric mean over {len(ratios)} kernels: {statistics.geometric_mean(ratios):.3f}")
    return lines


def step_lines(steps: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A section for each step, with its result as JSON."""
    for name, step in steps.items():
        result = json.dumps(step["result"], indent=1)[:_MOST_OF_A_STEP]
        yield from ("", f"## {name}, {step['seconds']:.0f} s", "", "```", result, "```")
