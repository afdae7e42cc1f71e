"""What the pages need of each cell's past, read from the history cell by cell: values as arrays over its nights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tuner.caveats import NONE, Caveat
from tuner.nightly.compared import OURS, REBUILT, REFERENCE, SEARCHED
from tuner.nightly.lines import machine_differs
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.summary import main_finding
from tuner.nightly.verdicts import CODE, SEARCH, WHOLE
from tuner.nights import Acceptance, CellKey, CellNight, Finding, Night, Outcome

OWN = (CODE, SEARCH, WHOLE, SPACE)
"""The series that verdicts rest on: log ratios."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Break:
    """Before the night at `index` of a cell's nights something changed that its times depend on: in words, short."""

    index: int
    what: str


@dataclass
class Past:
    """One cell over its nights, oldest first. Arrays are as long as `nights`, NaN where there is no value.

    `seconds` are medians by entry, `ratios` log ratios by the names of OWN, `structure` numbers by series. `bases` and
    `thresholds` (log ratios) are what the values of a series in `ratios` were held against. `findings` is the one that
    each night's outcome rests on; `caveat` says what the times are.
    """

    key: CellKey
    nights: list[Night]
    outcomes: list[Outcome]
    reasons: list[str]
    findings: list[Finding | None]
    last: CellNight
    seconds: dict[str, Values]
    ratios: dict[str, Values]
    structure: dict[str, Values]
    bases: dict[str, Values]
    thresholds: dict[str, Values]
    breaks: list[Break]
    accepted: dict[int, Acceptance] = field(default_factory=dict)
    caveat: Caveat = NONE

    @property
    def baselines(self) -> list[str]:
        """The entries that are not ours, the fastest of the last night first; those it did not time come last."""
        others = [name for name in self.seconds if name not in OURS]
        return sorted(others, key=lambda name: (self.last.seconds.get(name, math.inf), name))

    @property
    def own_seconds(self) -> float | None:
        """What the cell's own model took in the last night: searched, else rebuilt, else the reference."""
        return next((self.last.seconds[n] for n in (SEARCHED, REBUILT, REFERENCE) if n in self.last.seconds), None)


def past_of(
    results: Sequence[CellNight], nights: Mapping[str, Night], accepted: Sequence[Acceptance] = ()
) -> Past | None:
    """The past of a cell from its results in the order of the nights; None where none of them has a stored night."""
    known = [result for result in results if result.night in nights]
    if not known:
        return None
    own = [{f.series: f for f in result.findings if f.series in OWN} for result in known]
    where = {result.night: place for place, result in enumerate(known)}
    series = dict.fromkeys(s for found in own for s in found)
    return Past(
        key=known[-1].cell,
        nights=[nights[result.night] for result in known],
        outcomes=[result.outcome for result in known],
        reasons=[result.reason for result in known],
        findings=[main_finding(result) for result in known],
        last=known[-1],
        seconds=_arrays([result.seconds for result in known]),
        ratios=_arrays([{n: v for n, v in result.ratios.items() if n in OWN} for result in known]),
        structure=_arrays([result.structure for result in known]),
        bases={s: _column([found.get(s) for found in own], "base") for s in series},
        thresholds={s: _column([found.get(s) for found in own], "threshold") for s in series},
        breaks=_breaks(known, nights),
        accepted={where[a.night]: a for a in accepted if a.night in where},
        caveat=next((caveat for result in reversed(known) if (caveat := result.caveat).words), NONE),
    )


def _arrays(rows: Sequence[Mapping[str, float]]) -> dict[str, Values]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, math.nan) for row in rows], dtype=np.float64) for name in names}


def _column(findings: Sequence[Finding | None], name: str) -> Values:
    values = [None if finding is None else getattr(finding, name) for finding in findings]
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _breaks(results: Sequence[CellNight], nights: Mapping[str, Night]) -> list[Break]:
    found = []
    for index in range(1, len(results)):
        before, after = results[index - 1], results[index]
        then, now = nights[before.night], nights[after.night]
        what = []
        if before.cell.device != after.cell.device:
            what.append(f"device {after.cell.device or 'none'}")
        if then.branch != now.branch:
            what.append(f"branch {now.branch or 'none'}")
        if before.reference and after.reference and before.reference != after.reference:
            what.append(f"reference of night {after.reference}")
        if then.environment != now.environment:
            what += _environment(then, now)
        if what:
            found.append(Break(index, "; ".join(what)))
    return found


def _environment(then: Night, now: Night) -> list[str]:
    return [*version_changes(then, now), *machine_differs(then, now)] or ["environment"]


def version_changes(then: Night, now: Night) -> list[str]:
    """The packages whose version differs between two nights, in words."""
    names = sorted(then.versions.keys() | now.versions.keys())
    pairs = [(name, then.versions.get(name, "none"), now.versions.get(name, "none")) for name in names]
    return [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]
