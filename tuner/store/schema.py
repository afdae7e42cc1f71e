"""The tables of the record database: made where there are none, migrated where they are of an earlier schema."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tuner.errors import StoreError
from tuner.store import migration

SCHEMA_VERSION = 3

_CREATE_ATTEMPTS = 5
_CREATE_PAUSE_S = 0.1
"""Two processes may make the same tables at the same moment: the second one fails once, and then finds them."""

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
    sa.Column("ended", sa.Integer, nullable=False),  # 1 when the run has measured everything it was going to
)
environments = sa.Table(
    "environments",
    _metadata,
    sa.Column("id", _KEY, primary_key=True),  # tuner.environment.environment_id
    sa.Column("facts", sa.Text, nullable=False),  # JSON
)
feature_columns = sa.Table(
    "feature_columns",
    _metadata,
    sa.Column("id", _KEY, primary_key=True),  # rows.columns_id
    sa.Column("names", sa.Text, nullable=False),  # JSON
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
    sa.Column("environment", _KEY, nullable=False, server_default=""),
    sa.Column("git_commit", sa.Text, nullable=False, server_default=""),
    sa.Column("columns_id", _KEY, sa.ForeignKey("feature_columns.id"), nullable=True),  # null: features without names
    sa.Index("records_by_scope_and_task", "scope", "task_key"),
    sa.Index("records_by_run", "run_id"),
)
_TABLES = (version_table, runs, environments, feature_columns, records)
"""In the order in which they are made: where there is a table `records`, there are the others."""


def ensure(engine: sa.Engine, writer: sa.Engine, shown: str) -> None:
    """Make the tables where there are none, and migrate those of an earlier schema. Raises StoreError.

    `writer` is the engine whose transactions may write from their first statement on.
    """
    with engine.connect() as connection:
        tables = sa.inspect(connection)
        foreign = tables.has_table(records.name) and not tables.has_table(version_table.name)
    if foreign:
        raise StoreError(
            f"database {shown}: holds a table `records` of another program",
            "choose another database (`measure.database`)",
        )
    stored = versions(engine)
    if not stored:
        _create(engine, writer)
    elif stored in ([1], [2]):
        migration.migrate(writer)
    stored = versions(engine)
    if stored != [SCHEMA_VERSION]:
        raise StoreError(
            f"database {shown}: written with schema {stored}, this program knows schema {SCHEMA_VERSION}",
            "update this program, or choose another database (`measure.database`)",
        )


def versions(engine: sa.Engine) -> list[Any]:
    """The values in `schema_version`, as the driver gives them; empty without such a table."""
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
