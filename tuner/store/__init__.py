"""The record database: every trial, failures included, in any database that SQLAlchemy can reach.

Rows are only ever appended. A row that cannot be understood costs that row, never the run.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tuner.errors import DamagedStore, StoreError
from tuner.records import Record
from tuner.store import engine as engines
from tuner.store import rows, schema
from tuner.store.schema import SCHEMA_VERSION, records, runs

__all__ = ["SCHEMA_VERSION", "SqlStore"]

# Values as the driver gives them: a converter that stumbles over one row would take the whole answer along.
_select_raw = sa.select(*(sa.type_coerce(column, sa.types.NullType()).label(column.name) for column in records.columns))


class SqlStore:
    """A RecordStore behind a SQLAlchemy URL, e.g. `sqlite:///results/records.db` or `sqlite://` (in memory).

    SQLite: missing folders are made; several processes may append at the same time, one after another. What was
    appended survives the death of this process and a power cut (write-ahead log, `synchronous = FULL`).
    PostgreSQL: `postgresql+psycopg://user@host/name`, with the extra `postgres`.

    `quarantined` counts the rows met so far that could not be understood; they are skipped.
    Every method raises StoreError, naming the URL without its password, when the database fails, and DamagedStore when
    the file of a SQLite database is damaged.
    """

    def __init__(self, url: str) -> None:
        """Open the database; where there is none, make one; one of an earlier schema is migrated.

        Raises StoreError, also for a newer schema.
        """
        parsed, self._engine, self._writer = engines.make(url)
        self.path = engines.file_of(parsed)
        self.shown = parsed.render_as_string(hide_password=True)
        self._bad_rows: set[object] = set()
        self._known_runs: set[str] = set()
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
            made = [rows.encode(record) for record in new]
            begun = {record.run_id: record.created_at for record in reversed(new)}
            self._add_runs({run: at for run, at in begun.items() if run not in self._known_runs}, made)
            self._known_runs.update(begun)

    def _add_runs(self, begun: dict[str, str], made: list[dict[str, object]]) -> None:
        for attempt in (1, 2):
            try:
                with self._writer.begin() as connection:
                    for run, at in begun.items():
                        if connection.scalar(sa.select(runs.c.id).where(runs.c.id == run)) is None:
                            connection.execute(sa.insert(runs), {"id": run, "begun_at": at, "ended": 0})
                    connection.execute(sa.insert(records), made)
                return
            except IntegrityError:
                if attempt == 2 or not begun:  # else another process may have added the run in between
                    raise

    def read(
        self, *, scope: str | None = None, task_key: str | Collection[str] | None = None, run_id: str | None = None
    ) -> list[Record]:
        """The records that match everything given, in the order in which they were appended.

        `task_key`: one, or any of several. Features come back rounded to float32; everything else is equal to what
        was appended.
        """
        query = _select_raw.order_by(records.c.id)
        for name, value in {"scope": scope, "task_key": task_key, "run_id": run_id}.items():
            if value is not None:
                column = records.c[name]
                query = query.where(column == value if isinstance(value, str) else column.in_(value))
        found: list[Record] = []
        with self._failures_named(), self._engine.connect() as connection:
            for row in connection.execute(query).mappings():
                try:
                    found.append(rows.decode(row))
                except rows.DAMAGE:
                    self._bad_rows.add(row["id"])
        return found

    def end(self, run_id: str) -> None:
        """Note that a run has measured all that it is going to. Nothing happens for a run without records."""
        with self._failures_named(), self._writer.begin() as connection:
            connection.execute(sa.update(runs).where(runs.c.id == run_id).values(ended=1))

    def ended(self) -> frozenset[str]:
        """The runs that were ended; a run that was killed or interrupted, or still goes on, is none of them."""
        with self._failures_named(), self._engine.connect() as connection:
            return frozenset(connection.scalars(sa.select(runs.c.id).where(runs.c.ended == 1)))

    def check(self) -> None:
        """Read every page of a SQLite file (about a second a GB). Raises DamagedStore where one is damaged."""
        if self._engine.dialect.name != "sqlite":
            return  # a server looks after its own pages
        with self._failures_named(), self._engine.connect() as connection:
            answer = connection.scalar(sa.text("PRAGMA quick_check(1)"))
        if answer != "ok":
            raise DamagedStore(f"database {self.shown}: {str(answer).splitlines()[0]}")

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
