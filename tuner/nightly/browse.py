"""Looking into the history: what `tuner history` lists, shows, accepts, writes and reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tuner import environment, files
from tuner.errors import UserError
from tuner.nightly.config import USUAL, NightConfig, load
from tuner.nightly.summary import change_of, main_finding, sentence, threshold_of, value_of, worst_first
from tuner.nights import Acceptance, CellKind, CellNight, Night, Outcome
from tuner.progress import counted, milliseconds
from tuner.schema import did_you_mean
from tuner.store import engine
from tuner.store.history import History

Rows = list[list[str]]

_SHOWN = 30  # nights of a cell


def database_of(config: str | None, url: str | None) -> str:
    """The URL of the history: as given, else that of the night's file; the usual file need not be there.

    Raises ConfigError, also for another file that is wrong beside a URL.
    """
    if config is None or (config == USUAL and (url is not None or not os.path.exists(config))):
        return url or NightConfig.database
    stated = load(config).database
    return url or stated


def require(url: str) -> None:
    """Raise UserError where the database at `url` has no nights: looking into it makes none. Raises StoreError."""
    if not History.is_in(url):
        shown = engine.make(url)[0].render_as_string(hide_password=True)
        raise UserError(f"database {shown}: no night was stored yet", "python -m tuner nightly NIGHT makes its history")


def listed(history: History) -> Rows:
    """One row a night, oldest first, under a row of titles."""
    rows = [["night", "begun", "commit", "branch", "origin", "cells", "verdicts"]]
    for night in history.nights():
        results = history.results(night=night.id)
        counts = {o: sum(r.outcome is o for r in results) for o in Outcome}
        words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "-"
        ended = night.origin if night.ended_at else f"{night.origin}, not ended"
        commit = night.commit[:12] + ("+" if "+" in night.commit else "")
        rows.append([night.id, night.began_at, commit, night.branch, ended, str(len(results)), words])
    return rows


def shown(history: History, cell: str) -> list[Rows]:
    """A cell's key, and its last nights, oldest first: values with the threshold beside them, causes, breaks, accepted
    changes."""
    cell_id = find(history, cell)
    results = history.results(cell_id)
    nights = {night.id: night for night in history.nights()}
    key = results[-1].cell
    facts = [[name, str(value)] for name, value in key.to_json().items() if value not in ("", 0)]
    values = ["searched"] if key.kind is CellKind.SPACE else ["searched", "rebuilt", "reference"]
    rows = [["night", "commit", "verdict", *values, "change", "threshold", "cause"]]
    accepted = {acceptance.night: acceptance for acceptance in history.acceptances(cell_id)}
    previous: CellNight | None = None
    for result in results[-_SHOWN:]:
        rows += _breaks(previous, result, nights)
        rows.append(_row(result, nights.get(result.night)))
        if result.night in accepted:
            rows.append(["", "", f"accepted: {accepted[result.night].why}"])
        previous = result
    told = [[f.outcome, sentence(f)] for f in results[-1].findings] + [["note", note] for note in results[-1].notes]
    return [[["cell", cell_id], *facts], rows, *([told] if told else [])]


def _row(result: CellNight, night: Night | None) -> list[str]:
    found = main_finding(result)
    values = [value_of(result)]
    if result.cell.kind is not CellKind.SPACE:
        seconds = [result.seconds.get(name) for name in ("searched", "rebuilt", "reference")]
        values = ["" if s is None else result.caveat.beside(milliseconds(s)) for s in seconds]
    return [
        result.night, "" if night is None else night.commit[:12], result.outcome,
        *(value or "-" for value in values), change_of(found) or "-", threshold_of(found) or "-",
        result.reason or ("" if found is None or found.cause is None else str(found.cause)),
    ]  # fmt: skip


def _breaks(before: CellNight | None, after: CellNight, nights: dict[str, Night]) -> Rows:
    """Rows that say where a series is interrupted: another device, reference or environment."""
    if before is None:
        return []
    said = []
    if before.cell.device != after.cell.device:
        said.append(f"another device: {after.cell.device or 'none'}")
    if before.reference and after.reference and before.reference != after.reference:
        said.append(f"another reference: night {after.reference}")
    then, now = nights.get(before.night), nights.get(after.night)
    if then is not None and now is not None and then.environment != now.environment:
        changed = [n for n in now.versions if then.versions.get(n) != now.versions[n]]
        said.append(f"another environment: {', '.join(changed) or 'the machine'}")
    return [["", "", f"-- {text}"] for text in said]


def regressions(history: History) -> Rows:
    """The alerts that stand, under a row of titles: of each cell what its last measured night confirmed to be worse, as
    long as nobody accepted it, and that it is broken. Of several cells with one name, the one that came last."""
    rows = [["cell", "night", "finding"]]
    ids = {name: cell_id for cell_id, name in history.cells()}
    for result in worst_first(result for cell_id in ids.values() for result in _standing(history, cell_id)):
        rows += [[result.cell.name, result.night, sentence(f)] for f in result.regressions]
        if result.outcome is Outcome.BROKEN:
            rows.append([result.cell.name, result.night, f"broken: {result.reason}"])
    return rows


def _standing(history: History, cell_id: str) -> list[CellNight]:
    """The nights of a cell whose alerts stand: the last measured one, and one after it in which the cell was broken."""
    results = history.results(cell_id)
    accepted = {acceptance.night for acceptance in history.acceptances(cell_id)}
    last = next((n for n in reversed(range(len(results))) if _measured(results[n])), -1)
    tried = [result for result in results[last + 1 :] if result.outcome is Outcome.BROKEN][-1:]
    stands = last >= 0 and results[last].regressions and results[last].night not in accepted
    return [results[last], *tried] if stands else tried


def _measured(result: CellNight) -> bool:
    return result.outcome not in (Outcome.MISSING, Outcome.BROKEN)


def accept(history: History, cell: str, why: str) -> list[str]:
    """Take what was found in a cell's last measured night as its new level. Returns sentences: what was accepted, and
    what a person may not have expected of it. Raises UserError."""
    if not why.strip():
        raise UserError(
            "--why: expected a reason", "say why this change is right: it stands beside the series for ever"
        )
    cell_id = find(history, cell)
    results = history.results(cell_id)
    measured = [result for result in results if _measured(result)]
    if not measured:
        raise UserError(f"{cell}: was never measured, so there is nothing to accept")
    night, last, name = measured[-1].night, results[-1], results[-1].cell.name
    before = next((a for a in history.acceptances(cell_id) if a.night == night), None)
    if before is not None:
        raise UserError(
            f"{name}: night {night} was accepted already, at {before.at}: {before.why}",
            "nothing was stored; the next measured night can be accepted",
        )
    commit = environment.capture()["git_revision"] or ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    history.accept(Acceptance(cell_id, night, why.strip(), now, commit))
    said = [f"{name}: what was found in night {night} is the level from now on: {why.strip()}"]
    if last is not measured[-1]:
        said.append(f"its last night {last.night} is {last.outcome} and cannot be accepted: {last.reason}")
    if not measured[-1].regressions:
        said.append(f"night {night} was no regression, but {measured[-1].outcome}{_because(measured[-1])}")
    return said


def _because(result: CellNight) -> str:
    found = main_finding(result)
    why = result.reason or ("" if found is None else sentence(found))
    return f": {why}" if why else ""


def find(history: History, cell: str) -> str:
    """The id of a cell, by its id, the beginning of it, or its name: of several the one that came last.

    Raises UserError.
    """
    known = history.cells()
    found = [i for i, name in known if name == cell] or [i for i, _ in known if cell and i.startswith(cell)]
    if found:
        return found[-1]
    names = sorted({name for _, name in known})
    hint = did_you_mean(cell, names) or (f"there are: {', '.join(names)}" if names else "no night was stored yet")
    raise UserError(f"no cell {cell!r} in the history", hint)


def write(history: History, path: Path) -> int:
    """Write the history as JSON lines; returns how many. Raises UserError for a folder, and for a file that is there
    and holds something else (the database itself, perhaps); OutputError."""
    if path.is_dir():
        raise UserError(f"{path} is a folder", f"name a file, e.g. tuner history export {path / 'nights.jsonl'}")
    lines = list(history.export())
    if path.is_file():
        with open(path, "rb") as file:
            begins = file.readline(1 << 12)
        if begins.strip() not in (b"", lines[0].encode()):
            raise UserError(f"{path} is there, and is no exported history", "name another file: it is not overwritten")
    files.write_aside(path, ("\n".join(lines) + "\n").encode())
    return len(lines)


def read(history: History, path: Path) -> tuple[int, int]:
    """Add what is in a file of JSON lines and not in the history; how many things, and how many lines that cannot be
    understood. Raises UserError."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return history.import_lines(_lines(file))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "give a file that `tuner history export` wrote") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}", "give a file that `tuner history export` wrote") from error


def left_out(lines: int) -> str:
    """What is said of lines that were not read."""
    return f"{counted(lines, 'line')} cannot be understood and {'was' if lines == 1 else 'were'} left out"


def _lines(file: Iterable[str]) -> Iterable[str]:
    return (line for line in file if line.strip())
