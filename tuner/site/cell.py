"""The page of one cell: its facts, its charts and its nights."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.nightly.compared import OURS, REBUILT, REFERENCE, SEARCHED
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.summary import change_of, over_the_optimum, sentence, threshold_of
from tuner.nightly.verdicts import CODE, SEARCH, WHOLE, is_exact
from tuner.nights import Night
from tuner.progress import milliseconds
from tuner.site.charts import Chart, Line, Values
from tuner.site.past import Past

_STAMP = re.compile(r"(?P<day>\d{8})-(?P<hour>\d\d)(?P<minute>\d\d)\d\d(-\d+)?")
"""What a night is called: when it began, and a number where that was taken."""

ROWS = 100
"""Nights in the table of a page; all of them are in its charts and in its data."""

_SMALL = 430
"""The width of a chart that stands beside another one."""

_TITLES = {
    CODE: "Our code: the kept candidates built today, against the reference",
    SEARCH: "Our search: what it finds today, against the kept candidates built today",
    WHOLE: "Found today, against the reference",
    SPACE: "Search on the recorded space: how much slower than its optimum",
}


@dataclass(frozen=True)
class Row:
    """A night in the table of a cell."""

    night: str
    commit: str
    outcome: str
    searched: str
    change: str
    threshold: str
    cause: str
    marks: Sequence[str]


def charts(past: Past) -> list[Chart]:
    """The charts of a cell's page, those that its verdicts rest on first."""
    marks = {b.index: b.what for b in past.breaks}
    labels = _labels(past.nights)
    accepted = {at: acceptance.why for at, acceptance in past.accepted.items()}
    cuts = frozenset(b.index for b in past.breaks if "branch" in b.what or "device" in b.what)

    def chart(name: str, title: str, lines: Sequence[Line], form: Callable[[float], str], **more: Any) -> Chart:
        return Chart(name, title, lines, form, labels, marks=marks, accepted=accepted, cuts=cuts, **more)

    found = []
    times = [name for name in (SEARCHED, REBUILT, REFERENCE) if name in past.seconds]
    if times or past.baselines:
        lines = [Line(name, past.seconds[name]) for name in times]
        lines += [Line(name, past.seconds[name], dashed=True) for name in past.baselines]
        title = past.caveat.beside("Time of one call")
        found.append(chart("seconds", title, lines, milliseconds, height=280))
    for series in (CODE, SEARCH, WHOLE, SPACE):
        if series in past.ratios and not (series == WHOLE and SEARCH in past.ratios):
            line = Line(series, np.expm1(past.ratios[series]))
            found.append(chart(series, _TITLES[series], [line], _signed, band=_band(past, series)))
    speedups = [Line(name, past.seconds[name] / past.seconds[SEARCHED]) for name in past.baselines if SEARCHED in times]
    if speedups:
        found.append(chart("speedup", "Speedup of what is found today over each baseline", speedups, _times))
    return found


def _labels(nights: Sequence[Night]) -> list[str]:
    """Below the axis: a night's day, with its time where a day has several nights; or, of one that was measured later
    for a commit of the past, that commit."""
    known = [_STAMP.fullmatch(night.id) for night in nights]
    days = Counter(stamp["day"] for stamp in known if stamp is not None)
    one_day, several = len(days) == 1, any(count > 1 for count in days.values())

    def label(night: Night, stamp: re.Match[str] | None) -> str:
        if night.origin == "backfill":
            return night.commit[:7]
        if stamp is None:
            return night.id.partition("-")[0]
        time = f"{stamp['hour']}:{stamp['minute']}"
        if several:
            return time if one_day else f"{stamp['day'][4:6]}-{stamp['day'][6:]} {time}"
        return stamp["day"]

    return [label(night, stamp) for night, stamp in zip(nights, known, strict=True)]


def structural(past: Past) -> list[Chart]:
    """Small charts of the structural series, those that nothing but the compiler moves first."""
    marks = {b.index: b.what for b in past.breaks}
    return [
        Chart(name, name.replace("_", " ").replace(".", ": "), [Line(name, values)], _form_of(name), (), marks=marks,
              height=120, width=_SMALL)
        for name, values in sorted(past.structure.items(), key=lambda pair: not is_exact(pair[0]))
    ]  # fmt: skip


def rows(past: Past) -> list[Row]:
    """The newest nights, newest first."""
    marks: dict[int, list[str]] = {}
    for found in past.breaks:
        marks.setdefault(found.index, []).append(f"before it: {found.what}")
    for at, acceptance in past.accepted.items():
        marks.setdefault(at, []).append(f"accepted: {acceptance.why}")
    searched, quality = past.seconds.get(SEARCHED), past.ratios.get(SPACE)
    made = []
    for at in range(len(past.nights) - 1, max(len(past.nights) - 1 - ROWS, -1), -1):
        night, finding = past.nights[at], past.findings[at]
        time = math.nan if searched is None else float(searched[at])
        behind = math.nan if quality is None else float(quality[at])
        value = "-" if math.isnan(time) else past.caveat.beside(milliseconds(time))
        value = value if math.isnan(behind) else over_the_optimum(behind)
        made.append(
            Row(
                night.id, short(night.commit), str(past.outcomes[at]), value,
                change_of(finding) or "-", threshold_of(finding) or "-",
                past.reasons[at] or ("" if finding is None or finding.cause is None else str(finding.cause)),
                marks.get(at, []),
            )
        )  # fmt: skip
    return made


def facts(past: Past) -> list[tuple[str, str]]:
    """What a cell is, by the parts of its key."""
    named = {
        "what": past.key.source, "shape": past.key.shape, "dtype": past.key.dtype, "target": past.key.target,
        "device": past.key.device, "threads": past.key.threads or "", "search": past.key.budget, "seed": past.key.seed,
        "cell": past.key.id, "CPUs": past.last.facts.get("cpus", ""), "times": past.caveat.sentence,
    }  # fmt: skip
    return [(name, str(value)) for name, value in named.items() if value != ""]


def told(past: Past) -> list[tuple[str, str]]:
    """Everything that was found in the last night, in words, with its outcome; what is the same as ever left out."""
    return [(str(f.outcome), sentence(f)) for f in past.last.findings if f.outcome != "same" or f.cause is not None]


def data(past: Past, drawn: Iterable[Chart]) -> dict[str, Any]:
    """What the page's script needs: the nights, and the values of each chart in words."""
    return {
        "nights": [[night.id, short(night.commit)] for night in past.nights],
        "outcomes": [str(outcome) for outcome in past.outcomes],
        "charts": {chart.name: chart.data() for chart in drawn},
    }


def for_machines(past: Past) -> dict[str, Any]:
    """All series of a cell as plain data; log ratios as they are stored, seconds, and numbers of structure."""
    return {
        "cell": past.key.to_json() | {"id": past.key.id},
        "nights": [night.id for night in past.nights],
        "outcomes": [str(outcome) for outcome in past.outcomes],
        "reasons": past.reasons,
        "seconds": {name: _numbers(values) for name, values in past.seconds.items()},
        "log_ratios": {name: _numbers(values) for name, values in past.ratios.items()},
        "bases": {name: _numbers(values) for name, values in past.bases.items()},
        "thresholds": {name: _numbers(values) for name, values in past.thresholds.items()},
        "structure": {name: _numbers(values) for name, values in past.structure.items()},
        "breaks": [{"before": past.nights[b.index].id, "what": b.what} for b in past.breaks],
        "accepted": [acceptance.to_json() for acceptance in past.accepted.values()],
        "last": past.last.to_json(),
    }


def short(commit: str) -> str:
    """A commit in twelve digits; `+` where changes were not committed."""
    return commit[:12] + ("+" if "+" in commit else "")


def best_baseline(past: Past) -> tuple[str, float] | None:
    """The fastest baseline of the last night, with its seconds."""
    timed = {name: past.last.seconds[name] for name in past.baselines if name in past.last.seconds}
    return min(timed.items(), key=lambda pair: pair[1], default=None)


def shown_seconds(past: Past) -> Values:
    """The line that stands for a cell in a table of many: its searched time, else a rebuilt or reference one, else the
    ratio of a recorded space."""
    for name in OURS[::-1]:
        if name in past.seconds:
            return past.seconds[name]
    return next(iter(past.ratios.values()), np.empty(0))


def _band(past: Past, series: str) -> tuple[Values, Values] | None:
    if series not in past.thresholds:
        return None
    base, reach = past.bases[series], past.thresholds[series]
    return np.expm1(base - reach), np.expm1(base + reach)


def _numbers(values: Values) -> list[float | None]:
    return [None if math.isnan(v) else float(f"{v:.6g}") for v in values.tolist()]


def _signed(share: float) -> str:
    return f"{share:+.2%}" if abs(share) < 0.1 else f"{share:+.1%}"


def _times(value: float) -> str:
    return f"{value:.3g}x"


def _count(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if unit != 'k' else 1e3):.4g} {unit}"
    return f"{value:.4g}"


def _bytes(value: float) -> str:
    if abs(value) < 2**12:
        return f"{value:.4g} B"
    return f"{value / 2**20:.4g} MiB" if abs(value) >= 2**18 else f"{value / 2**10:.4g} KiB"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _seconds(value: float) -> str:
    return milliseconds(value) if abs(value) < 1 else f"{value:.3g} s"


def _form_of(series: str) -> Callable[[float], str]:
    name = series.rpartition(".")[2]
    if "bytes" in name:
        return _bytes
    if name.endswith("share"):
        return _share
    return _seconds if name.endswith("_s") and not name.endswith("per_s") else _count
