"""Of nights: how often they err, and what a long history's site takes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.figures.words import MISSING, Figures, percent, table


def nightly(path: Path) -> Figures:
    """Of experiments/nightly: how often nights err."""
    told = json.loads(path.read_text("utf-8"))
    alerts, found, causes = told["alerts"], told["found"], told["causes"]
    first, third = found["5 % within 1"], found["2 % within 3"]
    faults = {name: row for name, row in causes.items() if name != "no fault"}
    rows = [(name, str(row["each"]), percent(row["right"], 1), _instead(row)) for name, row in causes.items()]
    rates = (
        f"{alerts['worse_a_series_year']:.2f} false alerts a series-year ({alerts['series_years']:,} of them); "
        f"+5 % is found in its first night in {percent(first['found_of_all'], 1)}, +2 % within three in "
        f"{percent(third['found_of_all'], 1)} of all series, of which {percent(first['too_noisy'], 1)} say that "
        f"they are too noisy to tell 5 %; the cause is named "
        f"rightly in {percent(min(row['right'] for row in faults.values()), 1)} or more of each kind of fault"
    )
    return {
        "rates": rates,
        "false alerts": f"{alerts['worse_a_series_year']:.2f}",
        "causes": table(("fault", "injected", "named rightly", "instead"), rows),
    }


def _instead(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(row["instead"].items())) or MISSING


def past(path: Path) -> Figures:
    """Of experiments/nightly/past.py: the nights of commits, and their worst verdicts."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    nights = {line["night"]["id"] for line in lines if "night" in line}
    others = Counter(line["cell"]["outcome"] for line in lines if "cell" in line and line["cell"]["outcome"] != "same")
    apart = {line["cell"]["night"] for line in lines if "cell" in line and line["cell"]["outcome"] != "same"}
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(others.items()))
    return {"finding": f"{len(nights)} nights, {len(nights - apart)} the same in all cells{told and f', {told}'}"}


def site(path: Path) -> Figures:
    """Of experiments/site: what a long history's site takes."""
    found = json.loads(path.read_text("utf-8"))
    opened = max(found["opened_s"].values())
    return {
        "scale": f"The site of {found['cells']} cells and {found['nights']:,} nights takes {found['seconds']:.0f} s "
        f"and {found['peak_MiB']} MiB; its largest page has {found['largest_page_bytes'] / 1e3:.0f} kB and opens in "
        f"{opened:.2f} s"
    }
