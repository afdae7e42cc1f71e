"""How often nights raise a false alert, and how soon they find a true change: the rules of `tuner.nightly`, simulated.

As long as a series has had no confirmed change, all series are judged at once; from then on each by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.nightly.noise import Array, Noise
from tuner.nightly import statistics

WARM_UP = 60
"""Nights before the first that counts: a series whose own noise is known."""


def judged(level: statistics.Level, value: float, second: float) -> float:
    """Judge a night of one series; returns the confirmed change, 0 where there is none."""
    told = statistics.suspicion(level.values[-130:], value, level.changes[-130:])
    found = told.suspect and bool(statistics.confirms(told.threshold, told.change, second - told.base))
    change = told.change if found else 0.0
    level.add(value, change)
    return change


def level_of(values: Array) -> statistics.Level:
    """The level of a series that had no confirmed change so far."""
    return statistics.Level(list(values), list(np.diff(values)))


def candidates(past: Array, tonight: Array) -> NDArray[np.bool_]:
    """Of many series those that may be suspect tonight: what `suspicion` needs to look at one by one."""
    limits = statistics.threshold(np.diff(past, axis=-1))
    found: NDArray[np.bool_] = statistics.jumps(past, tonight, limits) | statistics.steps(past, tonight, limits)
    return found


def alerts_of(noise: Noise) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The confirmed changes for the worse and for the better of each series, without any true change.

    An alert that stays for several nights in a row is one.
    """
    count, nights = noise.first.shape
    worse, better = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    single: dict[int, statistics.Level] = {}
    standing: set[int] = set()
    together = np.ones(count, dtype=bool)
    for night in range(WARM_UP, nights):
        past, tonight = noise.first[:, max(0, night - 130) : night], noise.first[:, night]
        suspects = np.flatnonzero(together)[candidates(past[together], tonight[together])]
        for index in [*suspects, *single]:
            one = single.get(index) or level_of(noise.first[index, :night])
            change = judged(one, float(tonight[index]), float(noise.second[index, night]))
            if change and index not in single:
                single[int(index)] = one
                together[index] = False
            if change > 0:
                worse[index] += index not in standing
                standing.add(int(index))
            else:
                better[index] += change < 0
                standing.discard(int(index))
    return worse, better


def found_after(noise: Noise, change: float, nights: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a change that begins after WARM_UP nights is an alert within so many nights, by series; and which series
    say of themselves that they are too noisy to tell 5 %."""
    past = noise.first[:, :WARM_UP]
    too_noisy = statistics.threshold(np.diff(past, axis=-1)) > statistics.TOO_NOISY
    found = np.zeros(len(past), dtype=bool)
    for index in range(len(past)):
        one = level_of(past[index])
        for night in range(WARM_UP, WARM_UP + nights):
            values = (float(noise.first[index, night]) + change, float(noise.second[index, night]) + change)
            if judged(one, *values) * change > 0:
                found[index] = True
                break
    return found, too_noisy
