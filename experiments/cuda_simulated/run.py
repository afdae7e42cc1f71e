"""How many CUDA candidates are right when they are executed on the simulated GPU, and which sabotages of them are seen?

python experiments/cuda_simulated/run.py [-n CANDIDATES] [--sabotaged CANDIDATES] [--json FILE] [PROGRAM ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.kernels.cuda_ground import (
    GROUND,
    Case,
    Ground,
    beyond_shared,
    cases,
    narrower,
    swapped_fragment,
    without_barrier,
    without_wait,
    workload,
)

_BARRIERS = 8
_TOGETHER = 10
"""Candidates that are compiled at once."""

REFUSED, FAULTS, WRONG = "does not compile", "faults", "wrong"


def sabotages(case: Case) -> Iterator[tuple[str, str]]:
    """Each sabotage that a candidate's source allows, by its name."""
    source = case.program.source
    made = [("a barrier less", without_barrier(source, number)) for number in range(_BARRIERS)]
    made += [("fragments swapped", swapped_fragment(source)), ("rows of fragments too short", narrower(source)),
             ("no wait for asynchronous copies", without_wait(source))]  # fmt: skip
    shrunk = beyond_shared(source)
    made.append(("half of the shared memory", None if shrunk == source else shrunk))
    yield from ((name, changed) for name, changed in made if changed is not None)


def outcome(reason: str) -> str:
    """The kind of what is wrong with a candidate."""
    if reason.startswith("not compiled"):
        return REFUSED
    return FAULTS if "failed: " in reason else WRONG


def executed(name: str, count: int, sabotaged: int, ground: Ground) -> dict[str, Any]:
    """The row of one program."""
    found: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    seen: dict[str, list[int]] = {}
    began = time.perf_counter()
    every = list(cases(workload(name), count))
    for some in (every[first : first + _TOGETHER] for first in range(0, len(every), _TOGETHER)):
        for candidate, reason in ground.wrong_ones(some).items():
            found[outcome(reason)] += 1
            reasons[candidate.to_text()] = reason[:200]
    for case in every[:sabotaged]:
        if case.candidate.to_text() not in reasons:
            for kind, source in sabotages(case):
                counts = seen.setdefault(kind, [0, 0])
                counts[0] += 1
                counts[1] += bool(ground.wrong(case, source))
    return {"program": name, "executed": len(every) - found[REFUSED], "right": len(every) - sum(found.values()),
            "outcomes": dict(found), "reasons": reasons, "seconds": round(time.perf_counter() - began, 1),
            "sabotages": {kind: {"made": made, "seen": caught} for kind, (made, caught) in seen.items()}}  # fmt: skip


def summary(rows: list[dict[str, Any]], asked: dict[str, int]) -> dict[str, Any]:
    """The totals of all programs, and how many candidates of each were asked for."""
    seen: dict[str, dict[str, int]] = {}
    for row in rows:
        for kind, counts in row["sabotages"].items():
            into = seen.setdefault(kind, {"made": 0, "seen": 0})
            into["made"] += counts["made"]
            into["seen"] += counts["seen"]
    outcomes = sum((Counter(row["outcomes"]) for row in rows), Counter[str]())
    return {**asked, "executed": sum(row["executed"] for row in rows), "right": sum(row["right"] for row in rows),
            "outcomes": dict(outcomes), "sabotages": seen, "programs": rows}  # fmt: skip


def finished(path: Path | None, asked: dict[str, int]) -> list[dict[str, Any]]:
    """The rows that an earlier call has written that asked for the same, so that this one goes on after them."""
    if path is None or not path.exists():
        return []
    earlier = json.loads(path.read_text())
    if any(earlier.get(name) != number for name, number in asked.items()):
        return []
    rows: list[dict[str, Any]] = earlier["programs"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", nargs="*", default=list(GROUND))
    parser.add_argument("-n", type=int, default=70, help="candidates of each program")
    parser.add_argument("--sabotaged", type=int, default=7, help="of each program's that are sabotaged, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    asked = {"candidates": arguments.n, "sabotaged": arguments.sabotaged}
    rows = finished(arguments.json, asked)
    done = {row["program"] for row in rows}
    with tempfile.TemporaryDirectory(prefix="cuda-simulated-") as folder:
        ground = Ground(Path(folder))
        try:
            for name in (name for name in arguments.programs if name not in done):
                rows.append(executed(name, arguments.n, arguments.sabotaged, ground))
                print(json.dumps(rows[-1]), flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(summary(rows, asked), indent=1) + "\n")
        finally:
            ground.close()


if __name__ == "__main__":
    main()
