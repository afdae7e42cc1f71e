"""One report of a run of several shapes: what came out of each, beside each other, then each one's own sections."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tuner.caveats import NONE, Caveats
from tuner.report import end_to_end, tables, units
from tuner.report.document import Document, Section

_WORST_FIRST = ("bad", "open", "good")


def build(
    run_id: str,
    summaries: Mapping[str, Mapping[str, Any]],
    documents: Mapping[str, Document],
    failed: Mapping[str, str],
) -> Document:
    """The whole report, from the summary and the report of each shape, by the shapes' names."""
    first = next(iter(documents.values()), None)
    title = "Tuning several shapes" if first is None else f"{first.title} for {len(summaries)} shapes"
    subtitle = f"run {run_id}" if first is None else first.subtitle.rpartition(" · ")[0] + f" · run {run_id}"
    sentences = [f"{name}: {document.headline.sentences[0]}" for name, document in documents.items()]
    sentences += [f"{name} has no result: {why.splitlines()[0]}" for name, why in failed.items()]
    outcomes = [document.headline.outcome for document in documents.values()] + ["bad"] * len(failed)
    worst = min(outcomes, key=_WORST_FIRST.index, default="open")
    headline = end_to_end.Headline(worst, tuple(sentences) or ("No shape has a result.",))
    sections = [Section("Shapes", _WORDS, table=_table(summaries, failed))]
    for name, document in documents.items():
        sections.append(Section(f"Shape {name}", document.headline.sentences))
        sections += [_of_shape(section, name) for section in document.sections]
    return Document(title, subtitle, headline, tuple(sections))


_WORDS = (
    "Each shape was imported, tuned, verified and compared by itself; records are shared, so that a kernel that two"
    " shapes have was measured once. Speedups are those of the paired comparisons.",
)


def _table(summaries: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]) -> tables.Table:
    caveat = next((Caveats.of_summary(summary).model for summary in summaries.values()), NONE)
    headers = (
        "shape", "inputs", caveat.beside("tuned"), "speedup over untuned", caveat.beside("best baseline"), "speedup",
        "verdict", "verified",
    )  # fmt: skip
    rows = [_row(name, summary) for name, summary in summaries.items()]
    rows += [(name, "", *[units.MISSING] * 5, "no result") for name in failed]
    return tables.Table(headers, tuple(rows), words=frozenset({0, 1, 4, 6, 7}))


def _row(name: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    shapes = ", ".join(f"{key} {'x'.join(map(str, shape))}" for key, shape in summary["model"]["inputs"].items())
    entries = end_to_end.entries(summary)
    if not entries or entries[0].median_s is None:
        return (name, shapes, *[units.MISSING] * 5, "not timed")
    tuned, untuned, *baselines = entries
    best = end_to_end.best_of(baselines)
    verified = {True: "yes", False: "NO", None: "not checked"}[summary["end_to_end"]["verified"]]
    return (
        name,
        shapes,
        units.milliseconds(tuned.median_s),
        _speedup(untuned),
        units.MISSING if best is None else f"{best.name}, {units.milliseconds(best.median_s)}",
        units.MISSING if best is None else _speedup(best),
        units.MISSING if best is None or best.label is None else str(best.label),
        verified,
    )


def _speedup(entry: end_to_end.Entry) -> str:
    return units.MISSING if entry.speedup is None else units.speedup(entry.speedup)


def _of_shape(section: Section, name: str) -> Section:
    """A section with the shape in its title, and pictures that are its own."""
    pictures = tuple(dataclasses.replace(picture, name=f"{name}-{picture.name}") for picture in section.pictures)
    return dataclasses.replace(section, title=f"{section.title} ({name})", pictures=pictures)
