"""How often do nights err? Simulated with noise from this project's own records.

    python experiments/nightly/run.py alerts [--series 10000] [--seconds 200] [--out FILE]
    python experiments/nightly/run.py found [--series 10000] [--out FILE]
    python experiments/nightly/run.py causes [--each 500] [--out FILE]

`alerts`: a year of nights without any change, how many alerts a series. `found`: changes of 5 % and 2 %, how soon they
are an alert. `causes`: faults are injected, is the cause named rightly? Each adds to the same file of results, by
default results/amd-epyc/nightly.json; `alerts` goes on where an earlier call stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.common import ROOT
from experiments.nightly import noise
from experiments.nightly.faults import named
from experiments.nightly.rates import WARM_UP, alerts_of, found_after

YEAR = 365
CHUNK = 250
SEED = 20261130

RESULT = ROOT / "results" / "amd-epyc" / "nightly.json"


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def save(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")


def alerts(results: dict[str, Any], series: int, seconds: float) -> None:
    """Add chunks of series-years until there are `series`, or the seconds are over."""
    core, deadline = noise.standardized(), time.monotonic() + seconds
    known = results.setdefault("alerts", {"series_years": 0, "worse": 0, "better": 0, "most_in_a_year": 0})
    while known["series_years"] < series and time.monotonic() < deadline:
        rng = np.random.default_rng([SEED, known["series_years"]])
        worse, better = alerts_of(noise.draw(CHUNK, WARM_UP + YEAR, rng, core))
        known["series_years"] += CHUNK
        known["worse"] += int(worse.sum())
        known["better"] += int(better.sum())
        known["most_in_a_year"] = max(known["most_in_a_year"], int(worse.max()))
    known["worse_a_series_year"] = known["worse"] / known["series_years"]


def found(results: dict[str, Any], series: int) -> None:
    """Changes of 5 % in their first night, of 2 % within three."""
    core = noise.standardized()
    told = results["found"] = {}
    for percent, nights in ((5, 1), (2, 1), (2, 3)):
        rng = np.random.default_rng([SEED, percent])
        found, too_noisy = found_after(noise.draw(series, WARM_UP + nights, rng, core), np.log1p(percent / 100), nights)
        told[f"{percent} % within {nights}"] = {
            "series": series,
            "found": float(found[~too_noisy].mean()),
            "found_of_all": float(found.mean()),
            "too_noisy": float(too_noisy.mean()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("alerts", "found", "causes"))
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--each", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    results = load(arguments.out)
    if arguments.what == "alerts":
        alerts(results, arguments.series, arguments.seconds)
    elif arguments.what == "found":
        found(results, arguments.series)
    else:
        results["causes"] = named(arguments.each, SEED)
    save(arguments.out, results)
    print(json.dumps(results[arguments.what], indent=1))


if __name__ == "__main__":
    main()
