"""`scan`: which loop nests of C, LLVM IR or MLIR are tensor computations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.importers.llvm_service import called
from tuner.importers.llvm_service import scan as scan_file
from tuner.progress import Progress

TITLES = ("function", "line", "pattern", "what", "arrays", "notes")


def scan(path: Path, progress: Progress) -> tuple[list[Sequence[str]], list[str]]:
    """A table with a line for each finding, and sentences about the whole. Raises ModelError or MissingPackage."""
    progress.phase(f"reading {path.name}")
    found = scan_file(path)
    rows: list[Sequence[str]] = [TITLES, *(_row(finding) for finding in found)]
    named = sum(1 for finding in found if finding["pattern"])
    return rows, [f"{named} of {len(found)} loop nests and operations are recognized"]


def emitted(path: Path) -> str:
    """The functions that are wholly understood as MLIR, and comments on the others. Raises ModelError or
    MissingPackage."""
    return str(called(path, "emit"))


def _row(finding: Mapping[str, Any]) -> Sequence[str]:
    arrays = ", ".join(f"{name}{shape}" for name, shape in sorted(finding["shapes"].items()))
    lines = finding["lines"]
    where = "" if not lines else str(lines[0]) if lines[0] == lines[-1] else f"{lines[0]}-{lines[-1]}"
    return (
        finding["function"], where, finding["pattern"] or "left alone", finding["detail"], arrays,
        "; ".join(_notes(finding)),
    )  # fmt: skip


def _notes(finding: Mapping[str, Any]) -> list[str]:
    if finding["reason"]:
        return [finding["reason"]]
    notes = []
    if finding["predicate"]:
        notes.append(f"where {finding['predicate']}")
    if finding["sequential"]:
        notes.append(f"inside {finding['sequential']} loops that stay in order")
    if not finding["reordered"]:
        notes.append("terms may not be reordered")
    if finding["needs"]:
        notes.append("if " + ", ".join(finding["needs"]))
    return notes
