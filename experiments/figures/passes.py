"""Of optimization passes: whether they are right, and whether threads have equal work."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.figures.words import Figures, percent, table


def passes_check(path: Path) -> Figures:
    """Of experiments/passes/check.py: random programs, wrong outputs, and sabotages that were seen."""
    found = json.loads(path.read_text("utf-8"))["passes"]
    total = {key: sum(row[key] for row in found.values()) for key in ("programs", "sabotaged", "seen")}
    wrong = sum(len(row["wrong"]) for row in found.values())
    rows = [
        (
            f"`{name}`", str(row["programs"]), str(len(row["wrong"])), str(row["refused"]),
            f"{row['seen']} of {row['sabotaged']}" if row["sabotaged"] else "-",
        )
        for name, row in sorted(found.items())
    ]  # fmt: skip
    seen = f"{total['seen']:,} of {total['sabotaged']:,} sabotages are seen"
    return {
        "finding": f"{len(found)} passes on {total['programs']:,} random programs: {wrong} wrong; {seen}",
        "table": table(("pass", "programs", "wrong", "refused", "sabotages seen"), rows),
    }


def passes_threads(path: Path) -> Figures:
    """Of experiments/passes/threads.py: what the busiest thread runs without `balance` and with it."""
    rows = json.loads(path.read_text("utf-8"))
    told = [f"{row['kernel']}: {1e6 * row['without_s'][0]:.0f} to {1e6 * row['with_s'][0]:.0f} µs" for row in rows]
    least = min(row["ratio"][1] for row in rows)
    idle = ", ".join(percent(1 - sum(row["with_s"]) / (len(row["with_s"]) * row["with_s"][0])) for row in rows)
    return {"finding": f"{'; '.join(told)}", "least": f"{least:.2f}", "idle": idle}
