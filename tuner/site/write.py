"""Writing the site into a folder: one pass over the history, a cell at a time."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tuner.errors import OutputError, UserError
from tuner.files import finish_replacing, locked, replace_folder
from tuner.nightly import browse
from tuner.nightly.config import load
from tuner.nightly.spaces import SERIES as SPACE
from tuner.nightly.statistics import COLD
from tuner.nightly.verdicts import CODE, COLD_MACHINE, COLD_SEARCH, SEARCH, WHOLE
from tuner.nights import CellNight, Night, Outcome
from tuner.progress import counted
from tuner.site import cell as cells
from tuner.site import feed, pages
from tuner.site.past import Past, past_of
from tuner.store.history import History

_MARK = "tuner-site"
"""A file in every site: only a folder that has it, or an empty one, is replaced."""

_STATIC = ("site.css", "site.js")


@dataclass(frozen=True)
class Site:
    """What was written."""

    folder: Path
    nights: int
    cells: int


def write(history: History, out: Path, url: str = "") -> Site:
    """Make the site of a history in the folder `out`: the old one stays until the new one is whole.

    `url`: where it will be published, for the feed's links. Raises UserError where `out` has other files, StoreError
    where the history cannot be read, OutputError where `out` cannot be written.
    """
    shown, out = out, out.absolute()
    folder = out.parent / f".{out.name}.new"
    with locked(out.parent / f".{out.name}.lock", "a site is being written", of=str(shown), passing=True):
        try:
            finish_replacing(out)
            _require_own(out, shown)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            site = _Writer(history, folder).execute(url)
            replace_folder(folder, out)
        except OSError as error:
            raise OutputError(
                f"{shown} cannot be written: {error.strerror or error}", "choose another folder"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return Site(shown, *site)


def of_database(database: str, out: Path, url: str = "") -> str:
    """Write the site of the history at a database URL; returns a sentence. Raises as `write`, and UserError."""
    browse.require(database)
    with History(database, reading=True) as history:
        made = write(history, out, url)
        damaged = f"; damaged rows of the history that were skipped: {history.damaged}" if history.damaged else ""
    told = f"{counted(made.cells, 'cell')}, {counted(made.nights, 'night')}"
    return f"site: {made.folder / 'index.html'}, {told}{damaged}"


def of_lines(lines: Path, out: Path, url: str = "") -> str:
    """Write the site of a history in a file of JSON lines; returns a sentence. Raises as `write`, and UserError."""
    with tempfile.TemporaryDirectory(prefix="tuner-site-") as folder:
        database = f"sqlite:///{folder}/history.db"
        with History(database) as history:
            bad = browse.read(history, lines)[1]
        said = of_database(database, out, url)
    return f"{said}; {browse.left_out(bad)}" if bad else said


def after_night(night_file: str) -> str:
    """Write the site of a night's history beside its results; returns a sentence. Raises as `write`."""
    config = load(night_file)
    return of_database(config.database, Path(config.out) / "site", config.url)


def _require_own(out: Path, shown: Path) -> None:
    if out.resolve() == Path.cwd():
        raise UserError(f"{shown} is the folder you are in, which a site replaces", "name a folder in it")
    if out.exists() and not out.is_dir():
        raise UserError(f"{shown} is a file, not a folder", "choose another folder")
    if out.is_dir() and any(out.iterdir()) and not (out / _MARK).exists():
        raise UserError(f"{shown} has files that are no site", "choose another folder, or an empty one")


class _Writer:
    def __init__(self, history: History, folder: Path) -> None:
        self._history = history
        self._folder = folder
        self._pages = pages.Pages()

    def execute(self, url: str) -> tuple[int, int]:
        """Numbers of nights and cells."""
        nights = self._history.nights()
        by_id = {night.id: night for night in nights}
        accepted = self._history.acceptances()
        told = pages.Overview(nights)
        by_night: dict[str, dict[str, Any]] = {night.id: {} for night in nights}
        for cell_id, _ in self._history.cells():
            results = self._history.results(cell_id)
            past = past_of(results, by_id, [a for a in accepted if a.cell == cell_id])
            if past is None:
                continue
            self._cell(cell_id, past)
            told.add(cell_id, past)
            for result in results:
                if result.night in by_night:
                    by_night[result.night][cell_id] = _in_a_night(result)
        self._write("index.html", self._pages.overview(told))
        self._write("models.html", self._pages.models(told))
        self._write("machines.html", self._pages.machines(told))
        self._write("compare.html", self._pages.compare(nights))
        self._write("feed.xml", feed.atom(told, url))
        self._nights(nights, by_night, told)
        for name in _STATIC:
            self._write(name, resources.files("tuner.site").joinpath("templates", name).read_text(encoding="utf-8"))
        self._write(_MARK, "made by tuner site\n")
        return len(nights), len(told.cells)

    def _cell(self, cell_id: str, past: Past) -> None:
        self._write(f"cells/{cell_id}.html", self._pages.cell(cell_id, past))
        self._write(f"data/cells/{cell_id}.json", _json(cells.for_machines(past)))

    def _nights(self, nights: Sequence[Night], by_night: Mapping[str, Any], told: pages.Overview) -> None:
        for night in nights:
            data = {"night": night.to_json(), "cells": by_night[night.id]}
            text = _json(data)
            self._write(f"data/nights/{night.id}.json", text)
            # A page from a disk may load scripts, but no data: the comparison of two nights needs this form.
            self._write(f"data/nights/{night.id}.js", f"tunerNight({json.dumps(night.id)},{text.strip()});\n")
        index = {
            "nights": [{"id": n.id, "began_at": n.began_at, "commit": n.commit, "origin": n.origin} for n in nights],
            "cells": [
                {"id": cell_id, "name": past.key.name, "outcome": past.outcomes[-1], "night": past.nights[-1].id}
                for cell_id, past in told.cells.items()
            ],
        }
        self._write("data/index.json", _json(index))

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _in_a_night(result: CellNight) -> dict[str, Any]:
    """What the comparison of two nights shows of a cell."""
    shown: dict[str, Any] = {"name": result.cell.name, "outcome": result.outcome, "reference": result.reference}
    if result.seconds:
        shown["seconds"] = {name: float(f"{seconds:.6g}") for name, seconds in result.seconds.items()}
    if result.ratios:
        shown["log_ratios"] = {name: float(f"{value:.6g}") for name, value in result.ratios.items()}
    if thresholds := _thresholds(result):
        shown["thresholds"] = thresholds
    if result.outcome in (Outcome.MISSING, Outcome.BROKEN):
        shown["reason"] = result.reason
    return shown


def _thresholds(result: CellNight) -> dict[str, float]:
    """What two nights of a cell may differ by, as log ratios: that of its series against the reference or the optimum,
    and of the clock. What moves the whole by more than both of its parts may move has moved one of them."""
    known = {found.series: found.threshold for found in result.findings if found.threshold is not None}
    if WHOLE in result.ratios:  # a series whose first night it is has the threshold of a young one
        known.setdefault(WHOLE, known.get(CODE, COLD) + known.get(SEARCH, COLD_SEARCH))
    shown = {series: float(f"{known[series]:.6g}") for series in (WHOLE, SPACE) if series in known}
    return shown | ({"clock": COLD_MACHINE} if result.seconds else {})


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False) + "\n"
