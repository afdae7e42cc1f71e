"""Which settings of the search are best, judged on kernels they were not chosen by? See README.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from costmodel.gp import Prior
from tuner.search.surrogate import DEFAULT, Settings
from tuner.simulate.play import play, score, strategy_for
from tuner.simulate.recording import find, read
from tuner.simulate.space import RecordedSpace

GRID: dict[str, Settings] = {
    "as it is": DEFAULT,
    "first 5, caution 2": dataclasses.replace(DEFAULT, first=5, inverse_temperature=2.0),
    "40 steps": dataclasses.replace(DEFAULT, steps=40),
    "16 members": dataclasses.replace(DEFAULT, members=16),
    "failures 2 deviations": dataclasses.replace(DEFAULT, failed=2.0),
    "cap e^1.5": dataclasses.replace(DEFAULT, cap=1.5),
    "length 1.5": dataclasses.replace(DEFAULT, prior=Prior(length=1.5, length_sd=0.7)),
    "noise 0.01": dataclasses.replace(DEFAULT, prior=Prior(noise=0.01)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spaces", nargs="+", type=Path, help="recorded spaces, or folders of them")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="keep the scores here, and do not compute again those that are there")
    arguments = parser.parse_args()
    recordings = [read(path) for path in find(arguments.spaces)]
    known: dict[str, dict[str, float]] = {}
    if arguments.json and arguments.json.exists():
        known = json.loads(arguments.json.read_text())
    for name, settings in GRID.items():
        scores = known.setdefault(name, {})
        for recording in recordings:
            if recording.name not in scores:
                space = RecordedSpace.of(recording.values, recording.choices)
                seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
                runs = [
                    play(recording, strategy_for("guided", space, seed, settings=settings), arguments.budget)
                    for seed in seeds
                ]
                scores[recording.name] = score(recording, runs, 400)
        print(
            f"{name:24s} {np.mean(list(scores.values())):.3f}  " + " ".join(f"{s:.2f}" for s in scores.values()),
            flush=True,
        )
        if arguments.json:
            arguments.json.write_text(json.dumps(known, indent=1))
    print("\nchosen on the other kernels, judged on this one:")
    kept = []
    for recording in recordings:
        others = [r.name for r in recordings if r.kernel != recording.kernel]
        if not others:
            continue
        chosen = max(GRID, key=lambda name: np.mean([known[name][o] for o in others]))
        kept.append(known[chosen][recording.name])
        print(f"  {recording.name:28s} {kept[-1]:.3f}  {chosen}")
    if kept:
        print(f"  {'mean':28s} {np.mean(kept):.3f}")


if __name__ == "__main__":
    main()
