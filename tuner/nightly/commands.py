"""`tuner history`: one action on the history, as tables and lines to print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import UserError
from tuner.nightly import browse
from tuner.nightly.browse import Rows
from tuner.progress import Progress, counted
from tuner.store import salvage
from tuner.store.history import History

_USAGE = {
    "list": "", "show": "CELL", "regressions": "", "accept": "CELL --why TEXT", "bisect": "CELL GOOD BAD",
    "backfill": "CELL|all COMMIT|A..B ...", "export": "FILE", "import": "FILE",
}  # fmt: skip
_COUNT = {"show": 1, "accept": 1, "bisect": 3, "backfill": 2, "export": 1, "import": 1}
"""Arguments of each action, 0 where it is not here; backfill may have more."""
_MAKING = ("import", "backfill", "bisect")
"""What may be the first that is done with a history. A damaged database is set aside by these alone."""
_WRITING = (*_MAKING, "accept")

Answer = tuple[Sequence[Rows], Sequence[str]]


@dataclass(frozen=True)
class Request:
    """What stands on the command line: an action, what it is of, and where the nights are."""

    action: str
    what: Sequence[str]
    why: str | None = None
    night: str | None = None
    database: str | None = None


def history(request: Request, progress: Progress) -> Answer:
    """Do one action. Returns tables and lines. Raises TunerError."""
    action, what = request.action, request.what
    count = min(len(what), 2) if action == "backfill" else len(what)
    if count != _COUNT.get(action, 0):
        given = counted(len(what), "argument")
        raise UserError(f"history {action}: {given}", f"write: tuner history {action} {_USAGE[action]}".rstrip())
    url = browse.database_of(request.night, request.database)
    notes: list[str] = []
    if action in _MAKING:
        salvage.open_store(url, notes.append).close()
    else:
        browse.require(url)
    with History(url, reading=action not in _WRITING) as stored:
        tables, lines = _act(stored, request, progress)
        if stored.damaged:
            notes.append(f"damaged rows of the history that were skipped: {stored.damaged}")
    return tables, [*lines, *notes]


def _act(stored: History, request: Request, progress: Progress) -> Answer:
    action, what = request.action, request.what
    if action == "list":
        rows = browse.listed(stored)
        return ([rows], []) if len(rows) > 1 else ([], ["no night was stored yet: python -m tuner nightly NIGHT"])
    if action == "show":
        return browse.shown(stored, what[0]), []
    if action == "regressions":
        rows = browse.regressions(stored)
        return ([rows], []) if len(rows) > 1 else ([], ["no regression stands, and no cell is broken"])
    if action == "accept":
        return [], browse.accept(stored, what[0], request.why or "")
    if action == "export":
        return [], [f"{what[0]}: {counted(browse.write(stored, Path(what[0])), 'line')}"]
    if action == "import":
        added, bad = browse.read(stored, Path(what[0]))
        damage = f"; {browse.left_out(bad)}" if bad else ""
        return [], [f"{added} added: nights, results and acceptances{damage}"]
    return _elsewhere(stored, request, progress)


def _elsewhere(stored: History, request: Request, progress: Progress) -> Answer:
    """The actions that measure other commits."""
    from tuner.nightly.backfill import backfill
    from tuner.nightly.bisect import bisect
    from tuner.nightly.config import load

    config = load(request.night or "")
    cell, *at_commits = request.what
    if request.action == "backfill":
        with _goes_on("every commit that was finished is stored; the same command goes on with the others"):
            return [], backfill(stored, config, cell, at_commits, progress)
    good, bad = at_commits
    with _goes_on("nothing of a bisection is stored; the same command begins again"):
        return [], bisect(stored, config, cell, good, bad, progress=progress)


@contextmanager
def _goes_on(how: str) -> Iterator[None]:
    """An interrupt says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how) from None
