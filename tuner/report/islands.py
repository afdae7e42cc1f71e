"""A model of which a part could not be lowered: what stayed with ONNX Runtime, why, and how much of the time it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.caveats import Caveats
from tuner.report import units
from tuner.report.tables import Table

_SHOWN = 20
"""Nodes that the table names; after them it counts."""


def parts(summary: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The parts of the model in the order in which they run; none where all of it is tuned."""
    return summary.get("parts") or ()


def tuned_share(summary: Mapping[str, Any]) -> float | None:
    """The share of the tuned model's time that its tuned parts take; None where the parts were not timed."""
    timed = [part for part in parts(summary) if part["seconds"] is not None]
    total = sum(part["seconds"] for part in timed)
    if not total:
        return None
    return float(sum(part["seconds"] for part in timed if part["kind"] == "tuned") / total)


def sentence(summary: Mapping[str, Any]) -> str:
    """What is tuned and what is not, for the terminal and the head of the section; "" where all of it is tuned."""
    islands = [part for part in parts(summary) if part["kind"] == "island"]
    if not islands:
        return ""
    share = tuned_share(summary)
    known = "" if share is None else f"{units.percent(share)} of its time is tuned; "
    causes = Counter(node["operator"] for part in islands for node in part["nodes"] if not node["follows"])
    named = ", ".join(f"{operator}{f' ({n})' if n > 1 else ''}" for operator, n in causes.items())
    nodes = sum(len(part["nodes"]) for part in islands)
    where = f"{len(islands)} island{'s' * (len(islands) != 1)} of {nodes} node{'s' * (nodes != 1)}"
    return f"{known}{where} in ONNX Runtime, for {named}"


def table(summary: Mapping[str, Any]) -> Table:
    """One row a part, with its time and the nodes that made it an island."""
    total = sum(part["seconds"] or 0.0 for part in parts(summary))
    rows = []
    for number, part in enumerate(parts(summary)):
        seconds = part["seconds"]
        share = units.percent(seconds / total) if seconds is not None and total else units.MISSING
        rows.append((str(number + 1), part["kind"], units.milliseconds(seconds), share, _why(part["nodes"])))
    time = Caveats.of_summary(summary).model.beside("time")
    return Table(("part", "is", time, "of it", "why"), tuple(rows), frozenset({0, 1, 4}))


def _why(nodes: Sequence[Mapping[str, Any]]) -> str:
    causes = [f"{node['node']}: {node['reason']}" for node in nodes if not node["follows"]]
    shown, hidden = causes[:_SHOWN], len(causes) - len(causes[:_SHOWN])
    shown += [f"and {hidden} more"] if hidden else []
    around = Counter(node["operator"] for node in nodes if node["follows"])
    if around:
        counted = ", ".join(f"{n} {operator}" for operator, n in around.most_common())
        shown.append(f"with what depends on them or is too small by itself: {counted}")
    return "; ".join(shown)
