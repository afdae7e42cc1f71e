"""The record database: there, whole, of the right schema, and not locked."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from tuner.devices.finding import Finding, Findings, State
from tuner.doctor.machine import folder

_BUSY_S = 5.0
_ANOTHER = "choose another one with measure.database"
_MOVE = "move it away, with its -wal and -shm files; a new one is started"


def database(url: str) -> Findings:
    """A SQLite file is only read; another database is opened as a run opens it, which creates missing tables."""
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.startswith((":memory:", "file:")) or "?" in path:
        from tuner.store import SqlStore

        with SqlStore(url):
            yield Finding("database", State.OK, f"{url.partition(':')[0]} answers")
    elif not Path(path).exists():
        yield from folder("database", Path(path).parent, "choose another one with measure.database")
    else:
        yield _file(Path(path))


def _file(path: Path) -> Finding:
    from tuner.store import SCHEMA_VERSION

    def broken(problem: str, advice: str) -> Finding:
        return Finding("database", State.BROKEN, f"{path}: {problem}", advice)

    try:
        address = f"file:{quote(str(path.absolute()))}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as connection:
            damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if damage != "ok":
                return broken(f"damaged: {str(damage).splitlines()[-1]}", _MOVE)
            connection.execute("BEGIN IMMEDIATE")  # whether it may be written, and nobody holds it
            connection.execute("ROLLBACK")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables:
                return Finding("database", State.OK, f"{path}: empty")
            if not {"records", "schema_version"} <= tables:
                return broken("is the database of another program", _ANOTHER)
            versions = [version for (version,) in connection.execute("SELECT version FROM schema_version")]
            if len(versions) != 1 or versions[0] not in range(1, SCHEMA_VERSION + 1):
                return broken(f"schema {versions}, this program knows {SCHEMA_VERSION}", f"update, or {_ANOTHER}")
            [count] = connection.execute("SELECT count(*) FROM records").fetchone()
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        return broken(str(error), _ADVICE.get(code.removesuffix("_ROLLBACK"), f"see the message, or {_ANOTHER}"))
    return Finding("database", State.OK, f"{path}: whole, schema {versions[0]}, {count} records")


_ADVICE = {
    "SQLITE_NOTADB": f"it is not a SQLite database: {_ANOTHER}",
    "SQLITE_CORRUPT": _MOVE,
    "SQLITE_BUSY": "another process keeps it locked: wait for it, or end it",
    "SQLITE_READONLY": f"make it writable, or {_ANOTHER}",
    "SQLITE_CANTOPEN": "it must be a file, in a folder that you may write to",
}
