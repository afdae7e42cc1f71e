"""The tables of the record database, and how those of an earlier version become those of this one."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tuner.errors import StoreError

SCHEMA_VERSION = 2

_CREATE_ATTEMPTS = 5
_CREATE_PAUSE_S = 0.1
"""Two processes may make the same tables at the same moment; the second one fails once and then finds them."""

_COPIED_AT_ONCE = 500

_metadata = sa.MetaData()
_KEY = sa.String(255)  # indexed: some databases ask for a length, SQLite ignores it

version_table = sa.Table(
    "schema_version",
    _metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)
runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("id", _KEY, primary_key=True),
    sa.Column("begun_at", sa.Text, nullable=False),
    sa.Column("ended", sa.Integer, nullable=False),  # 1 once it has measured all that it is going to
)
records = sa.Table(
    "records",
    _metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("run_id", _KEY, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("task_key", _KEY, nullable=False),
    sa.Column("task_name", sa.Text, nullable=False),
    sa.Column("scope", _KEY, nullable=False),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("proposer", sa.Text, nullable=False),
    sa.Column("measurement", sa.Text, nullable=False),  # JSON, without the samples
    sa.Column("samples", sa.LargeBinary, nullable=False),  # seconds, little-endian float64
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("features", sa.LargeBinary, nullable=False),  # little-endian float32
    sa.Index("records_by_scope_and_task", "scope", "task_key"),
    sa.Index("records_by_run", "run_id"),
)
_TABLES = (version_table, runs, records)
"""In this order: where `records` stands, the others do too."""


def ensure(engine: sa.Engine, writer: sa.Engine, shown: str) -> None:
    """Make the tables where there are none, and migrate those of an earlier version. Raises StoreError.

    `writer` is the engine whose transactions may write from their first statement on.
    """
    with engine.connect() as connection:
        tables = sa.inspect(connection)
        ours = not tables.has_table(records.name) or tables.has_table(version_table.name)
    if not ours:
        raise StoreError(
            f"database {shown}: holds a table `records` that is not ours",
            "choose another database with measure.database",
        )
    found = versions(engine)
    if not found:
        _create(engine, writer)
        found = versions(engine)
    if found == [1]:
        _from_1_to_2(writer)
        found = versions(engine)
    if found != [SCHEMA_VERSION]:
        raise StoreError(
            f"database {shown}: written with schema {found}, this program knows schema {SCHEMA_VERSION}",
            "update this program, or choose another database with measure.database",
        )


def versions(engine: sa.Engine) -> list[Any]:
    """What `schema_version` holds, as the driver gives it; empty without such a table."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(version_table.name):
            return []
        return list(connection.scalars(sa.select(sa.type_coerce(version_table.c.version, sa.types.NullType()))))


def _create(engine: sa.Engine, writer: sa.Engine) -> None:
    for left in reversed(range(_CREATE_ATTEMPTS)):
        try:
            with writer.begin() as connection:
                for table in _TABLES:
                    table.create(connection, checkfirst=True)
                connection.execute(sa.insert(version_table), {"version": SCHEMA_VERSION})
            return
        except DBAPIError:
            if versions(engine):
                return
            if not left:
                raise
        time.sleep(_CREATE_PAUSE_S)


def _from_1_to_2(writer: sa.Engine) -> None:
    """Runs get a table of their own, which records refer to; samples leave the JSON and become binary.

    One transaction: a death in the middle leaves schema 1. Every run counts as ended. A row that cannot be understood
    is taken over as it is.
    """
    columns = [column.name for column in records.columns]
    names = ", ".join(columns)
    places = ", ".join(f":{name}" for name in columns)
    copy = sa.text(f"INSERT INTO records ({names}) VALUES ({places})")  # noqa: S608 - names of our own columns
    with writer.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE"))
        if list(connection.scalars(sa.select(version_table.c.version))) != [1]:
            return  # another process was quicker
        for index in ("records_by_scope_and_task", "records_by_run"):
            connection.execute(sa.text(f"DROP INDEX {index}"))
        connection.execute(sa.text("ALTER TABLE records RENAME TO records_of_schema_1"))
        runs.create(connection)
        records.create(connection)
        connection.execute(
            sa.text(
                "INSERT INTO runs (id, begun_at, ended) "
                "SELECT run_id, min(created_at), 1 FROM records_of_schema_1 GROUP BY run_id"
            )
        )
        last: Any = -1
        old = sa.text("SELECT * FROM records_of_schema_1 WHERE id > :last ORDER BY id LIMIT :many")
        while rows := connection.execute(old, {"last": last, "many": _COPIED_AT_ONCE}).mappings().all():
            connection.execute(copy, [dict(row) | _split(row["measurement"]) for row in rows])
            last = rows[-1]["id"]
        if connection.dialect.name == "postgresql":
            connection.execute(
                sa.text("SELECT setval(pg_get_serial_sequence('records', 'id'), (SELECT max(id) FROM records))")
            )
        connection.execute(sa.text("DROP TABLE records_of_schema_1"))
        connection.execute(sa.update(version_table).values(version=2))


def _split(measurement: Any) -> dict[str, Any]:
    """The measurement of schema 1 as text and samples of schema 2; as it was where it cannot be understood."""
    try:
        stated = json.loads(measurement)
        samples = stated.pop("samples_s")
        return {"measurement": json.dumps(stated), "samples": struct.pack(f"<{len(samples)}d", *samples)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, struct.error):
        return {"measurement": measurement, "samples": b""}
