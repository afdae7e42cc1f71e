"""Nights of this repository's last commits that decide how code is made, and the first site from them.

    python experiments/nightly/past.py [--nights 30] [--last COMMIT]

Each commit's own program searches and builds the cells of configs/nightly/short.yaml; today's program times what they
made, interleaved with what the oldest of them made. About a minute a commit, on an idle machine. Interrupted, the same
command goes on. The site lies in results/nightly/past/site, the nights as lines of JSON in
results/amd-epyc/nights.jsonl: `tuner history import FILE` and `tuner site` make the site of them again.

    python experiments/nightly/past.py --judge

judges the kept nights by today's rules, as far as nothing has to be measured for it: all series but our own, and what
a cell's first night is called.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT
from tuner.files import write_aside
from tuner.nightly import commits
from tuner.nightly.lines import Context
from tuner.nightly.measuring import Measured
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.verdicts import CODE, SEARCH, WHOLE, outcome_of, reason_of, told_beside
from tuner.nights import CellNight, Outcome
from tuner.store.history import History

NIGHT = "configs/nightly/short.yaml"
SITE = "results/nightly/past/site"
LINES = "results/amd-epyc/nights.jsonl"


def chosen(nights: int, last: str) -> list[str]:
    """The last commits along the first parents that touch what decides how code is made, oldest first."""
    listed = commits.git(
        "rev-list", "--first-parent", f"--max-count={nights}", commits.resolve(last), "--", *commits.MAKING_CODE
    )
    return (listed or "").split()[::-1]


def judge(lines: Path) -> None:
    """Replace the findings in a file of nights by those of today's rules."""
    judged: dict[tuple[str, str], CellNight] = {}
    with tempfile.TemporaryDirectory() as scratch, History(f"sqlite:///{scratch}/nights.db") as history:
        history.import_lines(lines.read_text("utf-8").splitlines())
        nights = {night.id: night for night in history.nights()}
        past: dict[str, list[CellNight]] = {}
        for night in nights.values():
            for result in history.results(night=night.id):
                before = past.setdefault(result.cell.id, [])
                again = _judged(result, Context(before, nights, night, result.reference))
                before.append(again)
                judged[night.id, result.cell.id] = again
    kept = []
    for line in lines.read_text("utf-8").splitlines():
        data = json.loads(line)
        if "cell" in data:
            result = CellNight.from_json(data["cell"])
            data["cell"] = judged[result.night, result.cell.id].to_json()
        kept.append(json.dumps(data, separators=(",", ":"), default=list))
    write_aside(lines, ("\n".join(kept) + "\n").encode())


def _judged(result: CellNight, context: Context) -> CellNight:
    if result.outcome in (Outcome.MISSING, Outcome.BROKEN):
        return result
    names = [field.name for field in dataclasses.fields(Measured) if hasattr(result, field.name)]
    measured = Measured(**{name: getattr(result, name) for name in names if name not in ("outcome", "notes")})
    own = [f for f in result.findings if f.series in (CODE, SEARCH, WHOLE, SPACE)]
    findings = (*own, *told_beside(measured, context))
    outcome = outcome_of(measured, findings)
    reason = reason_of(measured, findings, context.past)
    return dataclasses.replace(result, findings=findings, outcome=outcome, reason=reason)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--last", default="HEAD", metavar="COMMIT")
    parser.add_argument("--judge", action="store_true")
    arguments = parser.parse_args()
    if arguments.judge:
        judge(ROOT / LINES)
        return 0
    made = chosen(arguments.nights, arguments.last)
    for command in (
        ["history", "backfill", "all", *made, "--night", NIGHT],
        ["history", "export", LINES, "--night", NIGHT],
        ["site", SITE, "--night", NIGHT],
    ):
        code = subprocess.run([sys.executable, "-m", "tuner", *command], cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
