"""A SQLite database with a damaged page: set aside, never deleted; its readable records go into a new one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tuner.errors import DamagedStore
from tuner.files import locked, set_aside
from tuner.progress import counted
from tuner.records import Record, require_text
from tuner.store import SqlStore, engine, history, rows


def open_store(url: str, say: Callable[[str], None]) -> SqlStore:
    """The checked store at `url`. A damaged SQLite file is renamed, and a new one is begun with its readable records.

    `say` gets a sentence about it. Raises StoreError as `SqlStore` does, and OutputError when the file cannot be
    renamed.
    """
    parsed, *_ = engine.make(url)
    path = engine.file_of(parsed)
    try:
        return _checked(url)
    except DamagedStore as error:
        if path is None:
            raise
        reason = error.message
    with locked(path.with_name(f".{path.name}.lock"), "a damaged database is being set aside", passing=True):
        with contextlib.suppress(DamagedStore):
            return _checked(url)  # another process was quicker
        fresh = path.with_name(f".{path.name}.salvage")
        for left in path.parent.glob(f"{fresh.name}*"):
            left.unlink()  # of an attempt that was killed
        restored = list(readable(path))
        with SqlStore(parsed.set(database=str(fresh)).render_as_string(hide_password=False)) as store:
            store.append(restored)
            for run in _ended(path):
                store.end(run)
            for environment_id, facts in _environments(path):
                store.add_environment(environment_id, facts)
        nights = history.restore(parsed.set(database=str(fresh)).render_as_string(hide_password=False), _history(path))
        aside = set_aside(path, ("-wal", "-shm"), instead=fresh)
    told = counted(len(restored), "record")
    if nights is not None:
        told += f" and {counted(nights[0], 'night')} with {counted(nights[1], 'result')}"
    say(f"{reason}; set aside as {aside.name}, and a new one begun with the {told} that can be read")
    return SqlStore(url)


def _checked(url: str) -> SqlStore:
    store = SqlStore(url)
    try:
        store.check()
    except DamagedStore:
        store.close()
        raise
    return store


def readable(path: Path) -> Iterator[Record]:
    """The records of a damaged database that can still be read, in their order.

    From both ends up to the first damage, and those between one by one.
    """
    with contextlib.closing(_open(path)) as connection:
        columns = dict(_columns(connection))
        first = {row["id"]: row for row in _until_damage(connection, "records", "ASC") if isinstance(row["id"], int)}
        last = {row["id"]: row for row in _until_damage(connection, "records", "DESC") if isinstance(row["id"], int)}
        by_id = first | last
        if first and last:
            for number in range(max(first) + 1, min(last)):
                with contextlib.suppress(sqlite3.DatabaseError):
                    for row in connection.execute("SELECT * FROM records WHERE id = ?", (number,)):
                        by_id[number] = dict(row)
    for number in sorted(by_id):
        with contextlib.suppress(*rows.DAMAGE):
            yield rows.decode(by_id[number], columns)


def _columns(connection: sqlite3.Connection) -> Iterator[tuple[object, tuple[str, ...]]]:
    for order in ("ASC", "DESC"):
        for row in _until_damage(connection, "feature_columns", order):
            with contextlib.suppress(*rows.DAMAGE):
                yield row["id"], rows.decode_columns(row)


def _environments(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with contextlib.closing(_open(path)) as connection:
        for order in ("ASC", "DESC"):
            for row in _until_damage(connection, "environments", order):
                with contextlib.suppress(*rows.DAMAGE):
                    yield require_text(row["id"]), rows.decode_facts(row["facts"])


def _history(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of the nights' tables, by table, from both ends up to the first damage."""
    found = {}
    with contextlib.closing(_open(path)) as connection:
        for table in history.TABLES:
            key = next(iter(table.primary_key.columns)).name
            rows_by_key = {
                row[key]: row for order in ("DESC", "ASC") for row in _until_damage(connection, table.name, order)
            }
            found[table.name] = [rows_by_key[k] for k in sorted(rows_by_key, key=lambda k: (str(type(k)), k))]
    return found


def _until_damage(connection: sqlite3.Connection, table: str, order: str) -> Iterator[dict[str, Any]]:
    """The rows of a table from one end up to the first damage; none where an earlier schema has no such table."""
    with contextlib.suppress(sqlite3.DatabaseError):
        for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid {order}"):  # noqa: S608 - our own names
            yield dict(row)


def _ended(path: Path) -> list[str]:
    with contextlib.closing(_open(path)) as connection, contextlib.suppress(sqlite3.DatabaseError):
        return [row["id"] for row in connection.execute("SELECT id FROM runs WHERE ended = 1")]
    return []


def _open(path: Path) -> sqlite3.Connection:
    # Read-only: the file that is set aside stays as it is.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.row_factory = sqlite3.Row
    return connection
