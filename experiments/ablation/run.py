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
from collections.abc import Iterable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kernels.passes import PASSES  # noqa: E402
from kernels.space import Candidate  # noqa: E402
from tuner.records import Fidelity, Record  # noqa: E402
from tuner.store import SqlStore  # noqa: E402


def settings_of(candidate: Candidate) -> dict[str, str]:
    """Pass name -> its setting as text."""
    return {s.name: s.to_text() for s in candidate.passes.settings}


def pairs(records: Iterable[Record]) -> dict[tuple[str, str], dict[object, list[float]]]:
    """(pass, setting) -> schedule -> log ratios of the setting's time over the default's, all else equal."""
    schedules: dict[object, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for record in records:
        if record.measurement.ok and record.measurement.fidelity is Fidelity.SCREEN:
            candidate = Candidate.from_text(record.candidate)
            schedule = (record.scope, record.task_key, candidate.sketch, candidate.decisions)
            schedules[schedule][tuple(sorted(settings_of(candidate).items()))] = math.log(record.measurement.median_s)
    default = settings_of(Candidate(0))
    found: dict[tuple[str, str], dict[object, list[float]]] = defaultdict(lambda: defaultdict(list))
    for schedule, times in schedules.items():
        for settings, log_time in times.items():
            for name, value in settings:
                if value == default[name]:
                    continue
                base = tuple((n, default[n] if n == name else v) for n, v in settings)
                if base in times:
                    found[name, value][schedule].append(log_time - times[base])
    return found


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


def interval(values: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="an SQLAlchemy URL")
    parser.add_argument("--task", help="only tasks whose name holds this")
    args = parser.parse_args()
    with SqlStore(args.store) as store:
        records = [r for r in store.read() if not args.task or args.task in r.task_name]
    found, winners = pairs(records), best_settings(records)
    print(f"{len(records)} records, {len(winners)} tasks")
    print(f"{'setting':28} {'schedules':>9} {'time':>7} {'95 % interval':>16} {'of the best':>12}")
    for name in PASSES:
        for (owner, value), by_schedule in sorted(found.items()):
            if owner != name:
                continue
            logs = np.array([np.mean(ratios) for ratios in by_schedule.values()])
            low, high = interval(logs) if len(logs) > 1 else (math.nan, math.nan)
            share = sum(w.get(name) == value for w in winners)
            print(
                f"{value:28} {len(logs):9} {math.exp(logs.mean()):7.3f} "
                f"{math.exp(low):7.3f}..{math.exp(high):7.3f} {share:6} of {len(winners)}"
            )


if __name__ == "__main__":
    main()
