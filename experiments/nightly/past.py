"""Nights of this repository's last commits that decide how code is made, and the first site from them.

    python experiments/nightly/past.py [--nights 30] [--last COMMIT]

Each commit's own program searches and builds the cells of configs/nightly/short.yaml; today's program times what they
made, interleaved with what the oldest of them made. About a minute a commit, on an idle machine. Interrupted, the same
command goes on. The site lies in results/nightly/past/site, the nights as lines of JSON in
results/amd-epyc/nights.jsonl: `tuner history import FILE` and `tuner site` make the site of them again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT
from tuner.nightly import commits

NIGHT = "configs/nightly/short.yaml"
SITE = "results/nightly/past/site"
LINES = "results/amd-epyc/nights.jsonl"


def chosen(nights: int, last: str) -> list[str]:
    """The last commits along the first parents that touch what decides how code is made, oldest first."""
    listed = commits.git(
        "rev-list", "--first-parent", f"--max-count={nights}", commits.resolve(last), "--", *commits.MAKING_CODE
    )
    return (listed or "").split()[::-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--last", default="HEAD", metavar="COMMIT")
    arguments = parser.parse_args()
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
