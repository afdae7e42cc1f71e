"""What is known of the timing itself: verdicts, comparisons of whole models, traffic between CPUs."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path

from experiments.comparison.results import report
from experiments.figures.words import Figures, percent, table

LABELS = ("FASTER", "SLOWER", "SAME", "UNDECIDED")


def verdicts(path: Path) -> Figures:
    """Of experiments/verdicts: comparisons of kernels whose true difference is known."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    labels = Counter(row["label"] for row in rows)
    floors = [row["floor"] for row in rows if row["floor"] is not None]
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    return {
        "comparisons": str(len(rows)),
        **{label: str(labels[label]) for label in LABELS},
        "SLOWER share": percent(labels["SLOWER"] / len(rows)),
        "FASTER or SLOWER share": percent((labels["FASTER"] + labels["SLOWER"]) / len(rows)),
        "median floor": percent(statistics.median(floors), 2),
        "largest floor": percent(max(floors), 2),
        "least ratio": f"{min(ratios):.3f}",
        "largest ratio": f"{max(ratios):.3f}",
        "seconds each": f"{statistics.mean(row['seconds'] for row in rows):.1f} s",
        "finding": f"{len(rows)} comparisons: " + ", ".join(f"{labels[label]} {label}" for label in LABELS),
    }


def comparison(path: Path) -> Figures:
    """Of experiments/comparison: baselines in the comparison of `tuner run`, and run alone."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    *rows, found = report(lines)
    return {"finding": found, "table": "\n" + "".join(f"{row}\n" for row in rows)}


def sharing(path: Path) -> Figures:
    """Of experiments/sharing: nanoseconds a line, in each state and for each size."""
    columns = {
        "round_trip_ns": "round trip", "write_own_ns": "write, own",
        "write_read_by_other_ns": "write, read by the other",
        "write_written_by_other_ns": "write, written by the other", "read_own_ns": "read, own",
        "read_written_by_other_ns": "read, written by the other", "runs": "runs",
    }  # fmt: skip
    rows = [[name, *(f"{row[key]:g}" for key in columns)] for name, row in json.loads(path.read_text("utf-8")).items()]
    return {"table": table(["state, buffer", *columns.values()], rows)}
