"""How many candidates of GPU spaces are right when they are executed, and which sabotages of them are seen?

python experiments/opencl/kernels.py [-n CANDIDATES] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.kernels.opencl_ground import GROUND, Ground, cases, overlapping_tiles, without_barrier, workload
from tuner.devices.opencl.driver import devices
from tuner.devices.opencl.facts import POCL

_SABOTAGED = 3
"""Candidates of each program that are sabotaged, too."""


def executed(name: str, count: int, ground: Ground) -> dict[str, Any]:
    """The row of one program."""
    wrong: Counter[str] = Counter()
    sabotages = {"a barrier less": [0, 0], "overlapping tiles": [0, 0]}
    total = 0
    for case in cases(workload(name), count):
        reason = ground.wrong(case)
        total += 1
        if reason:
            wrong[f"{case.candidate.to_text()}: {reason}"] += 1
        if total <= _SABOTAGED:
            changed = [("a barrier less", without_barrier(case.program, n)) for n in range(8)]
            for kind, program in [*changed, ("overlapping tiles", overlapping_tiles(case.program))]:
                if program is not None:
                    sabotages[kind][0] += 1
                    sabotages[kind][1] += bool(ground.wrong(case, program))
    return {"program": name, "executed": total, "right": total - sum(wrong.values()), "wrong": dict(wrong),
            "sabotages": {kind: {"made": made, "seen": seen} for kind, (made, seen) in sabotages.items()}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=14, help="candidates of each program")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    facts = next(facts for facts in devices() if facts.platform == POCL)
    ground, rows = Ground(facts.number), []
    for name in GROUND:
        rows.append(executed(name, arguments.n, ground))
        print(json.dumps(rows[-1]), flush=True)
        total = sum(row["executed"] for row in rows), sum(row["right"] for row in rows)
        found = {"device": facts.label, "executed": total[0], "right": total[1], "programs": rows}
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
