"""What the lines of a file of experiments/comparison say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

GOAL = 0.02


def report(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table, in which `compared` and `alone again` are ratios, and how many of its rows lie within the goal."""
    yield "| model | a CPU busy | baseline | CPUs | alone, ms | compared | alone again | first call, ms |"
    yield "|---|---|---|---|--:|--:|--:|--:|"
    for line in lines:
        for row in line["rows"]:
            again = "–" if row["again"] is None else f"{row['again']:.3f}"
            first = "–" if row["first_call_s"] is None else f"{1e3 * row['first_call_s']:.3g}"
            yield (
                f"| {line['model']} | {'yes' if line['busy'] else 'no'} | {row['baseline']} | {row['state'] or '–'} | "
                f"{1e3 * row['alone_s']:.4g} | {row['ratio']:.3f} | {again} | {first} |"
            )
    yield finding(lines)


def finding(lines: Sequence[Mapping[str, Any]]) -> str:
    """How many steady figures of the comparison lie within the goal of those alone, and how far the farthest is."""
    ratios = [row["ratio"] for line in lines for row in line["rows"] if row["state"] not in ("mixed", "unknown")]
    if not ratios:
        return "nothing was compared"
    within = sum(abs(ratio - 1.0) <= GOAL for ratio in ratios)
    return f"{within} of {len(ratios)} within {GOAL:.0%}; from {min(ratios):.3f} to {max(ratios):.3f} of alone"
