"""What the report of a run says of the nights: how its model stands since the last one, and where its history is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.errors import StoreError
from tuner.progress import milliseconds
from tuner.store.history import History

_SEARCHED = "searched"


def since_last_night(database: str, summary: Mapping[str, Any]) -> Sequence[str]:
    """A sentence for each cell of a run's model in the history that the record database holds; none without nights."""
    tuned_s = (summary.get("end_to_end") or {}).get("tuned_s")
    try:
        if tuned_s is None or not History.is_in(database):
            return ()
        with History(database) as history:
            return [*_sentences(history, summary, tuned_s)]
    except StoreError:
        return ()  # the report is of the run: it does without


def _sentences(history: History, summary: Mapping[str, Any], tuned_s: float) -> Sequence[str]:
    said = []
    for cell, name in history.cells():
        last = history.latest(cell)
        if last is None or last.cell.source.partition("#")[0] != summary["model"]["source"]:
            continue
        there_s = last.seconds.get(_SEARCHED)
        where = f"its history: python -m tuner history show {shlex.quote(name)}"
        if there_s is None:
            said.append(f"Since last night, cell {name} (night {last.night}): {last.outcome}; {where}")
            continue
        said.append(
            f"Since last night, cell {name} (night {last.night}, {last.outcome}): {milliseconds(tuned_s)} here, "
            f"{milliseconds(there_s)} there, {tuned_s / there_s - 1:+.1%}. Not interleaved: this is no verdict; {where}"
        )
    return said
