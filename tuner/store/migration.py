"""How a database of schema 1 or 2 becomes one of schema 3. What stands here never changes: stored databases do not.

Schema 2 gave runs a table of their own and took the samples out of the JSON. Schema 3 adds environments, commits and
the names of the features.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import sqlalchemy as sa

FEATURES = 380
"""The length of the features whose meaning is `COLUMNS`."""

_PASSES = (
    "unroll", "vectorize", "vector_width", "llvm_opt", "storage_rewrite", "cse", "noalias", "fast_math", "async_copy",
    "merged_shared", "cuda_math", "ptxas_opt", "register_cap", "vector_math",
)  # fmt: skip
_ROOFLINE = (
    "seconds", "arithmetic", "shared_memory", "l2", "device_memory", "latency", "occupancy", "waves", "last_wave",
)  # fmt: skip

COLUMNS = (
    *(f"store.max.{n}" for n in range(164)),
    *(f"store.sum.{n}" for n in range(164)),
    *(f"encoding.{n}" for n in range(26)),
    *(f"pass.{name}" for name in _PASSES),
    "workload.flops", "workload.bytes", "workload.intensity",
    *(f"roofline.{name}" for name in _ROOFLINE),
)  # fmt: skip
"""The names of the features of FEATURES values that schemas 1 and 2 stored without names."""

COLUMNS_ID = "2622d22829c7b743"
"""What `rows.columns_id(COLUMNS)` is."""

_COPIED_AT_ONCE = 500

_schema_2 = sa.MetaData()
_KEY = sa.String(255)
_runs = sa.Table(
    "runs",
    _schema_2,
    sa.Column("id", _KEY, primary_key=True),
    sa.Column("begun_at", sa.Text, nullable=False),
    sa.Column("ended", sa.Integer, nullable=False),
)
_records = sa.Table(
    "records",
    _schema_2,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("run_id", _KEY, sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("task_key", _KEY, nullable=False),
    sa.Column("task_name", sa.Text, nullable=False),
    sa.Column("scope", _KEY, nullable=False),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("proposer", sa.Text, nullable=False),
    sa.Column("measurement", sa.Text, nullable=False),
    sa.Column("samples", sa.LargeBinary, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("features", sa.LargeBinary, nullable=False),
    sa.Index("records_by_scope_and_task", "scope", "task_key"),
    sa.Index("records_by_run", "run_id"),
)


def migrate(writer: sa.Engine) -> None:
    """Schema 1 or 2 becomes schema 3, in one transaction: a death in the middle leaves the schema as it was.

    Rows that cannot be understood stay as they are. Does nothing where another process has migrated already.
    """
    with writer.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("LOCK TABLE schema_version IN ACCESS EXCLUSIVE MODE"))
        stored = list(connection.scalars(sa.text("SELECT version FROM schema_version")))
        if stored == [1]:
            _from_1_to_2(connection)
        if stored in ([1], [2]):
            _from_2_to_3(connection)
            connection.execute(sa.text("UPDATE schema_version SET version = 3"))


def _from_1_to_2(connection: sa.Connection) -> None:
    """Runs get a table of their own, which records refer to; samples become binary. Every run counts as ended."""
    names = ", ".join(column.name for column in _records.columns)
    places = ", ".join(f":{column.name}" for column in _records.columns)
    copy = sa.text(f"INSERT INTO records ({names}) VALUES ({places})")  # noqa: S608 - names of our own columns
    for index in ("records_by_scope_and_task", "records_by_run"):
        connection.execute(sa.text(f"DROP INDEX {index}"))
    connection.execute(sa.text("ALTER TABLE records RENAME TO records_of_schema_1"))
    _runs.create(connection)
    _records.create(connection)
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


def _split(measurement: Any) -> dict[str, Any]:
    """The measurement of schema 1 as text and samples of schema 2; as it was where it cannot be understood."""
    try:
        data = json.loads(measurement)
        samples = data.pop("samples_s")
        return {"measurement": json.dumps(data), "samples": struct.pack(f"<{len(samples)}d", *samples)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, struct.error):
        return {"measurement": measurement, "samples": b""}


def _from_2_to_3(connection: sa.Connection) -> None:
    """Environments and names of features get tables. Features of FEATURES values get their names, others have none."""
    for statement in (
        "CREATE TABLE environments (id VARCHAR(255) NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (id))",
        "CREATE TABLE feature_columns (id VARCHAR(255) NOT NULL, names TEXT NOT NULL, PRIMARY KEY (id))",
        "ALTER TABLE records ADD COLUMN environment VARCHAR(255) DEFAULT '' NOT NULL",
        "ALTER TABLE records ADD COLUMN git_commit TEXT DEFAULT '' NOT NULL",
        "ALTER TABLE records ADD COLUMN columns_id VARCHAR(255) REFERENCES feature_columns (id)",
    ):
        connection.execute(sa.text(statement))
    named = {"id": COLUMNS_ID, "names": json.dumps(COLUMNS)}
    connection.execute(sa.text("INSERT INTO feature_columns (id, names) VALUES (:id, :names)"), named)
    connection.execute(
        sa.text("UPDATE records SET columns_id = :id WHERE length(features) = :bytes"),
        {"id": COLUMNS_ID, "bytes": 4 * FEATURES},
    )
