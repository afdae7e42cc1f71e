"""SQLAlchemy engines with this program's settings, and a database's errors as StoreErrors with a hint."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tuner.errors import DamagedStore, DatabaseUrlError, StoreError

_BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another process's transaction. An append takes milliseconds."""

_CONNECT_TIMEOUT_S = 10

_KEYS = "a run file's `measure.database`, `database` in the file of a night, or `--database`"
"""Where a database is chosen."""

_HINTS = {
    "SQLITE_NOTADB": f"it is not a SQLite database; choose another file ({_KEYS})",
    "SQLITE_CORRUPT": "it is damaged, and stays as it is: the next run or night sets it aside, and goes on with all "
    "records and nights that can still be read",
    "SQLITE_CANTOPEN": "check that it is a file, in a folder you may write to",
    "SQLITE_READONLY": f"it is read-only here; make it writable, or choose another one ({_KEYS})",
    "SQLITE_FULL": "the disk is full; free some space and run again: everything stored so far is safe",
    "SQLITE_IOERR": "the disk refused; check its space, its quota and its health: everything stored so far is safe",
    "SQLITE_BUSY": "another process keeps it locked; wait for that process or end it",
}
_ELSEWHERE = "check that the database is up, that its driver is installed, and its URL"


def make(url: str, *, reading: bool = False) -> tuple[sa.URL, sa.Engine, sa.Engine]:
    """The parsed URL, an engine for reading, and the same engine for writing. Raises DatabaseUrlError.

    `reading`: nothing is ever written through it, so that it does with a SQLite file that cannot be written.
    """
    try:
        parsed = sa.make_url(url)
        timeout = {"connect_timeout": _CONNECT_TIMEOUT_S} if parsed.get_backend_name() == "postgresql" else {}
        opened = _for_reading(parsed) if reading else parsed
        engine = sa.create_engine(opened, pool_pre_ping=True, connect_args=timeout)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        shown = re.sub(r"//.*@", "//***@", url)  # it may not parse: the password is removed by hand
        raise DatabaseUrlError(
            f"database {shown}: not a URL that can be opened here ({type(error).__name__})",
            "write it like sqlite:///results/records.db; other databases need their driver installed "
            "(PostgreSQL: pip install '.[postgres]', and postgresql+psycopg://...)",
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite_to_read if reading else _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return parsed, engine, engine.execution_options(tuner_writes=True)


def file_of(url: sa.URL) -> Path | None:
    """The file of a SQLite database; None for one in memory and for other databases."""
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return Path(path)


def _for_reading(url: sa.URL) -> sa.URL:
    """The URL under which a SQLite file is read: as one that is never made, whether or not it can be written.

    A log (`-wal`) that a writer left is read, too. Where there is none and none can be made, nobody writes to it.
    """
    file = file_of(url)
    if file is None:
        return url
    options = {"uri": "true", "mode": "rw"}  # what SQLite makes beside it to read, it then takes away again
    if not (os.access(file, os.W_OK) and os.access(file.absolute().parent, os.W_OK)):
        options["mode"] = "ro"
        if not file.with_name(f"{file.name}-wal").exists():
            options["immutable"] = "1"
    return url.set(database=f"file:{quote(str(file.absolute()))}").update_query_dict(options)


def _set_up_sqlite(connection: Any, _pool_entry: object) -> None:
    _set_up_any_sqlite(connection)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a commit survives a power cut, for some milliseconds each
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _set_up_sqlite_to_read(connection: Any, _pool_entry: object) -> None:
    _set_up_any_sqlite(connection)
    connection.execute("PRAGMA query_only = ON")


def _set_up_any_sqlite(connection: Any) -> None:
    # Bytes that are no UTF-8 must reach the decoder of rows, which refuses only the row that holds them.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once when another one wrote in between, whatever the
    # busy timeout. BEGIN IMMEDIATE waits at the beginning instead.
    writes = connection.get_execution_options().get("tuner_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def store_error(shown: str, error: Exception) -> StoreError:
    """The StoreError, or DamagedStore, for an error of the database or its driver."""
    if not isinstance(error, SQLAlchemyError):
        return StoreError(f"database {shown}: {error}", _ELSEWHERE)
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    code = getattr(cause, "sqlite_errorname", "")
    hint = next((text for name, text in _HINTS.items() if code.startswith(name)), _ELSEWHERE)
    kind = DamagedStore if code.startswith("SQLITE_CORRUPT") else StoreError
    return kind(f"database {shown}: {' '.join(str(cause).split())}", hint)
