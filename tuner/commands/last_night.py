"""What the report of a run says of the nights: how its model stands since the last one, and where its history is."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.caveats import Caveat, Caveats
from tuner.errors import StoreError
from tuner.nights import CellNight, Since
from tuner.progress import milliseconds
from tuner.store.history import History

_SEARCHED = "searched"


def since_last_night(database: str, summary: Mapping[str, Any], folder: Path) -> Sequence[Since]:
    """What is said of each cell of a run's model in the history that the record database holds; nothing without nights.
    Its page is named as seen from the run's `folder`."""
    tuned_s = (summary.get("end_to_end") or {}).get("tuned_s")
    try:
        if tuned_s is None or not History.is_in(database):
            return ()
        with History(database, reading=True) as history:
            return [*_of_cells(history, summary, tuned_s, folder)]
    except StoreError:
        return ()  # the report is of the run: it does without


def _of_cells(history: History, summary: Mapping[str, Any], tuned_s: float, folder: Path) -> Iterator[Since]:
    sites = {night.id: night.site for night in history.nights()}
    caveat = Caveats.of_summary(summary).model
    for cell, name in history.cells():
        last = history.latest(cell)
        if last is None or last.cell.source.partition("#")[0] != summary["model"]["source"]:
            continue
        page = Path(sites.get(last.night, "")) / "cells" / f"{cell}.html"
        yield Since(
            name, f"Since last night, cell {name} (night {last.night}{_stands(last, tuned_s, caveat)}; "
            f"its history: python -m tuner history show {shlex.quote(name)}",
            os.path.relpath(page, folder) if page.is_file() else "",
        )  # fmt: skip


def _stands(last: CellNight, tuned_s: float, here: Caveat) -> str:
    there_s = last.seconds.get(_SEARCHED)
    if there_s is None:
        return f"): {last.outcome}"
    return (
        f", {last.outcome}): {here.beside(milliseconds(tuned_s))} here, "
        f"{last.caveat.beside(milliseconds(there_s))} there, "
        f"{tuned_s / there_s - 1:+.1%}. Not interleaved: this is no verdict"
    )
