"""The page of a kernel's ladder, and its file, in the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuner.files import write_aside
from tuner.report import figures, html, ladder, units
from tuner.report.document import Document, Section
from tuner.report.end_to_end import Headline

_SHOWN_LINES = 400
"""Of a kernel's code in the page of a kernel."""


def write(run: Path, told: Mapping[str, Any]) -> None:
    """Store a ladder in the folder of its run, and its page. Raises OutputError."""
    folder = run / ladder.FOLDER
    write_aside(folder / f"{told['task']}.json", json.dumps(told, indent=1).encode() + b"\n")
    write_aside(folder / f"{told['task']}.html", html.render(page(told)).encode(errors="replace"))


def page(told: Mapping[str, Any]) -> Document:
    """The page of one kernel."""
    drawn = figures.ladder(told)
    made = [
        Section("Steps", tuple(_notes(told)), () if drawn is None else (drawn,), ladder.table(told)),
        *(
            Section(f"{number}. {rung['title']}", tuple(ladder.sentences(rung)), code=rung["tree"])
            for number, rung in enumerate(told["rungs"])
        ),
    ]
    listing = told["listing"]
    note = (f"{listing['note'].capitalize()}.",) if listing["note"] else ()
    if listing["hot"]:
        made.append(Section(f"The hottest loop ({listing['language']})", code=listing["hot"]))
    made.append(Section(f"Code ({listing['language'] or 'none'})", note, code=_cut(listing["code"]) or None))
    facts = [str(told["device"] or ""), f"{told['threads']} threads", f"task {told['task']}", f"run {told['run']}"]
    subtitle = " · ".join(fact for fact in facts if fact)
    said = (*ladder.headline(told), *ladder.caveat_of(told).sentences)
    return Document(f"Kernel {told['name']}", subtitle, Headline("open", said), tuple(made))


def _notes(told: Mapping[str, Any]) -> Iterator[str]:
    yield from ladder.caveat_of(told).sentences
    yield (
        "Each step is a program of its own: built, checked, and timed interleaved with the others. “Speedup”"
        " is against the timed step before."
    )
    if any(rung["predicted_s"] is not None for rung in told["rungs"]):
        yield (
            "“Predicted” is what a cost model expects that was trained on this run's trials of the kernel, which were"
            " whole schedules only; of a GPU's kernels without enough trials, what the analytical model expects."
        )
    if told["lower_bound_s"]:
        yield f"This machine cannot do it in less than {units.duration(told['lower_bound_s'])} (roofline)."


def _cut(code: str) -> str:
    lines = code.splitlines()
    rest = len(lines) - _SHOWN_LINES
    return "\n".join([*lines[:_SHOWN_LINES], *([f"... and {rest} more lines"] if rest > 0 else [])])
