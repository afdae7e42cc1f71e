"""What did each pass option change? Read from the records of earlier runs; nothing is measured.

    python experiments/ablation/run.py sqlite:///results/records.db [--task NAME]

Two records of one task and scope with the same sketch and decisions whose passes differ in one option are a pair. A
search makes many: it moves one coordinate at a time. For each setting: the geometric mean of its time over the
default's, with a 95 % bootstrap interval over schedules (pairs of one schedule are averaged first), and how often the
task's best has it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kernels.passes import PASSES
from kernels.space import Candidate
from tuner.records import Fidelity, Record
from tuner.store import SqlStore

Ratios = dict[tuple[str, str], dict[object, list[float]]]
"""(pass, setting) -> schedule -> log ratios of the setting's time over the default's, all else equal."""

Times = dict[tuple[tuple[str, str], ...], float]
"""Log seconds by the settings of all passes."""


def settings_of(candidate: Candidate) -> dict[str, str]:
    """Pass name -> its setting as text."""
    return {s.name: s.to_text() for s in candidate.passes.settings}


def times_by_schedule(records: Iterable[Record]) -> dict[object, Times]:
    """What was screened, by scope, task, sketch and decisions."""
    schedules: dict[object, Times] = defaultdict(dict)
    for record in records:
        if record.measurement.ok and record.measurement.fidelity is Fidelity.SCREEN:
            candidate = Candidate.from_text(record.candidate)
            schedule = (record.scope, record.task_key, candidate.sketch, candidate.decisions)
            schedules[schedule][tuple(sorted(settings_of(candidate).items()))] = math.log(record.measurement.median_s)
    return schedules


def pairs(records: Iterable[Record]) -> Ratios:
    """Every two records that differ in one option, one of them at its default."""
    default = settings_of(Candidate(0))
    ratios: Ratios = defaultdict(lambda: defaultdict(list))
    for schedule, times in times_by_schedule(records).items():
        for settings, log_time in times.items():
            for name, value in settings:
                if value == default[name]:
                    continue
                base = tuple((n, default[n] if n == name else v) for n, v in settings)
                if base in times:
                    ratios[name, value][schedule].append(log_time - times[base])
    return ratios


def best_settings(records: Iterable[Record]) -> list[dict[str, str]]:
    """The pass settings of the fastest candidate of each task, where there is one besides the untuned program."""
    best: dict[tuple[str, str], tuple[float, Candidate]] = {}
    for record in records:
        candidate = Candidate.from_text(record.candidate)
        if record.measurement.ok and record.measurement.fidelity is Fidelity.SCREEN and not candidate.is_default:
            key = (record.scope, record.task_key)
            if key not in best or record.measurement.median_s < best[key][0]:
                best[key] = (record.measurement.median_s, candidate)
    return [settings_of(candidate) for _, candidate in best.values()]


def interval(values: NDArray[np.float64], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def lines(ratios: Ratios, winners: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """One for each setting, in the order of the passes."""
    for name in PASSES:
        for (owner, value), by_schedule in sorted(ratios.items()):
            if owner != name:
                continue
            logs = np.array([np.mean(each) for each in by_schedule.values()])
            low, high = interval(logs) if len(logs) > 1 else (math.nan, math.nan)
            in_winners = sum(winner.get(name) == value for winner in winners)
            yield (
                f"{value:28} {len(logs):9} {math.exp(logs.mean()):7.3f} "
                f"{math.exp(low):7.3f}..{math.exp(high):7.3f} {in_winners:6} of {len(winners)}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="an SQLAlchemy URL")
    parser.add_argument("--task", help="only tasks whose name holds this")
    args = parser.parse_args()
    with SqlStore(args.store) as store:
        records = [r for r in store.read() if not args.task or args.task in r.task_name]
    winners = best_settings(records)
    print(f"{len(records)} records, {len(winners)} tasks")
    print(f"{'setting':28} {'schedules':>9} {'time':>7} {'95 % interval':>16} {'of the best':>12}")
    for line in lines(pairs(records), winners):
        print(line)


if __name__ == "__main__":
    main()
