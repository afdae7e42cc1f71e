"""A cell's series as they are judged: the values since the level last changed, and the noise that they show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.nightly.statistics import NOISY, SEVERAL, Level, threshold
from tuner.nights import CellNight, Night, Outcome

_BESIDE_PACKAGES = frozenset(
    {"packages", "python", "memory_available_bytes", "load_average", "time_utc", "git_revision"}
)


@dataclass(frozen=True)
class Line:
    """One series up to tonight. `values` are at its level, oldest first; `changes` the differences from night to night
    that show its noise, also of earlier levels; `last_good` the id of the last night that stood at the level (empty:
    none), `open_since` that of the first night of a regression that nobody accepted and that has not gone away."""

    values: Sequence[float] = ()
    changes: Sequence[float] = ()
    last_good: str = ""
    open_since: str = ""


def line(past: Sequence[CellNight], series: str, reference: str, *, relative: bool, log: bool = False) -> Line:
    """A series over a cell's earlier nights, oldest first, that were measured against the same reference.

    A change for the better becomes the level when it has held for some nights; one for the worse never does, so that
    its alert stays until it is gone or accepted. `relative`: against the reference itself, whose own value is 0 by
    definition, so that the series begins there.
    """
    level = Level([0.0] if relative else [])
    last_good, open_since = (reference if relative else ""), ""
    often = 1
    for night in past:
        value = night.value(series) if night.reference == reference else None
        if value is None or (log and value <= 0):
            continue
        value = math.log(value) if log else value
        if not log and often != compared(night):
            often = compared(night)
            level.measured_otherwise()
        found = next((f for f in night.findings if f.series == series), None)
        if found is not None and found.confirmed and found.outcome in (Outcome.WORSE, Outcome.BETTER):
            level.add(value, found.change or 0.0)
            open_since = "" if found.outcome is Outcome.BETTER else open_since or night.night
            continue
        level.add(value)
        last_good, open_since = night.night, ""
    return Line(level.values, level.changes, last_good, open_since)


def compared(night: CellNight) -> int:
    """How many comparisons the ratios of a night are the median of."""
    often = night.facts.get("comparisons", 1)
    return often if isinstance(often, int) else 1


def comparisons(past: Sequence[CellNight], series: str, reference: str) -> int:
    """How many comparisons a cell gets tonight: SEVERAL where a series showed that one is too noisy, from then on."""
    told = line(past, series, reference, relative=True)
    before = max((compared(night) for night in past if night.reference == reference), default=1)
    noisy = float(threshold(np.asarray(told.changes), cold=0.0)) > NOISY
    return SEVERAL if noisy else before


def comparable(
    past: Sequence[CellNight], nights: Mapping[str, Night], ancestors: Mapping[str, int] | None, branch: str
) -> list[CellNight]:
    """The nights of a cell that tonight is compared with: of commits that tonight's is made of, in the order of the
    commits, so that one that was measured later for an earlier commit stands in its place.

    Where git does not know (`ancestors` is None), those of the same branch, in the order of the nights.
    """
    found: list[tuple[int, int, CellNight]] = []
    for result in past:
        night = nights.get(result.night)
        if night is None:
            continue
        commit = night.commit.partition("+")[0]
        if (commit in ancestors) if ancestors is not None and commit else night.branch == branch:
            place = ancestors.get(commit, 0) if ancestors is not None else 0
            found.append((place, night.number, result))
    return [result for _, _, result in sorted(found, key=lambda entry: entry[:2])]


def machine_differs(then: Night, now: Night) -> list[str]:
    """The facts of the machine, packages aside, that are other than then, in words: a break of all absolute times."""
    names = (then.machine.keys() | now.machine.keys()) - _BESIDE_PACKAGES
    pairs = {name: (then.machine.get(name), now.machine.get(name)) for name in sorted(names)}
    return [f"{name} {old} -> {new}" for name, (old, new) in pairs.items() if old != new]


def since_break(past: Sequence[CellNight], nights: Mapping[str, Night], tonight: Night) -> list[CellNight]:
    """The latest nights on a machine that is as tonight: absolute times of others tell nothing."""
    found: list[CellNight] = []
    for result in reversed(past):
        night = nights.get(result.night)
        if night is not None and machine_differs(night, tonight):
            break
        found.insert(0, result)
    return found


@dataclass(frozen=True)
class Context:
    """What a cell's night is judged with: its comparable nights, all nights by id, tonight, and today's reference."""

    past: Sequence[CellNight]
    nights: Mapping[str, Night]
    tonight: Night
    reference: str = ""
