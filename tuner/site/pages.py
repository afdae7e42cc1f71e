"""The pages as HTML: jinja2 escapes every name. What templates mark as safe is markup of ours: charts, which escape
their texts, and JSON without the characters that would end it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from tuner.nightly.compared import SEARCHED
from tuner.nightly.lines import machine_differs
from tuner.nightly.summary import ORDER, change_of, main_finding, sentence, threshold_of, value_of
from tuner.nights import CellKind, Night, Outcome
from tuner.progress import milliseconds
from tuner.site import cell as cells
from tuner.site import charts
from tuner.site.past import Past, version_changes

_NIGHTS_SHOWN = 60
"""Nights in the list of the overview, and in its small lines."""


class Overview:
    """All nights, and what the pages about many cells need of each cell."""

    def __init__(self, nights: Sequence[Night]) -> None:
        self.nights = list(nights)
        self.cells: dict[str, Past] = {}
        self.counts: dict[str, Counter[Outcome]] = {night.id: Counter() for night in nights}
        self.alerts: dict[str, list[str]] = {night.id: [] for night in nights}

    def add(self, cell_id: str, past: Past) -> None:
        """Take a cell in; of its arrays only what is shown later is kept."""
        for night, outcome, finding in zip(past.nights, past.outcomes, past.findings, strict=True):
            self.counts[night.id][outcome] += 1
            if outcome in (Outcome.WORSE, Outcome.BETTER, Outcome.BROKEN):
                said = "" if finding is None else f": {sentence(finding)}"
                self.alerts[night.id].append(f"{past.key.name}: {outcome}{said}")
        self.cells[cell_id] = _shortened(past)

    @property
    def last(self) -> Night | None:
        """The newest night of which something was measured."""
        return next(iter(self.measured), None)

    @property
    def measured(self) -> list[Night]:
        """Nights of which something was measured, newest first."""
        return [night for night in reversed(self.nights) if self.counts[night.id]]

    def worst_first(self) -> list[tuple[str, Past]]:
        """The cells of the last night."""
        last = self.last
        found = [(i, past) for i, past in self.cells.items() if last is not None and past.nights[-1].id == last.id]
        return sorted(found, key=lambda pair: (ORDER.index(pair[1].outcomes[-1]), -_change(pair[1]), pair[1].key.name))

    def gone(self) -> list[tuple[str, Past]]:
        """Cells that the last night did not have."""
        there = dict(self.worst_first())
        return [(i, past) for i, past in self.cells.items() if i not in there]


@dataclass(frozen=True)
class CellRow:
    """A cell in the table of the overview."""

    id: str
    name: str
    outcome: str
    change: str
    threshold: str
    cause: str
    time: str
    seconds: float | None
    against: str
    ratio: float | None
    line: str
    said: str


class Pages:
    """Renders pages."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("tuner.site", "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip

    def _page(self, template: str, root: str, **values: Any) -> str:
        return self._environment.get_template(f"{template}.html.j2").render(root=root, **values)

    def overview(self, told: Overview) -> str:
        """What the last night found, worst first; then the nights before it."""
        last = told.last
        measured = told.measured
        before = measured[1] if len(measured) > 1 else None
        changed = [] if last is None or before is None else _changed(before, last)
        nights = [(n, told.counts[n.id]) for n in measured[:_NIGHTS_SHOWN]]
        counts = Counter[Outcome]() if last is None else told.counts[last.id]
        return self._page(
            "overview", "", last=last, before=before, changed=changed, order=ORDER, counts=counts, nights=nights,
            rows=[_row(i, past) for i, past in told.worst_first()], gone=told.gone(), short=cells.short,
        )  # fmt: skip

    def cell(self, cell_id: str, past: Past) -> str:
        """One cell."""
        main, small = cells.charts(past), cells.structural(past)
        finding = past.findings[-1]
        return self._page(
            "cell", "../", past=past, id=cell_id, facts=cells.facts(past), told=cells.told(past), rows=cells.rows(past),
            main=[(chart, charts.svg(chart)) for chart in main],
            small=[(chart, charts.svg(chart)) for chart in small],
            headline=past.reasons[-1] or ("" if finding is None else sentence(finding)),
            data=_embedded(cells.data(past, [*main, *small])),
        )  # fmt: skip

    def models(self, told: Overview) -> str:
        """Every model against every baseline, each as measured last."""
        models = {i: past for i, past in told.cells.items() if past.key.kind is CellKind.MODEL and past.last.seconds}
        names = list(dict.fromkeys(name for past in models.values() for name in past.baselines))
        return self._page("models", "", names=names, rows=[_model_row(i, past, names) for i, past in models.items()])

    def machines(self, told: Overview) -> str:
        """Which machines the nights ran on, newest first, with their facts."""
        found: list[tuple[Night, list[Night]]] = []
        for night in told.measured:
            known = next((nights for first, nights in found if not machine_differs(first, night)), None)
            if known is None:
                found.append((night, [night]))
            else:
                known.append(night)
        cells_on = {
            n.id: sorted({(i, p.key.name) for i, p in told.cells.items() if p.nights[-1].id == n.id}) for n, _ in found
        }
        return self._page("machines", "", machines=found, cells_on=cells_on)

    def compare(self, nights: Sequence[Night]) -> str:
        """Any two nights; the page's script loads them."""
        listed = [[n.id, n.began_at, cells.short(n.commit), n.branch, n.origin] for n in reversed(nights)]
        return self._page("compare", "", nights=listed, data=_embedded({"nights": listed}))


def _embedded(data: object) -> str:
    """JSON that may stand inside a script element of a page."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _row(cell_id: str, past: Past) -> CellRow:
    finding = main_finding(past.last)
    own, best = past.own_seconds, cells.best_baseline(past)
    ratio = None if own is None or best is None else best[1] / own
    return CellRow(
        cell_id, past.key.name, str(past.outcomes[-1]),
        change_of(finding), threshold_of(finding),
        "" if finding is None or finding.cause is None else str(finding.cause),
        value_of(past.last) if own is None else past.caveat.beside(milliseconds(own)), own,
        "" if ratio is None or best is None else f"{ratio:.3g}x {best[0]}", ratio,
        charts.sparkline(cells.shown_seconds(past)),
        past.reasons[-1] or ("" if finding is None else "; ".join(finding.evidence)),
    )  # fmt: skip


@dataclass(frozen=True)
class ModelRow:
    """A model in the table of models: by baseline its time and how many times as long as ours it is."""

    id: str
    name: str
    night: str
    time: str
    seconds: float
    best: str
    best_ratio: float
    baselines: Sequence[tuple[str, float | None]]


def _model_row(cell_id: str, past: Past, names: Sequence[str]) -> ModelRow:
    own, best = past.own_seconds or math.nan, cells.best_baseline(past)
    timed = [past.last.seconds.get(name) for name in names]
    return ModelRow(
        cell_id, past.key.name, past.nights[-1].id, past.caveat.beside(milliseconds(own)), own,
        "-" if best is None else f"{best[1] / own:.2f}x {best[0]}", 0.0 if best is None else best[1] / own,
        [("-", None) if s is None else (_against(past, s, own), s / own) for s in timed],
    )  # fmt: skip


def _against(past: Past, seconds: float, own: float) -> str:
    """A baseline's time, and how many times as long as ours it is."""
    return past.caveat.beside(f"{milliseconds(seconds)} ({seconds / own:.2f}x)")


def _changed(before: Night, last: Night) -> list[str]:
    """What is different from the night before, in words."""
    said = []
    if before.commit != last.commit:
        said.append(f"commit {cells.short(before.commit) or 'unknown'} -> {cells.short(last.commit) or 'unknown'}")
    if before.branch != last.branch:
        said.append(f"branch {before.branch or 'none'} -> {last.branch or 'none'}")
    return [*said, *version_changes(before, last), *machine_differs(before, last)]


def _change(past: Past) -> float:
    finding = main_finding(past.last)
    return 0.0 if finding is None or finding.change is None else abs(finding.change)


def _shortened(past: Past) -> Past:
    """Without the arrays of many nights that no page about many cells shows."""
    kept = {SEARCHED, *past.last.seconds} | set(list(past.seconds)[:1])
    past.seconds = {name: values[-_NIGHTS_SHOWN:].copy() for name, values in past.seconds.items() if name in kept}
    past.ratios = {name: values[-_NIGHTS_SHOWN:].copy() for name, values in past.ratios.items()}
    past.structure, past.bases, past.thresholds, past.breaks = {}, {}, {}, []
    past.nights, past.outcomes, past.reasons, past.findings = (
        past.nights[-1:], past.outcomes[-1:], past.reasons[-1:], past.findings[-1:],
    )  # fmt: skip
    return past
