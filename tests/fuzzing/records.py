"""The record database, as a file and row by row: whole samples, and how the program opens them."""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzzing.base import Files, Refused
from tests.fuzzing.run_folders import run_folder

_COLUMNS = (
    "measurement", "samples", "candidate", "features", "created_at", "task_name", "task_key", "proposer", "trial",
    "seed", "environment", "git_commit", "columns_id",
)  # fmt: skip
"""Of the table of records; `row_values` has a sample of each."""

_FEATURES = ("store.max.0", "pass.unroll", "workload.flops")
"""The columns that the sample's features are brought to."""


@functools.cache
def database() -> bytes:
    import tempfile

    from tests.contracts.record_store import make_record
    from tuner.store import SqlStore

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "records.db")
        with SqlStore(f"sqlite:///{path}") as store:
            store.append([make_record(trial=trial, candidate=_candidate().to_text()) for trial in range(12)])
        return path.read_bytes()


def _candidate() -> Any:
    return _space().from_indices(0, (1, 2, 0, *([0] * (len(_space().sizes(0)) - 3))))


@functools.cache
def _space() -> Any:
    from kernels.space import DesignSpace, Knob, Sketch

    knobs = (
        Knob("spatial", ((1, 1, 4, 16), (4, 1, 4, 4), (1, 4, 1, 16)), 0),
        Knob("reduce", ((8, 1), (4, 2), (2, 4)), 1),
        Knob("choice", (0, 1, 2), 2),
    )
    return DesignSpace("llvm", (Sketch(0, "", knobs),))


def _read_records(path: Path) -> None:
    """What a run, a report and `show --records` do with stored records."""
    from tuner.report import curves, tables
    from tuner.search.base import candidate_of
    from tuner.store import SqlStore
    from tuner.tuning.earlier import vector_of
    from tuner.tuning.ledger import cost_s

    with SqlStore(f"sqlite:///{path}") as store:
        records = store.read()
        skipped = store.quarantined
    for record in records:
        assert np.isfinite(cost_s(record.measurement) + record.measurement.run_s)
        vector = vector_of(record, _FEATURES)
        assert vector is None or vector.shape == (len(_FEATURES),)
        skipped += candidate_of(_space(), record.candidate) is None
    rows = tables.kernels(json.loads(run_folder()["summary.json"]))
    curves.search_curves(rows, records, "run-1")
    tables.proposer_table(rows, records)
    if skipped:
        raise Refused(f"{skipped} rows")


def open_database(folder: Path, name: str) -> None:
    _read_records(folder / name)


@functools.cache
def row_values() -> Files:
    with _connected(database()) as connection:
        values = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM records WHERE id = 5").fetchone()  # noqa: S608
    return {n: v if isinstance(v, bytes) else str(v).encode() for n, v in zip(_COLUMNS, values, strict=True)}


@contextlib.contextmanager
def _connected(content: bytes) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content.replace(b"format 3\0\x10\0\2\2", b"format 3\0\x10\0\1\1", 1))  # no WAL in memory
        yield connection


def open_row(folder: Path, name: str) -> None:
    value = (folder / name).read_bytes()
    path = folder / "records.db"
    path.write_bytes(database())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        kind = {"features": "BLOB", "samples": "BLOB", "trial": "NUMERIC", "seed": "NUMERIC"}.get(name, "TEXT")
        connection.execute(f"UPDATE records SET {name} = CAST(? AS {kind}) WHERE id = 5", (value,))  # noqa: S608
        connection.commit()
    _read_records(path)
