"""The record database: every trial, failures included, in SQLite or another database that SQLAlchemy can reach.

Records are only appended. A row that cannot be understood is skipped and counted; it never ends a run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tuner.errors import DamagedStore, StoreError
from tuner.records import Record
from tuner.store import engine as engines
from tuner.store import rows, schema
from tuner.store.schema import SCHEMA_VERSION, environments, feature_columns, records, runs

__all__ = ["SCHEMA_VERSION", "SqlStore"]


def _select_raw(table: sa.Table) -> sa.Select[*tuple[Any, ...]]:
    """Values as the driver gives them: a converter that fails on one damaged row would end the whole query."""
    return sa.select(*(sa.type_coerce(column, sa.types.NullType()).label(column.name) for column in table.columns))


class SqlStore:
    """A RecordStore behind a SQLAlchemy URL, e.g. `sqlite:///results/records.db` or `sqlite://` (in memory).

    SQLite: missing folders are made; several processes may append at the same time, one after another. What was
    appended survives the death of this process and a power cut (write-ahead log, `synchronous = FULL`).
    PostgreSQL: `postgresql+psycopg://user@host/name`, with the extra `postgres`.

    `quarantined` counts the rows read so far that could not be understood; they are skipped.
    Every method raises StoreError, naming the URL without its password, when the database fails, and DamagedStore when
    the file of a SQLite database is damaged.
    """

    def __init__(self, url: str) -> None:
        """Open the database. Makes one where there is none, and migrates one of an earlier schema.

        Raises StoreError, also for a newer schema.
        """
        parsed, self._engine, self._writer = engines.make(url)
        self.path = engines.file_of(parsed)
        self.shown = parsed.render_as_string(hide_password=True)
        self._bad_rows: set[object] = set()
        self._written: set[tuple[str, str]] = set()  # table and id of rows that others refer to
        self._columns: dict[object, tuple[str, ...]] = {}
        try:
            with self._failures_named():
                if self.path is not None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                schema.ensure(self._engine, self._writer, self.shown)
        except StoreError:
            self.close()
            raise

    @property
    def quarantined(self) -> int:
        return len(self._bad_rows)

    def append(self, new: Sequence[Record]) -> None:
        """Store all of `new` or, on StoreError, none. Integers are limited to 64 bits; texts hold no NUL."""
        if not new:
            return
        with self._failures_named():
            encoded = [rows.encode(record) for record in new]
            begun = {record.run_id: record.created_at for record in reversed(new)}
            named = {row["columns_id"]: record.columns for row, record in zip(encoded, new, strict=True)}
            columns = {key: names for key, names in named.items() if key is not None and key not in self._columns}
            shared = [(runs, {"id": run_id, "begun_at": at, "ended": 0}) for run_id, at in begun.items()]
            shared += [(feature_columns, {"id": key, "names": json.dumps(names)}) for key, names in columns.items()]
            self._insert(shared, encoded)
            self._columns.update(columns)

    def add_environment(self, environment_id: str, facts: Mapping[str, Any]) -> None:
        """Store the facts behind an id of `tuner.environment`, unless they are there. Raises TypeError for no JSON."""
        content = json.dumps(dict(facts), sort_keys=True)
        with self._failures_named():
            rows.refuse_nul("environment", environment_id)
            self._insert([(environments, {"id": environment_id, "facts": content})], [])

    def environment(self, environment_id: str) -> dict[str, Any] | None:
        """The facts that were stored under an id; None where there are none, or none that can be understood."""
        query = _select_raw(environments).where(environments.c.id == environment_id)
        with self._failures_named(), self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        try:
            return None if row is None else rows.decode_facts(row["facts"])
        except rows.DAMAGE:
            self._bad_rows.add((environments.name, environment_id))
            return None

    def _insert(self, shared: list[tuple[sa.Table, dict[str, Any]]], encoded: list[dict[str, Any]]) -> None:
        """Insert records, and before them the rows of other tables, `shared`, that are not there yet."""
        shared = [(table, row) for table, row in shared if (table.name, row["id"]) not in self._written]
        if not shared and not encoded:
            return
        for attempts_left in reversed(range(len(shared) + 1)):
            try:
                with self._writer.begin() as connection:
                    for table, row in shared:
                        _ensure(connection, table, row)
                    if encoded:
                        connection.execute(sa.insert(records), encoded)
                break
            except IntegrityError:
                if not attempts_left:  # else another process may have inserted a shared row in between
                    raise
        self._written.update((table.name, row["id"]) for table, row in shared)

    def read(
        self, *, scope: str | None = None, task_key: str | Collection[str] | None = None, run_id: str | None = None
    ) -> list[Record]:
        """The records that match everything given, in the order in which they were appended.

        `task_key`: one, or any of several. Features come back rounded to float32; everything else is equal to what
        was appended. Records whose features have the same names share one tuple of them. Where the names are damaged,
        that is one quarantined row, and the records have their features without names.
        """
        query = _select_raw(records).order_by(records.c.id)
        for name, value in {"scope": scope, "task_key": task_key, "run_id": run_id}.items():
            if value is not None:
                column = records.c[name]
                query = query.where(column == value if isinstance(value, str) else column.in_(value))
        decoded: list[Record] = []
        with self._failures_named(), self._engine.connect() as connection:
            selected = connection.execute(query).mappings()
            self._read_columns(connection)  # after the records, so that another process cannot add to them in between
            for row in selected:
                if row["columns_id"] not in self._columns and row["columns_id"] is not None:
                    self._bad_rows.add((feature_columns.name, row["columns_id"]))
                try:
                    decoded.append(rows.decode(row, self._columns))
                except rows.DAMAGE:
                    self._bad_rows.add(row["id"])
        return decoded

    def _read_columns(self, connection: sa.Connection) -> None:
        for row in connection.execute(_select_raw(feature_columns)).mappings():
            if row["id"] not in self._columns:
                try:
                    self._columns[row["id"]] = rows.decode_columns(row)
                except rows.DAMAGE:
                    self._bad_rows.add((feature_columns.name, row["id"]))

    def end(self, run_id: str) -> None:
        """Note that a run has measured everything it was going to. Does nothing for a run without records."""
        with self._failures_named(), self._writer.begin() as connection:
            connection.execute(sa.update(runs).where(runs.c.id == run_id).values(ended=1))

    def ended(self) -> frozenset[str]:
        """The ids of the runs that were ended: not of those that were killed or interrupted, or still go on."""
        with self._failures_named(), self._engine.connect() as connection:
            return frozenset(connection.scalars(sa.select(runs.c.id).where(runs.c.ended == 1)))

    def check(self) -> None:
        """Read every page of a SQLite file (about a second a GB). Raises DamagedStore where one is damaged."""
        if self._engine.dialect.name != "sqlite":
            return  # a server checks its own pages
        with self._failures_named(), self._engine.connect() as connection:
            result = connection.scalar(sa.text("PRAGMA quick_check(1)"))
        if result != "ok":
            told = [line for line in str(result).splitlines() if not line.startswith("***")]  # a title
            raise DamagedStore(f"database {self.shown} is damaged: {' '.join(told[:1]) or 'a page cannot be read'}")

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, OverflowError, ValueError, struct.error) as error:
            raise engines.store_error(self.shown, error) from error


def _ensure(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> None:
    """Insert a row that is not there; put right the content of one whose id is a hash of it."""
    stored = connection.execute(_select_raw(table).where(table.c.id == row["id"])).mappings().first()
    if stored is None:
        connection.execute(sa.insert(table), row)
    elif table is not runs and dict(stored) != row:  # damaged
        connection.execute(sa.update(table).where(table.c.id == row["id"]).values(row))
