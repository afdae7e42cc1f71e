"""The record database: every trial, failures included, in any database that SQLAlchemy can reach.

Rows are only ever appended. A measurement is stored as JSON (not-a-number and infinity in the spelling of
Python's own json module), features as little-endian float32. A row that cannot be understood costs
that row, never the run.
"""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tuner.errors import StoreError
from tuner.records import Measurement, Record, Status, Tier

SCHEMA_VERSION = 1

_BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another process's transaction. An append takes milliseconds, only a stuck one is hit."""

_CREATE_ATTEMPTS = 5
_CREATE_PAUSE_S = 0.1
"""Two processes may make the same tables at the same moment; the second one fails once and then finds them."""

_metadata = sa.MetaData()
_KEY = sa.String(255)  # indexed: some databases ask for a length, SQLite ignores it

_schema_version = sa.Table(
    "schema_version",
    _metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)
_records = sa.Table(
    "records",
    _metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("run_id", _KEY, nullable=False),
    sa.Column("task_key", _KEY, nullable=False),
    sa.Column("task_name", sa.Text, nullable=False),
    sa.Column("scope", _KEY, nullable=False),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("proposer", sa.Text, nullable=False),
    sa.Column("measurement", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("features", sa.LargeBinary, nullable=False),
    sa.Index("records_by_scope_and_task", "scope", "task_key"),
    sa.Index("records_by_run", "run_id"),
)
# Values as the driver gives them: a converter that stumbles over one row would take the whole answer along.
_select_raw = sa.select(
    *(sa.type_coerce(column, sa.types.NullType()).label(column.name) for column in _records.columns)
)

_HINTS = {
    "SQLITE_NOTADB": "it is not a SQLite database; choose another file with measure.database",
    "SQLITE_CORRUPT": "it is damaged; move it away, with its -wal and -shm files, and a new one is started",
    "SQLITE_CANTOPEN": "check that it is a file, in a folder you may write to",
    "SQLITE_READONLY": "it is read-only here; make it writable or choose another one with measure.database",
    "SQLITE_FULL": "the disk is full; free some space and run again: what was recorded so far is kept",
    "SQLITE_IOERR": "the disk refused; check its space, its quota and its health: what was recorded so far is kept",
    "SQLITE_BUSY": "another process keeps it locked; wait for that process or end it",
}
_ELSEWHERE = "check that the database is up, that its driver is installed, and measure.database in the run file"


class SqlStore:
    """A RecordStore behind a SQLAlchemy URL, e.g. `sqlite:///results/records.db` or `sqlite://` (in memory).

    SQLite: missing folders are made; several processes may append at the same time. What was appended survives the
    death of this process; after a power cut the last appends may be gone, the database is still whole
    (write-ahead log, `synchronous = NORMAL`).

    `quarantined` counts the rows met so far that could not be understood; they are skipped.
    Every method raises StoreError, naming the URL without its password, when the database fails.
    """

    def __init__(self, url: str) -> None:
        """Open the database; where there is none, make one. Raises StoreError, also for a newer schema."""
        parsed, self._engine = _make_engine(url)
        self._shown = parsed.render_as_string(hide_password=True)
        self._bad_rows: set[object] = set()
        try:
            with self._failures_named():
                _make_folder(parsed)
                self._ensure_schema()
        except StoreError:
            self.close()
            raise

    @property
    def quarantined(self) -> int:
        return len(self._bad_rows)

    def append(self, records: Sequence[Record]) -> None:
        """Store all of `records` or, on StoreError, none. Integers are limited to 64 bits."""
        if not records:
            return
        with self._failures_named():
            rows = [_encode(record) for record in records]
            with self._engine.begin() as connection:
                connection.execute(sa.insert(_records), rows)

    def read(self, *, scope: str | None = None, task_key: str | None = None, run_id: str | None = None) -> list[Record]:
        """The records that match everything given, in the order in which they were appended.

        Features come back rounded to float32; everything else is equal to what was appended.
        """
        wanted = {"scope": scope, "task_key": task_key, "run_id": run_id}
        query = _select_raw.order_by(_records.c.id)
        for name, value in wanted.items():
            if value is not None:
                query = query.where(_records.c[name] == value)
        found: list[Record] = []
        with self._failures_named(), self._engine.connect() as connection:
            for row in connection.execute(query).mappings():
                try:
                    found.append(_decode(row))
                except _DAMAGE:
                    self._bad_rows.add(row["id"])
        return found

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _ensure_schema(self) -> None:
        with self._engine.connect() as connection:
            tables = sa.inspect(connection)
            ours = not tables.has_table(_records.name) or tables.has_table(_schema_version.name)
        if not ours:
            raise StoreError(
                f"database {self._shown}: holds a table `records` that is not ours",
                "choose another database with measure.database",
            )
        versions = self._versions()
        if not versions:
            self._create()
            versions = self._versions()
        if versions != [SCHEMA_VERSION]:
            raise StoreError(
                f"database {self._shown}: written with schema {versions}, this program knows schema {SCHEMA_VERSION}",
                "update this program, or choose another database with measure.database",
            )

    def _versions(self) -> list[Any]:
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(_schema_version.name):
                return []
            return list(connection.scalars(sa.select(sa.type_coerce(_schema_version.c.version, sa.types.NullType()))))

    def _create(self) -> None:
        for left in reversed(range(_CREATE_ATTEMPTS)):
            try:
                # In this order: where `records` stands, `schema_version` does too.
                for table in (_schema_version, _records):
                    table.create(self._engine, checkfirst=True)
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(_schema_version), {"version": SCHEMA_VERSION})
                return
            except DBAPIError:
                if self._versions():
                    return
                if not left:
                    raise
            time.sleep(_CREATE_PAUSE_S)

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise _store_error(self._shown, error) from error
        except (OSError, OverflowError, UnicodeError, struct.error) as error:
            raise StoreError(f"database {self._shown}: {error}", _ELSEWHERE) from error


def _make_engine(url: str) -> tuple[sa.URL, sa.Engine]:
    try:
        parsed = sa.make_url(url)
        engine = sa.create_engine(parsed)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        shown = re.sub(r"//.*@", "//***@", url)  # it may not parse, so its password is cut out by hand
        raise StoreError(
            f"database {shown}: not a URL that can be opened here ({type(error).__name__})",
            "write it like sqlite:///results/records.db; other databases need their driver installed",
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
    return parsed, engine


def _make_folder(url: sa.URL) -> None:
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def _set_up_sqlite(connection: Any, _pool_entry: object) -> None:
    # Bytes that are no UTF-8 must reach _decode, which refuses them row by row.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _store_error(shown: str, error: SQLAlchemyError) -> StoreError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    code = getattr(cause, "sqlite_errorname", "")
    hint = next((text for name, text in _HINTS.items() if code.startswith(name)), _ELSEWHERE)
    return StoreError(f"database {shown}: {cause}", hint)


def _encode(record: Record) -> dict[str, Any]:
    row = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    measurement = {f.name: getattr(record.measurement, f.name) for f in dataclasses.fields(Measurement)}
    measurement["conditions"] = dict(measurement["conditions"])
    row["measurement"] = json.dumps(measurement)
    row["features"] = struct.pack(f"<{len(record.features)}f", *record.features)
    return row


_DAMAGE = (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, struct.error)
"""What decoding raises on a row that is not one of ours."""


def _decode(row: Mapping[Any, Any]) -> Record:
    features = bytes(memoryview(row["features"]))
    return Record(
        run_id=_text(row["run_id"]),
        task_key=_text(row["task_key"]),
        task_name=_text(row["task_name"]),
        scope=_text(row["scope"]),
        trial=_whole(row["trial"]),
        candidate=_text(row["candidate"]),
        proposer=_text(row["proposer"]),
        measurement=_decode_measurement(json.loads(_text(row["measurement"]))),
        seed=_whole(row["seed"]),
        created_at=_text(row["created_at"]),
        features=struct.unpack(f"<{len(features) // 4}f", features),
    )


def _decode_measurement(stated: Mapping[str, Any]) -> Measurement:
    return Measurement(
        status=Status(stated["status"]),
        samples_s=tuple(_number(sample) for sample in stated["samples_s"]),
        tier=Tier(stated["tier"]),
        stopped_by=_text(stated["stopped_by"]),
        reason=_text(stated["reason"]),
        censored_at_s=_number_or_none(stated["censored_at_s"]),
        max_abs_error=_number_or_none(stated["max_abs_error"]),
        max_rel_error=_number_or_none(stated["max_rel_error"]),
        build_s=_number(stated["build_s"]),
        run_s=_number(stated["run_s"]),
        conditions=dict(stated["conditions"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {type(value).__name__}")
    value.encode()  # refuses the stand-ins for bytes that are no UTF-8
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a whole number expected, got {type(value).__name__}")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a number expected, got {type(value).__name__}")
    return float(value)


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)
