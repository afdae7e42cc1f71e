"""Which settings of the search are best, evaluated on kernels they were not chosen by? See README.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from costmodel.gp import Prior
from tuner.commands.simulate import play
from tuner.search.surrogate import DEFAULT, Settings
from tuner.simulate.recording import SpaceRecording, find, read
from tuner.simulate.score import score

GRID: dict[str, Settings] = {
    "as it is": DEFAULT,
    "first 5, inverse temperature 2": dataclasses.replace(DEFAULT, first=5, inverse_temperature=2.0),
    "40 steps": dataclasses.replace(DEFAULT, steps=40),
    "16 members": dataclasses.replace(DEFAULT, members=16),
    "failures 2 deviations": dataclasses.replace(DEFAULT, failed=2.0),
    "cap e^1.5": dataclasses.replace(DEFAULT, cap=1.5),
    "length 1.5": dataclasses.replace(DEFAULT, prior=Prior(length=1.5, length_sd=0.7)),
    "noise 0.01": dataclasses.replace(DEFAULT, prior=Prior(noise=0.01)),
}
"""Each changes one thing of the default, the second line two."""

SCORED_OVER = 400
"""Evaluations, as if nothing had been found after the budget."""

Scores = dict[str, dict[str, float]]
"""By settings and recording."""


def score_of(recording: SpaceRecording, settings: Settings, budget: int, seeds: Sequence[int]) -> float:
    runs = [play(recording, "guided", budget, seed, settings=settings) for seed in seeds]
    return score(recording, runs, SCORED_OVER)


def evaluate(recordings: Sequence[SpaceRecording], budget: int, seeds: Sequence[int], file: Path | None) -> Scores:
    """Every settings' score on every recording. Those in the file are not computed again; new ones are added to it."""
    scores: Scores = json.loads(file.read_text()) if file and file.exists() else {}
    for name, settings in GRID.items():
        known = scores.setdefault(name, {})
        for recording in recordings:
            if recording.name not in known:
                known[recording.name] = score_of(recording, settings, budget, seeds)
        each = " ".join(f"{value:.2f}" for value in known.values())
        print(f"{name:30s} {np.mean(list(known.values())):.3f}  {each}", flush=True)
        if file:
            file.write_text(json.dumps(scores, indent=1))
    return scores


def nested(recordings: Sequence[SpaceRecording], scores: Scores) -> list[float]:
    """For each recording the score of what is best on the other kernels; the settings are printed."""
    print("\nchosen on the other kernels, evaluated on this one:")
    chosen_scores = []
    for recording in recordings:
        others = [other.name for other in recordings if other.kernel != recording.kernel]
        if not others:
            continue
        chosen = max(GRID, key=lambda name: float(np.mean([scores[name][other] for other in others])))
        chosen_scores.append(scores[chosen][recording.name])
        print(f"  {recording.name:28s} {chosen_scores[-1]:.3f}  {chosen}")
    return chosen_scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spaces", nargs="+", type=Path, help="recorded spaces, or folders of them")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="keep the scores here, and do not compute again those that are there")
    asked = parser.parse_args()
    recordings = [read(path) for path in find(asked.spaces)]
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    scores = evaluate(recordings, asked.budget, seeds, asked.json)
    if chosen_scores := nested(recordings, scores):
        print(f"  {'mean':28s} {np.mean(chosen_scores):.3f}")


if __name__ == "__main__":
    main()
